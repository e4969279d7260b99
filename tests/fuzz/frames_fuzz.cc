// Any bytes at all into the reader of packets and the parsers of payloads. What
// they take must be what a writer writes.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "base/byte_order.h"
#include "base/bytes.h"
#include "fuzz/choices.h"
#include "transport/frame/frame.h"
#include "transport/frame/packet.h"

namespace nd::transport {
namespace {

using soft::Require;
using Bytes = std::vector<std::byte>;

constexpr uint32_t kEagerLimit = 40;
constexpr size_t kFlagsOffset = 2;
constexpr size_t kLengthOffset = 12;

bool HasDigest(std::span<const std::byte> frame) {
  return frame[kFlagsOffset] != std::byte{0};
}

// A fuzzer does not find a CRC: gives frames that claim a digest the right one.
void SetDigests(std::span<std::byte> rest) {
  while (rest.size() >= FrameHeader::kSize) {
    const auto header = rest.first<FrameHeader::kSize>();
    const size_t length =
        frame_internal::Load<kLengthOffset, sizeof(uint32_t)>(header);
    if (length > rest.size() - FrameHeader::kSize) return;
    if (HasDigest(header)) {
      frame_internal::Store<frame_internal::kDigestOffset, 4>(
          header, frame_internal::Digest(
                      header, rest.subspan(FrameHeader::kSize, length)));
    }
    const size_t size = (FrameHeader::kSize + length + kFrameAlignment - 1) /
                        kFrameAlignment * kFrameAlignment;
    rest = rest.subspan(std::min(size, rest.size()));
  }
}

// Takes these bytes for nothing, or for what is written as these bytes.
template <typename Payload>
void CheckPayload(std::span<const std::byte> bytes) {
  const auto payload = Payload::Parse(bytes);
  if (!payload) return;
  std::array<std::byte, 256> room;
  ByteWriter out{std::span<std::byte>(room)};
  payload->Write(out);
  Require(out.ok() && std::ranges::equal(out.written(), bytes),
          "another payload");
}

void CheckPayloads(std::span<const std::byte> bytes) {
  CheckPayload<Request>(bytes);
  CheckPayload<Grant>(bytes);
  CheckPayload<Written>(bytes);
  CheckPayload<Revoke>(bytes);
  CheckPayload<Notify>(bytes);
  CheckPayload<Probe>(bytes);
  CheckPayload<Gone>(bytes);
  CheckPayload<Reason>(bytes);
}

void CheckFrame(const FrameView& frame, std::span<const std::byte> bytes,
                uint32_t eager_limit) {
  const FrameHeader& header = frame.header;
  const FrameFacts& facts = FactsOf(header.type);
  Require(facts.known() && ToString(header.type) != "unknown", "no such type");
  Require(HasOnlyItsFields(header), "a field that the type does not have");
  Require(header.length == frame.payload.size(), "another length");
  Require(
      header.length >= facts.min_length && header.length <= facts.max_length &&
          (header.type != FrameType::kMessage || header.length <= eager_limit),
      "a length that is not allowed");
  CheckPayloads(frame.payload);
  Bytes room(bytes.size());
  PacketWriter writer(room, HasDigest(bytes));
  Require(writer.Append(header, frame.payload) &&
              std::ranges::equal(writer.written(), bytes),
          "another frame");
}

void CheckPacket(std::span<const std::byte> packet, bool digest,
                 uint32_t eager_limit) {
  PacketReader reader(packet, digest, eager_limit);
  size_t end = 0;
  for (FrameView frame; reader.Next(frame);) {
    const size_t begin =
        (end + kFrameAlignment - 1) / kFrameAlignment * kFrameAlignment;
    for (; end < begin; ++end) {
      Require(packet[end] == std::byte{0}, "padding that is not zero");
    }
    end += FrameHeader::kSize + frame.payload.size();
    Require(
        end <= packet.size() &&
            frame.payload.data() + frame.payload.size() == packet.data() + end,
        "a frame elsewhere");
    const auto bytes = packet.subspan(begin, end - begin);
    Require(!digest || HasDigest(bytes), "a digest is missing");
    CheckFrame(frame, bytes, eager_limit);
  }
  Require(ToString(reader.fault()) != "unknown", "a fault without a name");
  Require(reader.fault() != PacketFault::kNone ||
              (end == packet.size() && end != 0),
          "bytes that nobody read");
  FrameView none;
  const PacketFault fault = reader.fault();
  Require(!reader.Next(none) && reader.fault() == fault, "a frame behind it");
}

}  // namespace
}  // namespace nd::transport

// A byte of choices, then the packet.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using nd::transport::Bytes;
  using nd::transport::CheckPacket;
  using nd::transport::CheckPayloads;
  using nd::transport::kEagerLimit;
  using nd::transport::SetDigests;
  if (size == 0) return 0;
  const uint8_t choices = data[0];
  const bool digest = (choices & 1) != 0;
  const uint32_t eager_limit =
      (choices & 2) != 0 ? kEagerLimit : std::numeric_limits<uint32_t>::max();
  const auto input = std::as_bytes(std::span(data, size)).subspan(1);
  // Of its very size, so that a step past the end is seen.
  Bytes packet(input.begin(), input.end());
  if ((choices & 4) != 0) SetDigests(packet);
  CheckPacket(packet, digest, eager_limit);
  CheckPayloads(packet);
  return 0;
}
