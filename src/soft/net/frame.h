// A packet, or several that go as one (Packet::packets), as it goes from one
// process of a host to another: its path in front of its bytes, and no ICRC
// behind them. A frame that goes the way of the one before it on its link
// leaves out where that leads. Where the payload is lent, a Loan stands in its
// place, behind the pad.
#ifndef ND_SOFT_NET_FRAME_H_
#define ND_SOFT_NET_FRAME_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "soft/net/network.h"
#include "soft/net/peer_memory.h"
#include "soft/rc/outbox.h"
#include "soft/wire/packet.h"

namespace nd::soft {

// More than all headers and a pad.
inline constexpr size_t kMaxHeaderBytes = 64;
// With the largest path MTU.
inline constexpr size_t kMaxPacketBytes = 4096 + kMaxHeaderBytes;
// The most payload of packets that go as one.
inline constexpr size_t kMaxBurstBytes = size_t{16} << 10;
// The same where it is lent.
inline constexpr size_t kMaxLentBytes = size_t{512} << 10;
// Of so many packets that go as one, BTH to pad.
constexpr size_t MostBytesOf(uint8_t packets) {
  return packets == 1 ? kMaxPacketBytes : kMaxHeaderBytes + kMaxBurstBytes;
}

// The ends of the path of the last frame on a link.
struct LinkEnds {
  Gid source{};
  Gid destination{};
  bool known = false;

  bool AreOf(const Path& path) const {
    return known && SameGid(source, path.source) &&
           SameGid(destination, path.destination);
  }
};

struct FrameHeader {
  static constexpr size_t kShortSize = 8;  // without the path's ends
  static constexpr size_t kSize = kShortSize + 2 * sizeof(Gid);

  Path path;
  bool from_wire = false;  // handed on by who holds the UDP port
  bool lent = false;
  uint8_t packets = 1;  // 0 cannot be

  // Takes it from the front of `frame`. `ends`, where there are any, are those
  // of the link. Nothing: the frame is too short, or leaves out what was never
  // said.
  static std::optional<FrameHeader> Read(std::span<const std::byte>& frame,
                                         LinkEnds* ends);
  // `out` is of one of the two sizes.
  void Write(std::span<std::byte> out) const;
  bool operator==(const FrameHeader&) const = default;
};

inline constexpr size_t kMaxFrameBytes = FrameHeader::kSize + kMaxPacketBytes;
inline constexpr size_t kMaxBurstFrameBytes =
    FrameHeader::kSize + kMaxHeaderBytes + kMaxBurstBytes;

// What a ring of that many bytes is to have room for at a time.
constexpr size_t BurstBytesOf(size_t ring_bytes) {
  const size_t part = ring_bytes / 8;
  return part < 4096 ? 0 : std::min(part, kMaxBurstBytes);
}
constexpr size_t FrameBytesOf(size_t ring_bytes) {
  return std::max(kMaxFrameBytes, FrameHeader::kSize + kMaxHeaderBytes +
                                      BurstBytesOf(ring_bytes));
}

// The bytes of a packet, BTH to pad or Loan, that still have to be put
// together, or that are there. What it refers to must outlive it.
class PacketSource {
 public:
  explicit PacketSource(const Outgoing& outgoing);
  explicit PacketSource(std::span<const std::byte> bytes)
      : bytes_(bytes), size_(bytes.size()) {}

  size_t size() const { return size_; }
  // Of the packets that are put together here, lent or not.
  size_t payload_bytes() const {
    return outgoing_ != nullptr ? outgoing_->payload.length : 0;
  }
  // What still has to be put together; null: the bytes are there.
  const Outgoing* outgoing() const { return outgoing_; }
  // `out` has room for size().
  void CopyTo(std::span<std::byte> out) const;

 private:
  const Outgoing* outgoing_ = nullptr;
  std::span<const std::byte> bytes_;
  size_t size_;
};

// `out` has the size of the frame, with one or the other size of the header.
void WriteFrame(const FrameHeader& header, const PacketSource& packet,
                std::span<std::byte> out);

// Room for what Parse looks at, which the payload of a large packet is not.
using HeaderCopy = std::array<std::byte, 512>;

// Parse, of bytes that another process may change meanwhile: looks at them only
// once they are in `copy`. A payload that does not fit there stays where it is.
[[nodiscard]] PacketFault ParseShared(std::span<const std::byte> bytes,
                                      HeaderCopy& copy, Packet& packet);

// Takes the loan from the end of the bytes of a packet whose payload is lent.
// Nothing: there is none, or it is of no bytes or too many.
std::optional<Loan> TakeLoan(std::span<const std::byte>& bytes);

}  // namespace nd::soft

#endif  // ND_SOFT_NET_FRAME_H_
