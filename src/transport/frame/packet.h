// Packets: frames back to back, as one SEND carries them.
#ifndef ND_TRANSPORT_FRAME_PACKET_H_
#define ND_TRANSPORT_FRAME_PACKET_H_

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "base/byte_order.h"
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
  kStream,    // none where the type needs one, or one where it has none
  kReserved,  // bytes that must be zero
  kLength,    // that the type or the layout does not allow
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
// no state is made here, those of payloads' contents by their Parse. Refers to
// the packet, does not own it. One thread at a time.
class PacketReader {
 public:
  // `digest`: every frame must have one. `eager_limit`: of a message's bytes.
  PacketReader(std::span<const std::byte> packet, bool digest,
               uint32_t eager_limit = std::numeric_limits<uint32_t>::max())
      : rest_(packet), eager_limit_(eager_limit), digest_(digest) {}

  // The next frame; false at the end of the packet, or where it is faulty, with
  // `frame` undefined.
  bool Next(FrameView& frame);
  PacketFault fault() const { return fault_; }

 private:
  using Header = std::span<const std::byte, FrameHeader::kSize>;

  bool Fail(PacketFault fault);
  bool SkipPadding();
  PacketFault ReadHeader(Header bytes, FrameHeader& header) const;

  std::span<const std::byte> rest_;
  const uint32_t eager_limit_;
  const bool digest_;
  bool first_ = true;
  uint8_t padding_ =
      0;  // that ends the frame before, where another one follows
  PacketFault fault_ = PacketFault::kNone;
};

// Puts frames into a packet. That header and payload are what the type allows
// is the caller's to see to. Refers to the room, does not own it. One thread at
// a time.
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
  // second scatter/gather element). No frame fits behind it. `payload` does not
  // count towards the room.
  bool AppendHeader(FrameHeader header, std::span<const std::byte> payload);

  bool empty() const { return out_.written().empty(); }
  std::span<std::byte> written() const { return out_.written(); }

 private:
  size_t Padding() const { return -out_.written().size() % kFrameAlignment; }
  bool Begin(size_t bytes);
  void WriteHeader(const FrameHeader& header,
                   std::span<const std::byte> payload);

  ByteWriter out_;
  const bool digest_;
  bool closed_ = false;  // by AppendHeader
};

// A message passes through what follows on its way.
namespace frame_internal {

inline constexpr uint8_t kDigestFlag = 1;
inline constexpr size_t kDigestOffset = 24;

// Of a frame. The field in `header` counts as 0, whatever it is.
uint32_t Digest(std::span<const std::byte, FrameHeader::kSize> header,
                std::span<const std::byte> payload);

template <size_t kOffset, size_t kBytes>
uint32_t Load(std::span<const std::byte, FrameHeader::kSize> header) {
  return static_cast<uint32_t>(LoadUint<std::endian::little>(
      header.template subspan<kOffset, kBytes>()));
}

template <size_t kOffset, size_t kBytes>
void Store(std::span<std::byte, FrameHeader::kSize> header, uint32_t value) {
  StoreUint<std::endian::little>(header.template subspan<kOffset, kBytes>(),
                                 value);
}

}  // namespace frame_internal

inline bool PacketReader::Next(FrameView& frame) {
  if (rest_.empty()) return first_ && Fail(PacketFault::kEmpty);
  first_ = false;
  if (padding_ != 0 && !SkipPadding()) return false;
  if (rest_.size() < FrameHeader::kSize) return Fail(PacketFault::kTruncated);
  const Header bytes = rest_.first<FrameHeader::kSize>();
  if (const PacketFault fault = ReadHeader(bytes, frame.header);
      fault != PacketFault::kNone) [[unlikely]] {
    return Fail(fault);
  }
  rest_ = rest_.subspan(FrameHeader::kSize);
  const size_t length = frame.header.length;
  if (length > rest_.size()) return Fail(PacketFault::kTruncated);
  frame.payload = rest_.first(length);
  if (frame_internal::Load<2, 1>(bytes) != 0 &&
      frame_internal::Load<frame_internal::kDigestOffset, 4>(bytes) !=
          frame_internal::Digest(bytes, frame.payload)) {
    return Fail(PacketFault::kDigest);
  }
  rest_ = rest_.subspan(length);
  padding_ = static_cast<uint8_t>(-length % kFrameAlignment);
  return true;
}

// In the order of the header's fields.
inline PacketFault PacketReader::ReadHeader(Header bytes,
                                            FrameHeader& header) const {
  using frame_internal::Load;
  if (Load<0, 1>(bytes) != kFrameVersion) return PacketFault::kVersion;
  header.type = static_cast<FrameType>(Load<1, 1>(bytes));
  const FrameFacts& facts = FactsOf(header.type);
  if (!facts.known()) return PacketFault::kType;
  const uint32_t flags = Load<2, 1>(bytes);
  if ((flags & ~uint32_t{frame_internal::kDigestFlag}) != 0) {
    return PacketFault::kFlags;
  }
  if (digest_ && flags == 0) return PacketFault::kDigestMissing;
  const uint32_t message_class = Load<3, 1>(bytes);
  if (message_class >= kMessageClasses) return PacketFault::kClass;
  header.message_class = static_cast<MessageClass>(message_class);
  header.stream = Load<4, 4>(bytes);
  if ((header.stream != 0) != facts.of_stream) return PacketFault::kStream;
  header.sequence = Load<8, 4>(bytes);
  header.length = Load<12, 4>(bytes);
  header.credits = Load<16, 4>(bytes);
  header.window = Load<20, 4>(bytes);
  if (!HasOnlyItsFields(header) ||
      (flags == 0 && Load<frame_internal::kDigestOffset, 4>(bytes) != 0) ||
      Load<28, 4>(bytes) != 0) {
    return PacketFault::kReserved;
  }
  if (header.length < facts.min_length || header.length > facts.max_length ||
      (header.type == FrameType::kMessage && header.length > eager_limit_)) {
    return PacketFault::kLength;
  }
  return PacketFault::kNone;
}

inline bool PacketWriter::Fits(size_t payload_bytes) const {
  const size_t header = Padding() + FrameHeader::kSize;
  return !closed_ && out_.remaining() >= header &&
         out_.remaining() - header >= payload_bytes &&
         payload_bytes <= std::numeric_limits<uint32_t>::max();
}

inline bool PacketWriter::Begin(size_t bytes) {
  if (!Fits(bytes)) return false;
  out_.WriteZeros(Padding());
  return true;
}

inline void PacketWriter::WriteHeader(const FrameHeader& header,
                                      std::span<const std::byte> payload) {
  using frame_internal::Store;
  assert(HasOnlyItsFields(header));
  const auto bytes =
      out_.Reserve(FrameHeader::kSize).first<FrameHeader::kSize>();
  Store<0, 1>(bytes, kFrameVersion);
  Store<1, 1>(bytes, static_cast<uint32_t>(header.type));
  Store<2, 1>(bytes, digest_ ? frame_internal::kDigestFlag : 0);
  Store<3, 1>(bytes, static_cast<uint32_t>(header.message_class));
  Store<4, 4>(bytes, header.stream);
  Store<8, 4>(bytes, header.sequence);
  Store<12, 4>(bytes, static_cast<uint32_t>(payload.size()));
  Store<16, 4>(bytes, header.credits);
  Store<20, 4>(bytes, header.window);
  Store<24, 4>(bytes, 0);
  Store<28, 4>(bytes, 0);
  if (digest_) {
    Store<frame_internal::kDigestOffset, 4>(
        bytes, frame_internal::Digest(bytes, payload));
  }
}

inline bool PacketWriter::Append(FrameHeader header,
                                 std::span<const std::byte> payload) {
  if (!Begin(payload.size())) return false;
  WriteHeader(header, payload);
  out_.WriteBytes(payload);
  return true;
}

inline bool PacketWriter::AppendHeader(FrameHeader header,
                                       std::span<const std::byte> payload) {
  if (payload.size() > std::numeric_limits<uint32_t>::max() || !Begin(0)) {
    return false;
  }
  WriteHeader(header, payload);
  closed_ = true;
  return true;
}

}  // namespace nd::transport

#endif  // ND_TRANSPORT_FRAME_PACKET_H_
