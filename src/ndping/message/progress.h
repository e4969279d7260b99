// The reactor of one side of a test over a session: who runs it when, and how a
// phase waits for its news.
#ifndef ND_NDPING_MESSAGE_PROGRESS_H_
#define ND_NDPING_MESSAGE_PROGRESS_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/wait.h"
#include "nd/reactor.h"
#include "nd/v1/harness.pb.h"

namespace nd::ndping {

// A phase's data thread polls it, as it polls the queues of verbs; between
// phases, and while that thread waits for the peer's word, a thread of the
// reactor's own answers the peer. One thread at a time.
class Progress {
 public:
  static absl::StatusOr<std::unique_ptr<Progress>> Create(v1::CqMode mode);
  ~Progress();

  Reactor& reactor() { return *reactor_; }

  // To a thread of its own, and to the thread that calls.
  absl::Status Release();
  void Take();

  // Polls until something has come, but only a while, `at_most` or less, as
  // CqReader::Wait does; whether something came. CANCELLED when `cancel` says
  // so. By the thread that has it.
  absl::StatusOr<bool> Turn(Duration at_most, const Cancellation* cancel);

 private:
  Progress(bool busy, std::unique_ptr<Reactor> reactor)
      : busy_(busy), reactor_(std::move(reactor)) {}

  bool Poll();
  absl::StatusOr<bool> Spin(const Cancellation* cancel);

  const bool busy_;
  const std::unique_ptr<Reactor> reactor_;
  bool released_ = false;
  uint64_t fruitless_ = 0;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_MESSAGE_PROGRESS_H_
