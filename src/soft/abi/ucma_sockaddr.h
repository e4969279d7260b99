// The socket addresses that rdma_cm's commands carry.
#ifndef ND_SOFT_ABI_UCMA_SOCKADDR_H_
#define ND_SOFT_ABI_UCMA_SOCKADDR_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "soft/cm/address.h"

namespace nd::soft {

// AF_IB, which only the kernel's headers know.
inline constexpr uint16_t kIbFamily = 27;

// struct sockaddr_ib, all big-endian but the family.
struct IbSockaddr {
  uint16_t family = 0;
  uint16_t pkey = 0;
  uint32_t flow_info = 0;
  Gid address{};
  uint64_t service_id = 0;
  uint64_t service_id_mask = 0;
  uint64_t scope_id = 0;
};
static_assert(sizeof(IbSockaddr) == 48);

// A sockaddr_in, sockaddr_in6 or sockaddr_ib, or none of them.
struct UcmaSockaddr {
  uint16_t family = 0;  // 0: none
  CmEndpoint endpoint{};
  uint32_t flow_info = 0;  // AF_INET6 and AF_IB, big-endian
  uint32_t scope_id = 0;   // AF_INET6
  // AF_IB
  uint16_t pkey = 0;  // big-endian
  uint64_t service_id = 0;
  uint64_t service_id_mask = 0;

  // Nothing: another family, or not all of it is there.
  static std::optional<UcmaSockaddr> Read(std::span<const std::byte> bytes);
  // The address that an event of the manager names.
  static UcmaSockaddr Of(const CmEndpoint& endpoint);
  // 0.0.0.0 or ::, of the family.
  static UcmaSockaddr Wildcard(uint16_t family);

  // Its size as the application has it; 0 for none.
  size_t size() const;
  // `out` has room for it.
  void Write(std::span<std::byte> out) const;

  bool IsAny() const { return IsWildcard(endpoint.ip); }
  bool IsLoopback() const;

  bool operator==(const UcmaSockaddr&) const = default;
};

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_UCMA_SOCKADDR_H_
