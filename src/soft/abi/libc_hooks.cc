// libc's calls by descriptor. Those on others' descriptors cost a test of one
// bit; nothing here allocates or locks, but for the device itself.
//
// A child of fork has no device behind the descriptors it inherited: to it they
// are plain files, so that closing them harms nobody.
#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdlib>

#include "soft/abi/cm_device.h"
#include "soft/abi/fd_hooks.h"
#include "soft/abi/hooks_off.h"
#include "soft/abi/next.h"
#include "soft/net/device_fds.h"
#include "soft/net/fd_marks.h"

namespace nd::soft {
namespace {

constinit Next<int(int)> next_close("close");
constinit Next<ssize_t(int, const void*, size_t)> next_write("write");
constinit Next<int(int, struct stat*)> next_fstat("fstat");
constinit Next<int(int, int, struct stat*)> next_fxstat("__fxstat");
constinit Next<int(int)> next_dup("dup");
constinit Next<int(int, int)> next_dup2("dup2");
constinit Next<int(int, int, int)> next_dup3("dup3");
constinit Next<int(int, int, ...)> next_fcntl("fcntl");
constinit Next<void(int)> next_closefrom("closefrom");
constinit Next<int(unsigned, unsigned, int)> next_close_range("close_range");

constinit FdMarks marks;
// Whose the marks are. A child of vfork has our memory and is not us.
constinit std::atomic<pid_t> owner = 0;

// Calls that the child makes before its handler has run are told by `owner`.
void WatchForks() {
  static constinit std::atomic<bool> watching = false;
  if (!watching.exchange(true)) {
    pthread_atfork(nullptr, nullptr, [] {
      marks.ClearAll();
      owner.store(0);
    });
  }
}

// A child of a fork while another thread held the loader's lock could not look
// these up.
[[gnu::constructor]] void LookUpNow() {
  next_close.get();
  next_write.get();
  next_fstat.get();
  next_dup.get();
  next_dup2.get();
  next_dup3.get();
  next_fcntl.get();
  next_closefrom.get();
  next_close_range.get();
}

// The descriptor is about to go.
void Forget(int fd) {
  // Before it counts as gone: its events may go on at another descriptor.
  if (IsOurFd(fd)) {
    const HooksOff off;
    CloseCmDevice(fd);
  }
  DeviceFds::Forget(fd);
  if (marks.Test(fd) && getpid() == owner.load()) marks.Clear(fd);
}

// `made` is `fd` once more.
int Marked(int fd, int made) {
  if (made >= 0 && IsOurFd(fd)) {
    const HooksOff off;
    DuplicateCmDevice(fd, made);
    marks.Set(made);
  }
  return made;
}

// dup2 and dup3 close the descriptor that they take.
void ForgetTaken(int fd, int taken) {
  if (fd != taken && (marks.Test(taken) || DeviceFds::IsShown(taken)) &&
      fcntl(fd, F_GETFD) != -1) {
    Forget(taken);
  }
}

void ForgetRange(unsigned first, unsigned last) {
  marks.ForEach(first, last, Forget);
  DeviceFds::ForEachShown(first, last, Forget);
}

// A number that the program does not know to be in use, as in a race with
// open(2).
bool TakesOwn(int fd, int taken) {
  if (fd == taken || !DeviceFds::IsOwn(taken)) return false;
  errno = EBUSY;
  return true;
}

// Closes first..last but for what is the device's own.
int CloseOthers(unsigned first, unsigned last, int flags) {
  int result = 0;
  uint64_t from = first;
  const auto close_up_to = [&result, &from, flags](uint64_t end) {
    if (from >= end) return;
    const int closed = next_close_range(static_cast<unsigned>(from),
                                        static_cast<unsigned>(end - 1), flags);
    if (closed != 0) result = closed;
  };
  DeviceFds::ForEachOwn(first, last, [&close_up_to, &from](int fd) {
    close_up_to(static_cast<uint64_t>(fd));
    from = static_cast<uint64_t>(fd) + 1;
  });
  close_up_to(uint64_t{last} + 1);
  return result;
}

bool AnyOwn(unsigned first, unsigned last) {
  bool any = false;
  DeviceFds::ForEachOwn(first, last, [&any](int) { any = true; });
  return any;
}

int AsDevice(int fd, int result, struct stat* status) {
  if (result == 0 && IsOurFd(fd)) {
    status->st_mode = S_IFCHR | 0666;
    status->st_rdev = CmDeviceNumber();
  }
  return result;
}

}  // namespace

extern "C" {

int HookClose(int fd) ND_HOOK("close");
int HookClose(int fd) {
  if (DeviceFds::IsOwn(fd)) {
    errno = EBADF;
    return -1;
  }
  if (marks.Test(fd) || DeviceFds::IsShown(fd)) Forget(fd);
  return next_close(fd);
}

ssize_t HookWrite(int fd, const void* from, size_t bytes) ND_HOOK("write");
ssize_t HookWrite(int fd, const void* from, size_t bytes) {
  if (!IsOurFd(fd)) return next_write(fd, from, bytes);
  const HooksOff off;
  return WriteCmDevice(fd, from, bytes);
}
ND_HOOK_ALIAS("__write", "write");

int HookFstat(int fd, struct stat* status) ND_HOOK("fstat");
int HookFstat(int fd, struct stat* status) {
  return AsDevice(fd, next_fstat(fd, status), status);
}
ND_HOOK_ALIAS("fstat64", "fstat");

int HookFxstat(int version, int fd, struct stat* status) ND_HOOK("__fxstat");
int HookFxstat(int version, int fd, struct stat* status) {
  return AsDevice(fd, next_fxstat(version, fd, status), status);
}
ND_HOOK_ALIAS("__fxstat64", "__fxstat");

int HookDup(int fd) ND_HOOK("dup");
int HookDup(int fd) { return Marked(fd, next_dup(fd)); }

int HookDup2(int fd, int to) ND_HOOK("dup2");
int HookDup2(int fd, int to) {
  if (TakesOwn(fd, to)) return -1;
  ForgetTaken(fd, to);
  return Marked(fd, next_dup2(fd, to));
}

int HookDup3(int fd, int to, int flags) ND_HOOK("dup3");
int HookDup3(int fd, int to, int flags) {
  if (TakesOwn(fd, to)) return -1;
  ForgetTaken(fd, to);
  return Marked(fd, next_dup3(fd, to, flags));
}

// As open's mode: an argument that is not there is an unused register.
int HookFcntl(int fd, int command, void* argument) ND_HOOK("fcntl");
int HookFcntl(int fd, int command, void* argument) {
  const int result = next_fcntl(fd, command, argument);
  if (command != F_DUPFD && command != F_DUPFD_CLOEXEC) return result;
  return Marked(fd, result);
}
ND_HOOK_ALIAS("fcntl64", "fcntl");
ND_HOOK_ALIAS("__fcntl", "fcntl");

void HookClosefrom(int first) ND_HOOK("closefrom");
void HookClosefrom(int first) {
  const unsigned from = first < 0 ? 0 : static_cast<unsigned>(first);
  ForgetRange(from, UINT_MAX);
  if (!AnyOwn(from, UINT_MAX)) return next_closefrom(first);
  if (CloseOthers(from, UINT_MAX, 0) == 0) return;
  // A kernel older than close_range(2).
  for (int64_t fd = from; fd < sysconf(_SC_OPEN_MAX); ++fd) {
    if (!DeviceFds::IsOwn(static_cast<int>(fd))) {
      next_close(static_cast<int>(fd));
    }
  }
}

int HookCloseRange(unsigned first, unsigned last, int flags)
    ND_HOOK("close_range");
int HookCloseRange(unsigned first, unsigned last, int flags) {
  // The device's have CLOEXEC anyway.
  if ((flags & CLOSE_RANGE_CLOEXEC) != 0 || first > last) {
    return next_close_range(first, last, flags);
  }
  ForgetRange(first, last);
  if (!AnyOwn(first, last)) return next_close_range(first, last, flags);
  return CloseOthers(first, last, flags);
}

}  // extern "C"

bool IsOurFd(int fd) {
  if (!marks.Test(fd) || HooksOff::Active() || getpid() != owner.load()) {
    return false;
  }
  const HooksOff off;
  return IsCmDevice(fd);
}

int OpenMarkedCmDevice(int flags) {
  const pid_t self = getpid();
  const pid_t before = owner.exchange(self);
  if (before != 0 && before != self) marks.ClearAll();  // no handler has run
  WatchForks();
  const HooksOff off;
  const int fd = OpenCmDevice(flags);
  if (fd >= 0) marks.Set(fd);
  return fd;
}

dev_t CmDeviceNumber() {
  static constinit std::atomic<dev_t> number = 0;
  if (number.load() == 0) {
    const int saved = errno;
    const HooksOff off;
    dev_t found = makedev(10, 255);  // misc, and none of those assigned
    const int fd = open("/sys/class/misc/rdma_cm/dev", O_RDONLY | O_CLOEXEC);
    char text[32] = {};
    if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0) {
      char* colon = nullptr;
      const auto major = strtoul(text, &colon, 10);
      if (*colon == ':')
        found = makedev(major, strtoul(colon + 1, nullptr, 10));
    }
    if (fd >= 0) next_close(fd);
    number.store(found);
    errno = saved;
  }
  return number.load();
}

}  // namespace nd::soft
