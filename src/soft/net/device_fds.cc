#include "soft/net/device_fds.h"

#include <fcntl.h>

namespace nd::soft {
namespace {

// Programs that use select(2) need the lower half of its 1,024 for themselves.
constexpr int kFirst = 512;
// Where so many are not allowed: not standard input, output and error.
constexpr int kFirstAfterStandard = 3;

}  // namespace

OwnFd::OwnFd(Fd fd) : fd_(std::move(fd)) {
  if (!fd_.valid()) return;
  Fd higher(fcntl(fd_.get(), F_DUPFD_CLOEXEC, kFirst));
  if (!higher.valid() && fd_.get() < kFirstAfterStandard) {
    higher = Fd(fcntl(fd_.get(), F_DUPFD_CLOEXEC, kFirstAfterStandard));
  }
  if (higher.valid()) fd_ = std::move(higher);
  DeviceFds::AddOwn(fd_.get());
}

}  // namespace nd::soft
