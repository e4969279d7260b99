// Waiting on file descriptors with a deadline, and giving a wait up from
// another thread.
#ifndef ND_BASE_WAIT_H_
#define ND_BASE_WAIT_H_

#include <atomic>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/fd.h"

namespace nd {

// Tells every wait that was handed it to end now. Thread-safe; Cancel() may
// also be called from a signal handler. Once cancelled it stays so.
class Cancellation {
 public:
  static absl::StatusOr<Cancellation> Create();
  Cancellation(Cancellation&& other) noexcept
      : fd_(std::move(other.fd_)), cancelled_(other.cancelled()) {}

  void Cancel() noexcept;
  bool cancelled() const noexcept {
    return cancelled_.load(std::memory_order_acquire);
  }

  // Readable once cancelled, for ever.
  int fd() const { return fd_.get(); }

 private:
  explicit Cancellation(Fd fd) : fd_(std::move(fd)) {}

  Fd fd_;
  std::atomic<bool> cancelled_{false};
};

// Waits until a read of `fd` would not block: there is something to read, the
// end of it, or an error that the read will report. DEADLINE_EXCEEDED and
// CANCELLED are returned with no message: the caller knows what it waited for
// and says so; a cancelled wait is cancelled even if `fd` is readable, and a
// readable `fd` is reported even if the deadline has passed. An `fd` that is
// not open is FAILED_PRECONDITION. `cancel` may be null. Sleeps in real time:
// the deadline has to be on the monotonic clock. Any thread.
absl::Status WaitReadable(int fd, const Deadline& deadline,
                          const Cancellation* cancel);

// The same for either of two descriptors.
absl::Status WaitEitherReadable(int first, int second, const Deadline& deadline,
                                const Cancellation* cancel);

// Makes reads of `fd` return EAGAIN instead of blocking.
absl::Status SetNonBlocking(int fd);

}  // namespace nd

#endif  // ND_BASE_WAIT_H_
