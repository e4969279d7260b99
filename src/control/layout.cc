#include "control/layout.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::control {
namespace {

using L = SessionLayout;

constexpr uint64_t kMillisecond = 1'000'000;  // in ns
constexpr uint64_t kHour = uint64_t{3600} * 1000 * kMillisecond;

constexpr LayoutField kFields[] = {
    {"latency_connections", &L::latency_connections, 1, 16},
    {"bulk_connections", &L::bulk_connections, 1, 16},
    {"slots", &L::slots, 4, 4096},
    {.name = "slot_size",
     .value = &L::slot_size,
     .min = 320,  // the longest frame that is no message, 288
     .max = 1 << 20,
     .multiple_of = 64},
    {"eager_limit", &L::eager_limit, 0, (1 << 20) - kFrameHeaderSize},
    {.name = "keepalive_ns",
     .value = &L::keepalive_ns,
     .min = 10 * kMillisecond,
     .max = kHour,
     .zero_is_never = true},
    {"stream_window", &L::stream_window, 4096, 1 << 30},
    {"max_streams", &L::max_streams, 1, 65536},
    {"receive_budget", &L::receive_budget, 4096, uint64_t{1} << 46},
};
// A budget can be as large as the windows of all streams.
static_assert((uint64_t{1} << 30) * 65536 == uint64_t{1} << 46);

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// Where a value stands among those of its field.
uint64_t Rank(const LayoutField& field, uint64_t value) {
  return field.zero_is_never && value == 0
             ? std::numeric_limits<uint64_t>::max()
             : value;
}

absl::Status CheckField(const LayoutField& field, const SessionLayout& layout,
                        absl::string_view prefix) {
  const uint64_t value = layout.*field.value;
  if (field.zero_is_never && value == 0) return absl::OkStatus();
  const std::string name = absl::StrCat(prefix, field.name);
  ND_RETURN_IF_ERROR(CheckRange(name, value, field.min, field.max));
  if (value % field.multiple_of == 0) return absl::OkStatus();
  return Invalid(name, ": ", value, " is not a multiple of ",
                 field.multiple_of);
}

absl::Status CheckFields(const SessionLayout& layout,
                         absl::string_view prefix) {
  for (const LayoutField& field : kFields) {
    ND_RETURN_IF_ERROR(CheckField(field, layout, prefix));
  }
  if (layout.eager_mode == EagerMode::kSend ||
      layout.eager_mode == EagerMode::kRing) {
    return absl::OkStatus();
  }
  return Invalid(prefix, "eager_mode: ", static_cast<int>(layout.eager_mode),
                 " is neither SEND nor RING");
}

uint64_t LargestEagerLimit(const SessionLayout& layout) {
  return std::min(layout.slot_size - kFrameHeaderSize,
                  layout.stream_window - kMessageCost);
}

absl::Status CheckRelations(const SessionLayout& layout,
                            absl::string_view prefix) {
  if (layout.eager_limit > layout.slot_size - kFrameHeaderSize) {
    return Invalid(prefix, "eager_limit: ", layout.eager_limit,
                   " is above slot_size - ", kFrameHeaderSize, ", ",
                   layout.slot_size - kFrameHeaderSize);
  }
  if (layout.eager_limit > layout.stream_window - kMessageCost) {
    return Invalid(prefix, "eager_limit: ", layout.eager_limit,
                   " is above stream_window - ", kMessageCost, ", ",
                   layout.stream_window - kMessageCost);
  }
  const uint64_t windows = layout.max_streams * layout.stream_window;
  if (windows > layout.receive_budget) {
    return Invalid(prefix, "receive_budget: ", layout.receive_budget,
                   " is below max_streams * stream_window, ", windows);
  }
  return absl::OkStatus();
}

}  // namespace

std::span<const LayoutField> LayoutFields() { return kFields; }

absl::Status CheckRange(absl::string_view field, uint64_t value, uint64_t min,
                        uint64_t max) {
  if (value < min) return Invalid(field, ": ", value, " is below ", min);
  if (value > max) return Invalid(field, ": ", value, " is above ", max);
  return absl::OkStatus();
}

absl::Status CheckLayout(const SessionLayout& layout) {
  ND_RETURN_IF_ERROR(CheckFields(layout, "layout."));
  return CheckRelations(layout, "layout.");
}

absl::Status CheckLimits(const LayoutLimits& limits) {
  const auto& [low, high] = limits;
  ND_RETURN_IF_ERROR(CheckFields(low, "limits.at_least."));
  ND_RETURN_IF_ERROR(CheckRelations(low, "limits.at_least."));
  ND_RETURN_IF_ERROR(CheckFields(high, "limits.at_most."));
  for (const LayoutField& field : kFields) {
    if (Rank(field, high.*field.value) >= Rank(field, low.*field.value)) {
      continue;
    }
    return Invalid("limits.at_most.", field.name, ": ", high.*field.value,
                   " is below at_least, ", low.*field.value);
  }
  if (high.eager_mode < low.eager_mode) {
    return Invalid("limits.at_most.eager_mode: SEND, but at_least is RING");
  }
  if (high.digest < low.digest) {
    return Invalid("limits.at_most.digest: off, but at_least is on");
  }
  return absl::OkStatus();
}

SessionLayout Agree(const SessionLayout& wish, const LayoutLimits& limits) {
  const auto& [low, high] = limits;
  SessionLayout agreed = wish;
  for (const LayoutField& field : kFields) {
    uint64_t& value = agreed.*field.value;
    if (Rank(field, value) < Rank(field, low.*field.value)) {
      value = low.*field.value;
    } else if (Rank(field, value) > Rank(field, high.*field.value)) {
      value = high.*field.value;
    }
  }
  agreed.eager_mode =
      std::clamp(wish.eager_mode, low.eager_mode, high.eager_mode);
  agreed.digest = std::clamp(wish.digest, low.digest, high.digest);
  // The budget may have become too small for so many streams, and, where the
  // server wants at least so many, for such windows. It holds those of
  // at_least, so neither is moved out of the limits.
  agreed.max_streams = std::clamp(agreed.receive_budget / agreed.stream_window,
                                  low.max_streams, agreed.max_streams);
  agreed.stream_window = std::min(agreed.stream_window,
                                  agreed.receive_budget / agreed.max_streams);
  agreed.eager_limit = std::min(agreed.eager_limit, LargestEagerLimit(agreed));
  return agreed;
}

}  // namespace nd::control
