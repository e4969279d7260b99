// Packets from a process to itself, which wait until it receives.
#ifndef ND_SOFT_NET_LOOPBACK_QUEUE_H_
#define ND_SOFT_NET_LOOPBACK_QUEUE_H_

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "base/cache_line.h"
#include "soft/net/frame.h"
#include "soft/net/inbound_links.h"
#include "soft/net/ring.h"

namespace nd::soft {

// A ring in the process's own memory. One thread at a time.
class LoopbackQueue {
 public:
  // A power of two.
  explicit LoopbackQueue(size_t bytes);

  size_t Room() { return producer_.HasRoom(kMaxBurstFrameBytes) ? 1 : 0; }
  size_t burst_bytes() const { return kMaxBurstBytes; }
  // False: no room.
  bool Send(const FrameHeader& header, const PacketSource& packet);

  // Hands out up to `budget` frames, of which some may have been sent by
  // `sink`; returns how many.
  size_t Receive(size_t budget, PeerFrameSink sink);
  bool empty() const { return count_ == 0; }
  // As in Network.
  void Mark() { consumer_.Mark(); }
  bool PassedMark() const { return consumer_.PassedMark(); }

 private:
  struct alignas(kCacheLineBytes) Line {
    std::array<std::byte, kCacheLineBytes> bytes{};
  };

  std::vector<Line> memory_;
  RingProducer producer_;
  RingConsumer consumer_;
  size_t count_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_LOOPBACK_QUEUE_H_
