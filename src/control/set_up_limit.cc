#include "control/set_up_limit.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status.h"

namespace nd::control {

SetUpLimit& SetUpLimit::OfProcess() {
  static SetUpLimit& limit = *new SetUpLimit(32);  // permits may outlive main
  return limit;
}

absl::StatusOr<SetUpLimit::Permit> SetUpLimit::Acquire(
    const Deadline& deadline, const Cancellation* cancel) {
  Waiter waiter;
  {
    MutexLock lock(&mutex_);
    if (free_ > 0) {
      --free_;
      return Permit(this);
    }
    waiter.served = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!waiter.served.valid()) return ErrnoStatus(errno, "eventfd");
    waiting_.push_back(&waiter);
  }
  const absl::Status waited =
      WaitReadable(waiter.served.get(), deadline, cancel);
  MutexLock lock(&mutex_);
  if (waiter.is_served) {
    if (waited.ok()) return Permit(this);
    PassOn();  // served and given up at once
  } else {
    waiting_.remove(&waiter);
  }
  if (!absl::IsDeadlineExceeded(waited)) return waited;
  return absl::ResourceExhaustedError(
      absl::StrCat(most_,
                   " sessions are being set up in this process, which "
                   "is its limit, and the deadline has passed"));
}

void SetUpLimit::PassOn() {
  if (waiting_.empty()) {
    ++free_;
    return;
  }
  Waiter& next = *waiting_.front();
  waiting_.pop_front();
  next.is_served = true;
  const uint64_t one = 1;
  // Cannot fail: the count of the descriptor is 0.
  [[maybe_unused]] const ssize_t written =
      write(next.served.get(), &one, sizeof(one));
}

void SetUpLimit::GiveBack() {
  MutexLock lock(&mutex_);
  PassOn();
}

size_t SetUpLimit::waiting() const {
  MutexLock lock(&mutex_);
  return waiting_.size();
}

}  // namespace nd::control
