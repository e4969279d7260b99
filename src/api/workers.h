// Threads for what must not hold a reactor up: setting connections up.
#ifndef ND_API_WORKERS_H_
#define ND_API_WORKERS_H_

#include <cstddef>
#include <functional>
#include <map>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"

namespace nd::api {

// Thread-safe.
class Workers {
 public:
  using Work = std::function<void()>;

  explicit Workers(size_t max_threads) : max_threads_(max_threads) {}
  ~Workers() { Stop(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // The one that all clients of a process share.
  static Workers& OfProcess();

  void Run(Work work) { RunAt(Instant::min(), std::move(work)); }
  // Not before `when`.
  void RunAt(Instant when, Work work);

  // What has not begun is dropped, what runs is waited for, and no more is
  // taken. Not from what runs.
  void Stop();

 private:
  void Serve();
  bool Due() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ ||
           (!work_.empty() && work_.begin()->first <= Clock::Monotonic().Now());
  }

  const size_t max_threads_;
  absl::Mutex mutex_;
  absl::CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  size_t free_ ABSL_GUARDED_BY(mutex_) = 0;
  std::multimap<Instant, Work> work_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace nd::api

#endif  // ND_API_WORKERS_H_
