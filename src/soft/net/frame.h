// A packet as it goes from one process of a host to another: its path in front
// of its bytes, and no ICRC behind them.
#ifndef ND_SOFT_NET_FRAME_H_
#define ND_SOFT_NET_FRAME_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "soft/net/network.h"
#include "soft/rc/outbox.h"
#include "soft/wire/packet.h"

namespace nd::soft {

// The largest path MTU, and more than all headers and a pad.
inline constexpr size_t kMaxPacketBytes = 4096 + 64;

struct FrameHeader {
  static constexpr size_t kSize = 48;

  Path path;
  bool from_wire = false;  // handed on by who holds the UDP port

  static FrameHeader Read(std::span<const std::byte, kSize> bytes);
  void Write(std::span<std::byte, kSize> out) const;
  bool operator==(const FrameHeader&) const = default;
};

inline constexpr size_t kMaxFrameBytes = FrameHeader::kSize + kMaxPacketBytes;

// The bytes of a packet, BTH to pad, that still have to be put together, or
// that are there. What it refers to must outlive it.
class PacketSource {
 public:
  explicit PacketSource(const Outgoing& outgoing);
  explicit PacketSource(std::span<const std::byte> bytes)
      : bytes_(bytes), size_(bytes.size()) {}

  size_t size() const { return size_; }
  // `out` has room for size().
  void CopyTo(std::span<std::byte> out) const;

 private:
  const Outgoing* outgoing_ = nullptr;
  std::span<const std::byte> bytes_;
  size_t size_;
};

// `out` has the size of the frame.
void WriteFrame(const FrameHeader& header, const PacketSource& packet,
                std::span<std::byte> out);

// Room for what Parse looks at, which the payload of a large packet is not.
using HeaderCopy = std::array<std::byte, 512>;

// Parse, of bytes that another process may change meanwhile: looks at them only
// once they are in `copy`. A payload that does not fit there stays where it is.
[[nodiscard]] PacketFault ParseShared(std::span<const std::byte> bytes,
                                      HeaderCopy& copy, Packet& packet);

}  // namespace nd::soft

#endif  // ND_SOFT_NET_FRAME_H_
