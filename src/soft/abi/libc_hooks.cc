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
#include <cstdlib>

#include "soft/abi/cm_device.h"
#include "soft/abi/fd_hooks.h"
#include "soft/abi/fd_marks.h"
#include "soft/abi/hooks_off.h"
#include "soft/abi/next.h"

namespace nd::soft {
namespace {

constinit Next<int(int)> next_close("close");
constinit Next<ssize_t(int, const void*, size_t)> next_write("write");
constinit Next<int(int, struct stat*)> next_fstat("fstat");
constinit Next<int(int, int, struct stat*)> next_fxstat("__fxstat");
constinit Next<int(int)> next_dup("dup");
constinit Next<int(int, int)> next_dup2("dup2");
constinit Next<int(int, int, int)> next_dup3("dup3");
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
  next_closefrom.get();
  next_close_range.get();
}

// The descriptor is about to go.
void Forget(int fd) {
  if (IsOurFd(fd)) {
    const HooksOff off;
    CloseCmDevice(fd);
  }
  if (marks.Test(fd) && getpid() == owner.load()) marks.Clear(fd);
}

// `made` is `fd` once more.
int Marked(int fd, int made) {
  if (made >= 0 && IsOurFd(fd)) marks.Set(made);
  return made;
}

// dup2 and dup3 close the descriptor that they take.
void ForgetTaken(int fd, int taken) {
  if (fd != taken && marks.Test(taken) && fcntl(fd, F_GETFD) != -1) {
    Forget(taken);
  }
}

void ForgetRange(unsigned first, unsigned last) {
  marks.ForEach(first, last, Forget);
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
  if (marks.Test(fd)) Forget(fd);
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
  ForgetTaken(fd, to);
  return Marked(fd, next_dup2(fd, to));
}

int HookDup3(int fd, int to, int flags) ND_HOOK("dup3");
int HookDup3(int fd, int to, int flags) {
  ForgetTaken(fd, to);
  return Marked(fd, next_dup3(fd, to, flags));
}

void HookClosefrom(int first) ND_HOOK("closefrom");
void HookClosefrom(int first) {
  ForgetRange(first < 0 ? 0 : static_cast<unsigned>(first), UINT_MAX);
  next_closefrom(first);
}

int HookCloseRange(unsigned first, unsigned last, int flags)
    ND_HOOK("close_range");
int HookCloseRange(unsigned first, unsigned last, int flags) {
  if ((flags & CLOSE_RANGE_CLOEXEC) == 0) ForgetRange(first, last);
  return next_close_range(first, last, flags);
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
