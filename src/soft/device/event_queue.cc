#include "soft/device/event_queue.h"

#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/status.h"

namespace nd::soft {

absl::StatusOr<EventFd> EventFd::Create() {
  Fd fd(eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE));
  if (!fd.valid()) return ErrnoStatus(errno, "eventfd");
  return EventFd(std::move(fd));
}

void EventFd::Add(size_t count) {
  // Not write(2), which the hooks have. Fails only where the count would pass
  // 2^64.
  if (fd_.open()) eventfd_write(fd_.get(), count);
}

bool EventFd::Take() {
  if (!fd_.open()) {
    errno = EBADF;
    return false;
  }
  uint64_t value = 0;
  return ::read(fd_.get(), &value, sizeof(value)) == sizeof(value);
}

// Where another thread has taken the count already, it finds no event and
// waits on.
void EventFd::TakeBack() {
  if (!fd_.open()) return;
  uint64_t value = 0;
  const iovec iov{.iov_base = &value, .iov_len = sizeof(value)};
  (void)!preadv2(fd_.get(), &iov, 1, -1, RWF_NOWAIT);
}

}  // namespace nd::soft
