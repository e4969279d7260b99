// Packets: frames back to back, as one SEND carries them.
#ifndef ND_TRANSPORT_FRAME_PACKET_H_
#define ND_TRANSPORT_FRAME_PACKET_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "transport/frame/frame.h"

namespace nd::transport {

// CRC32C (RFC 3720, appendix B.4) of `bytes`, going on from `before`.
uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t before = 0);

// Why a packet is refused.
enum class PacketFault {
  kNone,
  kEmpty,
  kTruncated,  // a header or payload that the packet does not hold
  kVersion,
  kType,
  kFlags,
  kClass,
  kReserved,  // bytes that must be zero
  kLength,    // that the type does not allow
  kDigest,    // wrong
  kDigestMissing,
};
std::string_view ToString(PacketFault fault);  // in words

// A frame in place.
struct FrameView {
  FrameHeader header;
  std::span<const std::byte> payload;
};

// Takes a packet apart, frame by frame. Every check of docs/wire.md that needs
// no state is made here, those of payloads' contents by their Parse.
class PacketReader {
 public:
  // `digest`: every frame must have one.
  PacketReader(std::span<const std::byte> packet, bool digest)
      : rest_(packet), digest_(digest) {}

  // The next frame; false at the end of the packet, or where it is faulty.
  bool Next(FrameView& frame);
  PacketFault fault() const { return fault_; }

 private:
  bool Fail(PacketFault fault);

  std::span<const std::byte> rest_;
  const bool digest_;
  bool first_ = true;
  PacketFault fault_ = PacketFault::kNone;
};

// Puts frames into a packet.
class PacketWriter {
 public:
  PacketWriter(std::span<std::byte> room, bool digest)
      : out_(room), digest_(digest) {}

  // Whether a frame with so much payload fits.
  bool Fits(size_t payload_bytes) const;

  // Appends a frame; `header.length` is set from the payload. False, and
  // nothing written, where it does not fit.
  bool Append(FrameHeader header, std::span<const std::byte> payload);

  // Appends a frame whose payload follows the packet from where it lies (a
  // second scatter/gather element). No frame can come behind it, and no padding
  // is needed. `payload` does not count towards the room.
  bool AppendHeader(FrameHeader header, std::span<const std::byte> payload);

  bool empty() const { return out_.written().empty(); }
  std::span<std::byte> written() const { return out_.written(); }

 private:
  bool Begin(size_t bytes);
  void WriteHeader(const FrameHeader& header,
                   std::span<const std::byte> payload);

  ByteWriter out_;
  const bool digest_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_FRAME_PACKET_H_
