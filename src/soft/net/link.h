// A ring between two processes, and the socket pair that goes with it: a byte
// on it wakes the other end, and it hangs up when the other process is gone.
#ifndef ND_SOFT_NET_LINK_H_
#define ND_SOFT_NET_LINK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "soft/net/device_fds.h"
#include "soft/net/ring.h"
#include "soft/net/shared_memory.h"

namespace nd::soft {

// The largest ring that is taken from a peer.
inline constexpr size_t kMaxRingBytes = size_t{64} << 20;

// One's end of the socket pair.
class Bell {
 public:
  Bell() = default;
  explicit Bell(Fd fd) : fd_(std::move(fd)) {}

  // Wakes the other end. It does not matter if bytes pile up.
  void Ring() const;
  // Takes what the other end rang. False: it is gone.
  [[nodiscard]] bool Silence() const;

  int fd() const { return fd_.get(); }

 private:
  OwnFd fd_;
};

// The sender's end. It makes the ring.
class OutboundLink {
 public:
  // A ring for that many bytes, a power of two.
  static absl::StatusOr<OutboundLink> Create(size_t ring_bytes);

  // What the peer has to be given.
  std::array<int, 2> offer() const { return {memory_.fd(), far_end_.get()}; }
  // It was given.
  void CloseOffer();

  RingProducer& ring() { return ring_; }
  const Bell& bell() const { return bell_; }

 private:
  OutboundLink(SharedMemory memory, Fd near_end, Fd far_end);

  SharedMemory memory_;
  RingProducer ring_;
  Bell bell_;
  Fd far_end_;
};

// The receiver's end.
class InboundLink {
 public:
  // Of what a peer gave, which may be anything.
  static absl::StatusOr<InboundLink> Adopt(std::array<Fd, 2> offer);

  RingConsumer& ring() { return ring_; }
  const RingConsumer& ring() const { return ring_; }
  const Bell& bell() const { return bell_; }

 private:
  InboundLink(SharedMemory memory, Fd socket);

  SharedMemory memory_;
  RingConsumer ring_;
  Bell bell_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_LINK_H_
