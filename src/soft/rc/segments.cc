#include "soft/rc/segments.h"

#include <algorithm>
#include <cstring>

namespace nd::soft {
namespace {

// Calls visit(piece) for the pieces that make up the slice, in order.
template <typename Visit>
void ForEachPiece(const Slice& slice, Visit visit) {
  uint64_t skip = slice.offset;
  size_t left = slice.length;
  for (const Segment& segment : slice.segments) {
    if (left == 0) return;
    if (skip >= segment.size()) {
      skip -= segment.size();
      continue;
    }
    const size_t size = std::min<size_t>(segment.size() - skip, left);
    visit(segment.subspan(skip, size));
    skip = 0;
    left -= size;
  }
}

}  // namespace

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

}  // namespace nd::soft
