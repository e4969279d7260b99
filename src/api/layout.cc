#include "api/layout.h"

#include <chrono>

namespace nd::api {

control::SessionLayout WishOf(const SessionLayout& layout) {
  return {.latency_connections = layout.latency_connections,
          .bulk_connections = layout.bulk_connections,
          .slots = layout.slots,
          .slot_size = layout.slot_size,
          .eager_limit = layout.eager_limit,
          .eager_mode = layout.eager_mode == EagerMode::kRing
                            ? control::EagerMode::kRing
                            : control::EagerMode::kSend,
          .digest = layout.digest,
          .keepalive_ns = static_cast<uint64_t>(layout.keepalive.count()),
          .stream_window = layout.stream_window,
          .max_streams = layout.max_streams,
          .receive_budget = layout.receive_budget};
}

// The fields' ranges (LayoutFields) fit the narrower types.
SessionLayout ForApplication(const control::SessionLayout& agreed) {
  return {
      .latency_connections = static_cast<uint32_t>(agreed.latency_connections),
      .bulk_connections = static_cast<uint32_t>(agreed.bulk_connections),
      .slots = static_cast<uint32_t>(agreed.slots),
      .slot_size = static_cast<uint32_t>(agreed.slot_size),
      .eager_limit = static_cast<uint32_t>(agreed.eager_limit),
      .eager_mode = agreed.eager_mode == control::EagerMode::kRing
                        ? EagerMode::kRing
                        : EagerMode::kSend,
      .digest = agreed.digest,
      .keepalive = std::chrono::nanoseconds(agreed.keepalive_ns),
      .stream_window = static_cast<uint32_t>(agreed.stream_window),
      .max_streams = static_cast<uint32_t>(agreed.max_streams),
      .receive_budget = agreed.receive_budget};
}

transport::SessionLayout ForTransport(const control::SessionLayout& agreed) {
  return {.latency_links = static_cast<uint32_t>(agreed.latency_connections),
          .bulk_links = static_cast<uint32_t>(agreed.bulk_connections),
          .slots = static_cast<uint32_t>(agreed.slots),
          .slot_size = static_cast<uint32_t>(agreed.slot_size),
          .eager_limit = static_cast<uint32_t>(agreed.eager_limit),
          .ring = agreed.eager_mode == control::EagerMode::kRing,
          .digest = agreed.digest,
          .keepalive = Duration(agreed.keepalive_ns),
          .stream_window = static_cast<uint32_t>(agreed.stream_window),
          .max_streams = static_cast<uint32_t>(agreed.max_streams)};
}

}  // namespace nd::api
