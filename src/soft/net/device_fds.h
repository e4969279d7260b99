// Descriptors of this process that are the device's, and its program's calls
// that would close them.
#ifndef ND_SOFT_NET_DEVICE_FDS_H_
#define ND_SOFT_NET_DEVICE_FDS_H_

#include <unistd.h>

#include <atomic>
#include <utility>

#include "base/fd.h"
#include "soft/net/fd_marks.h"

namespace nd::soft {

// The process's. A program that closes all descriptors that it does not know of
// would take the device's away and get files of its own under their numbers, so
// the hooks of libc keep it from those that it never saw; those that it was
// shown it may close, and then the device does not touch the number any more.
//
// Any thread, and signal handlers. A child of fork has its own. To one of
// vfork, which has our memory and is not us, they are like any other
// descriptor.
class DeviceFds {
 public:
  static bool IsOwn(int fd) {
    return fd < FdMarks::kCapacity && own_.Test(fd) && Ours();
  }
  // Calls `f` for each of first..last that IsOwn, in order.
  template <typename F>
  static void ForEachOwn(unsigned first, unsigned last, F f) {
    if (Ours()) own_.ForEach(first, last, f);
  }
  static void AddOwn(int fd) { Add(own_, fd); }
  static void RemoveOwn(int fd) { own_.Clear(fd); }

  // One that was shown, and is open still.
  static bool IsShown(int fd) { return shown_.Test(fd); }
  static void AddShown(int fd) { Add(shown_, fd); }
  // It is about to be closed.
  static void Forget(int fd) {
    if (shown_.Test(fd) && Ours()) shown_.Clear(fd);
  }
  template <typename F>
  static void ForEachShown(unsigned first, unsigned last, F f) {
    shown_.ForEach(first, last, f);
  }

  // In a child of fork: what it inherited is its program's alone.
  static void LeaveInChild() {
    own_.ClearAll();
    owner_.store(getpid());
  }

 private:
  static bool Ours() {
    return owner_.load(std::memory_order_relaxed) == getpid();
  }
  static void Add(FdMarks& marks, int fd) {
    const pid_t self = getpid();
    if (const pid_t before = owner_.exchange(self);
        before != self && before != 0) {
      own_.ClearAll();  // of a parent, and no handler of fork has run
      shown_.ClearAll();
    }
    if (fd < FdMarks::kCapacity) marks.Set(fd);
  }

  static inline constinit FdMarks own_;
  static inline constinit FdMarks shown_;
  static inline constinit std::atomic<pid_t> owner_ = 0;
};

// A descriptor that the program never sees: out of the way of the numbers that
// programs expect and choose, and safe from them.
class OwnFd {
 public:
  OwnFd() = default;
  explicit OwnFd(Fd fd);
  OwnFd(OwnFd&&) = default;
  OwnFd& operator=(OwnFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~OwnFd() {
    if (valid()) DeviceFds::RemoveOwn(get());
  }

  int get() const { return fd_.get(); }
  bool valid() const { return fd_.valid(); }

 private:
  Fd fd_;
};

// One that the program knows, and may close: then it is not this one's any
// more.
class ShownFd {
 public:
  ShownFd() = default;
  explicit ShownFd(Fd fd) : fd_(std::move(fd)) {
    if (fd_.valid()) DeviceFds::AddShown(get());
  }
  ShownFd(ShownFd&&) = default;
  ShownFd& operator=(ShownFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~ShownFd() {
    if (open()) {
      DeviceFds::Forget(get());
    } else {
      Release();
    }
  }

  int get() const { return fd_.get(); }
  // What has the number is ours still.
  bool open() const { return DeviceFds::IsShown(get()); }
  // Somebody else closes it.
  void Release() { (void)fd_.Release(); }

 private:
  Fd fd_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_DEVICE_FDS_H_
