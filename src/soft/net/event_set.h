// What can wake the process: an epoll set.
#ifndef ND_SOFT_NET_EVENT_SET_H_
#define ND_SOFT_NET_EVENT_SET_H_

#include <sys/epoll.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "soft/net/device_fds.h"

namespace nd::soft {

// Whose descriptor it is.
struct EventToken {
  enum class Kind : uint8_t {
    kSlot,      // the socket under our slot's name
    kService,   // number: of the claim
    kOutbound,  // number: slot
    kInbound,   // number: of the link
    kWirePort,  // number: index
    kUdpSender,
  };

  Kind kind{};
  uint32_t number = 0;
};

struct Event {
  EventToken token;
  bool readable = false;
  bool writable = false;
  bool hung_up = false;  // the other end is gone; there may be more to read
};

// One thread at a time. A descriptor must be removed before it is closed: a
// forked child may still have it, and then it would go on to report.
class EventSet {
 public:
  static constexpr size_t kMaxEvents = 32;

  static absl::StatusOr<EventSet> Create();

  // Of an open descriptor, not in the set.
  absl::Status Add(int fd, EventToken token);
  void Remove(int fd);
  // Whether it shall also tell when `fd`, which is in the set, can be written.
  void WatchWritable(int fd, EventToken token, bool watch);

  // What there is now; does not wait.
  std::span<const Event> Poll(std::span<Event, kMaxEvents> events) const;

  int fd() const { return fd_.get(); }

 private:
  explicit EventSet(Fd fd) : fd_(std::move(fd)) {}

  OwnFd fd_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_EVENT_SET_H_
