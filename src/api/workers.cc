#include "api/workers.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace nd::api {
namespace {

constexpr size_t kProcessThreads = 16;

}  // namespace

Workers& Workers::OfProcess() {
  // Never destroyed: sessions may end when statics do.
  static Workers& workers = *new Workers(kProcessThreads);
  return workers;
}

void Workers::Stop() {
  std::vector<std::thread> threads;
  std::multimap<Instant, Work> dropped;  // with what they hold, unlocked
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
    threads.swap(threads_);
    dropped.swap(work_);
    changed_.SignalAll();
  }
  for (std::thread& thread : threads) thread.join();
}

void Workers::RunAt(Instant when, Work work) {
  const absl::MutexLock lock(&mutex_);
  if (stopping_) return;
  work_.emplace(when, std::move(work));
  if (free_ < work_.size() && threads_.size() < max_threads_) {
    ++free_;
    threads_.emplace_back([this] { Serve(); });
  }
  changed_.Signal();
}

void Workers::Serve() {
  mutex_.Lock();
  for (;;) {
    while (!Due()) {
      if (work_.empty()) {
        changed_.Wait(&mutex_);
      } else {
        const Duration left = work_.begin()->first - Clock::Monotonic().Now();
        changed_.WaitWithTimeout(&mutex_,
                                 absl::FromChrono(std::max(left, Duration(1))));
      }
    }
    if (stopping_) break;
    Work work = std::move(work_.begin()->second);
    work_.erase(work_.begin());
    --free_;
    mutex_.Unlock();
    work();
    work = nullptr;
    mutex_.Lock();
    ++free_;
  }
  mutex_.Unlock();
}

}  // namespace nd::api
