// What both ends of a session do alike, what a field may be, and how a wish and
// a server's limits become what holds.
#ifndef ND_CONTROL_LAYOUT_H_
#define ND_CONTROL_LAYOUT_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "transport/frame/frame.h"

namespace nd::control {

// What is in front of a packet's payload, so that slot_size - kFrameHeaderSize
// is the largest eager message.
inline constexpr uint64_t kFrameHeaderSize = transport::FrameHeader::kSize;
using transport::kMessageCost;

// How a message that fits into a packet travels.
enum class EagerMode : uint8_t {
  kSend = 1,  // by SEND into posted receives
  kRing = 2,  // by RDMA WRITE with immediate into a ring
};

// proto/nd/v1/control.proto has the units; LayoutFields() the ranges.
struct SessionLayout {
  uint64_t latency_connections = 1;
  uint64_t bulk_connections = 1;
  uint64_t slots = 256;
  uint64_t slot_size = 8192;
  uint64_t eager_limit = 8192 - kFrameHeaderSize;
  EagerMode eager_mode = EagerMode::kSend;
  bool digest = false;
  uint64_t keepalive_ns = 10'000'000'000;
  uint64_t stream_window = 1 << 20;
  uint64_t max_streams = 64;
  uint64_t receive_budget = 64 << 20;
  bool operator==(const SessionLayout&) const = default;

  // Links: those of the latency class from 0, then those of the bulk class.
  uint64_t links() const { return latency_connections + bulk_connections; }
};

// A field with a number, and what it may be whatever the others are.
struct LayoutField {
  absl::string_view name;
  uint64_t SessionLayout::*value = nullptr;
  uint64_t min = 0;
  uint64_t max = 0;
  uint64_t multiple_of = 1;
  // 0 is allowed as well and stands for more than any number.
  bool zero_is_never = false;
};
std::span<const LayoutField> LayoutFields();

// Each field in its range and
//   eager_limit <= slot_size - kFrameHeaderSize, stream_window - kMessageCost
//   max_streams * stream_window <= receive_budget
// INVALID_ARGUMENT begins with the field: "layout.slots: 3 is below 4".
absl::Status CheckLayout(const SessionLayout& layout);

// What a server lets a session have: each field between these two.
struct LayoutLimits {
  // {false, kSend}: digests and the ring are not asked for.
  SessionLayout at_least = {.latency_connections = 1,
                            .bulk_connections = 1,
                            .slots = 4,
                            .slot_size = 320,
                            .eager_limit = 0,
                            .eager_mode = EagerMode::kSend,
                            .digest = false,
                            .keepalive_ns = 10'000'000,
                            .stream_window = 4096,
                            .max_streams = 1,
                            .receive_budget = 4096};
  SessionLayout at_most = {.latency_connections = 16,
                           .bulk_connections = 16,
                           .slots = 4096,
                           .slot_size = 1 << 20,
                           .eager_limit = (1 << 20) - kFrameHeaderSize,
                           .eager_mode = EagerMode::kRing,
                           .digest = true,
                           .keepalive_ns = 0,
                           .stream_window = 1 << 30,
                           .max_streams = 65536,
                           .receive_budget = uint64_t{1} << 30};
};

// INVALID_ARGUMENT, "limits.at_most.slots: 8 is below at_least, 16", unless
// Agree finds a layout for each wish: each bound is in its range, at_least is a
// layout, and at_most is nowhere below it.
absl::Status CheckLimits(const LayoutLimits& limits);

// The wish, each field moved into the limits; then, where a relation does not
// hold any more, fewer streams, a smaller window and a lower eager limit.
// `wish` has passed CheckLayout, `limits` CheckLimits; what is returned passes
// CheckLayout and lies within the limits.
SessionLayout Agree(const SessionLayout& wish, const LayoutLimits& limits);

// INVALID_ARGUMENT, "FIELD: 3 is below 4", unless min <= value <= max.
absl::Status CheckRange(absl::string_view field, uint64_t value, uint64_t min,
                        uint64_t max);

}  // namespace nd::control

#endif  // ND_CONTROL_LAYOUT_H_
