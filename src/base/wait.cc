#include "base/wait.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/status.h"

namespace nd {

absl::StatusOr<Cancellation> Cancellation::Create() {
  Fd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, "eventfd");
  return Cancellation(std::move(fd));
}

void Cancellation::Cancel() noexcept {
  cancelled_.store(true, std::memory_order_release);
  const int saved_errno = errno;
  const uint64_t one = 1;
  // Only a counter near 2^64 could make this fail, and then it is readable.
  [[maybe_unused]] const ssize_t written = write(fd_.get(), &one, sizeof(one));
  errno = saved_errno;
}

namespace {

pollfd Reading(int fd) { return {.fd = fd, .events = POLLIN, .revents = 0}; }

// `second` may be -1 for none; who sleeps once a message pays for each
// descriptor that poll(2) gets.
absl::Status Wait(int first, int second, const Deadline& deadline,
                  const Cancellation* cancel) {
  pollfd fds[3] = {Reading(first),
                   Reading(cancel != nullptr ? cancel->fd() : -1),
                   Reading(second)};
  const nfds_t count = second < 0 ? 2 : 3;
  for (;;) {
    if (cancel != nullptr && cancel->cancelled()) return absl::CancelledError();
    const int ready = poll(fds, count, deadline.RemainingMillis());
    if (ready < 0 && errno != EINTR) return ErrnoStatus(errno, "poll");
    const int seen = ready > 0 ? fds[0].revents | fds[2].revents : 0;
    if ((seen & POLLNVAL) != 0) return ErrnoStatus(EBADF, "poll");
    if (seen != 0) return absl::OkStatus();
    if (ready <= 0 && deadline.Passed()) return absl::DeadlineExceededError("");
  }
}

}  // namespace

// poll(2) would take a negative descriptor for "none" and sleep.
absl::Status WaitReadable(int fd, const Deadline& deadline,
                          const Cancellation* cancel) {
  if (fd < 0) return ErrnoStatus(EBADF, "poll");
  return Wait(fd, -1, deadline, cancel);
}

absl::Status WaitEitherReadable(int first, int second, const Deadline& deadline,
                                const Cancellation* cancel) {
  if (first < 0 || second < 0) return ErrnoStatus(EBADF, "poll");
  return Wait(first, second, deadline, cancel);
}

absl::Status SetNonBlocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
    return ErrnoStatus(errno, "fcntl O_NONBLOCK");
  }
  return absl::OkStatus();
}

}  // namespace nd
