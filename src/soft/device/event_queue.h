// Events that an application waits for on a file descriptor.
#ifndef ND_SOFT_DEVICE_EVENT_QUEUE_H_
#define ND_SOFT_DEVICE_EVENT_QUEUE_H_

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "base/lock.h"
#include "soft/net/device_fds.h"

namespace nd::soft {

// A descriptor that holds a count, each read of 8 bytes takes one from it; it
// is readable while there is any. Blocking or not is the application's choice
// (O_NONBLOCK), and a read is a cancellation point. The application may close
// it: then nothing is taken (EBADF), and nothing happens to what has its number
// by then. Any thread.
class EventFd {
 public:
  static absl::StatusOr<EventFd> Create();

  int get() const { return fd_.get(); }
  void Add(size_t count);
  // Takes one as the descriptor's flags say: false and errno.
  [[nodiscard]] bool Take();
  // Takes one if there is one, without waiting.
  void TakeBack();
  // Somebody else closes the descriptor.
  void Abandon() { fd_.Release(); }
  // So too, and `other` is it once more.
  void GoOnAt(int other) {
    Abandon();
    fd_ = ShownFd(Fd(other));
  }

 private:
  explicit EventFd(Fd fd) : fd_(std::move(fd)) {}

  ShownFd fd_;
};

// One event for each count of the descriptor. Any thread.
template <typename T>
class EventQueue {
 public:
  explicit EventQueue(EventFd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }

  void Push(T event) {
    Holding lock(mutex_);
    events_.push_back(std::move(event));
    fd_.Add(1);
  }

  // The oldest; waits for one as the descriptor's flags say. None: errno says
  // why. Holds no lock while it waits. `taken` is told of it before anyone can
  // miss it.
  template <typename Taken>
  std::optional<T> Take(Taken taken) {
    for (;;) {
      if (!fd_.Take()) return std::nullopt;
      Holding lock(mutex_);
      // Else it was withdrawn between the two.
      if (events_.empty()) continue;
      T event = std::move(events_.front());
      events_.pop_front();
      taken(event);
      return event;
    }
  }

  // Takes out what nobody has seen; returns how many.
  template <typename Predicate>
  size_t Withdraw(Predicate predicate) {
    Holding lock(mutex_);
    const size_t count = std::erase_if(events_, predicate);
    for (size_t i = 0; i < count; ++i) fd_.TakeBack();
    return count;
  }

 private:
  EventFd fd_;
  Lock mutex_;
  std::deque<T> events_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_EVENT_QUEUE_H_
