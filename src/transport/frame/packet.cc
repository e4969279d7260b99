#include "transport/frame/packet.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <array>

namespace nd::transport {

// ISA-L's length is an int, and it neither begins nor ends with the inversion
// that the CRC of RFC 3720 has on both sides.
uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t before) {
  constexpr size_t kMost = size_t{1} << 30;
  uint32_t crc = ~before;
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), kMost));
    // It reads only.
    auto* const data = const_cast<unsigned char*>(
        reinterpret_cast<const unsigned char*>(part.data()));
    crc = crc32_iscsi(data, static_cast<int>(part.size()), crc);
    bytes = bytes.subspan(part.size());
  }
  return ~crc;
}

uint32_t frame_internal::Digest(
    std::span<const std::byte, FrameHeader::kSize> header,
    std::span<const std::byte> payload) {
  std::array<std::byte, FrameHeader::kSize> without_digest;
  std::ranges::copy(header, without_digest.begin());
  Store<kDigestOffset, 4>(without_digest, 0);
  return Crc32c(payload, Crc32c(without_digest));
}

std::string_view ToString(PacketFault fault) {
  switch (fault) {
    case PacketFault::kNone:
      return "none";
    case PacketFault::kEmpty:
      return "an empty packet";
    case PacketFault::kTruncated:
      return "a frame that ends beyond its packet";
    case PacketFault::kVersion:
      return "a frame of another version";
    case PacketFault::kType:
      return "a frame of unknown type";
    case PacketFault::kFlags:
      return "unknown flags";
    case PacketFault::kClass:
      return "an unknown class";
    case PacketFault::kStream:
      return "a stream where the type has none, or none where it needs one";
    case PacketFault::kReserved:
      return "bytes that are not zero where they must be";
    case PacketFault::kLength:
      return "a length that the type does not allow";
    case PacketFault::kDigest:
      return "a wrong digest";
    case PacketFault::kDigestMissing:
      return "a frame without the digest that was agreed on";
  }
  return "unknown";
}

bool PacketReader::Fail(PacketFault fault) {
  fault_ = fault;
  rest_ = {};
  return false;
}

// A packet ends with its last frame: padding is there for the next one.
bool PacketReader::SkipPadding() {
  if (rest_.size() < padding_) return Fail(PacketFault::kTruncated);
  const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
  if (!std::ranges::all_of(rest_.first(padding_), is_zero)) {
    return Fail(PacketFault::kReserved);
  }
  rest_ = rest_.subspan(padding_);
  return true;
}

}  // namespace nd::transport
