#include "soft/rc/segments.h"

#include <algorithm>
#include <cstring>

#include "absl/base/attributes.h"
#include "absl/container/inlined_vector.h"

namespace nd::soft {

uint64_t TotalBytes(Segments segments) {
  uint64_t bytes = 0;
  for (const Segment& segment : segments) bytes += segment.size();
  return bytes;
}

void Gather(const Slice& slice, std::span<std::byte> out) {
  ForEachPiece(slice, [&out](Segment piece) {
    std::memcpy(out.data(), piece.data(), piece.size());
    out = out.subspan(piece.size());
  });
}

void Scatter(std::span<const std::byte> bytes, Segments segments,
             uint64_t offset) {
  const Slice slice{
      .segments = segments, .offset = offset, .length = bytes.size()};
  ForEachPiece(slice, [&bytes](Segment piece) {
    std::memcpy(piece.data(), bytes.data(), piece.size());
    bytes = bytes.subspan(piece.size());
  });
}

ABSL_ATTRIBUTE_HOT bool ScatterPayload(const Packet& packet, Segments segments,
                                       uint64_t offset) {
  if (packet.far == nullptr) [[likely]] {
    Scatter(packet.payload, segments, offset);
    return true;
  }
  absl::InlinedVector<Segment, 8> pieces;
  ForEachPiece(
      {.segments = segments, .offset = offset, .length = packet.far->size()},
      [&pieces](Segment piece) { pieces.push_back(piece); });
  return packet.far->CopyTo(pieces);
}

}  // namespace nd::soft
