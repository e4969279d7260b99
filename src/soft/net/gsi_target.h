// Whom a packet to QP1 concerns.
#ifndef ND_SOFT_NET_GSI_TARGET_H_
#define ND_SOFT_NET_GSI_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

namespace nd::soft {

struct NobodyTarget {
  bool operator==(const NobodyTarget&) const = default;
};
// The process that has the slot.
struct SlotTarget {
  uint32_t slot = 0;
  bool operator==(const SlotTarget&) const = default;
};
// The process that has claimed the service.
struct ServiceTarget {
  uint64_t service_id = 0;
  bool operator==(const ServiceTarget&) const = default;
};
using GsiTarget = std::variant<NobodyTarget, SlotTarget, ServiceTarget>;

// By the management datagram that is the packet's payload.
GsiTarget GsiTargetOf(std::span<const std::byte> mad);

}  // namespace nd::soft

#endif  // ND_SOFT_NET_GSI_TARGET_H_
