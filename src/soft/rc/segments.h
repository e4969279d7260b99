// Local memory as work names it: a list of pieces, and a part of that list.
#ifndef ND_SOFT_RC_SEGMENTS_H_
#define ND_SOFT_RC_SEGMENTS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "soft/wire/packet.h"

namespace nd::soft {

// A scatter/gather element whose key has been checked.
using Segment = std::span<std::byte>;
using Segments = std::span<const Segment>;

uint64_t TotalBytes(Segments segments);

// `length` bytes of `segments` from `offset` on: what one packet carries.
struct Slice {
  Segments segments{};
  uint64_t offset = 0;
  size_t length = 0;
};

// Copies the slice's bytes to `out`, which has room for slice.length.
void Gather(const Slice& slice, std::span<std::byte> out);

// Copies `bytes` into `segments` from `offset` on. They must fit.
void Scatter(std::span<const std::byte> bytes, Segments segments,
             uint64_t offset);

// The same with the packet's payload. False: it is far, and not to be had.
[[nodiscard]] bool ScatterPayload(const Packet& packet, Segments segments,
                                  uint64_t offset);

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

}  // namespace nd::soft

#endif  // ND_SOFT_RC_SEGMENTS_H_
