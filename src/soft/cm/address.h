// Addresses and service ids as rdma_cm has them (IBA annex A11): an IP address
// is a GID, IPv4 mapped, and a service id is a port space and a port.
#ifndef ND_SOFT_CM_ADDRESS_H_
#define ND_SOFT_CM_ADDRESS_H_

#include <cstdint>
#include <optional>

#include "soft/wire/gid.h"
#include "soft/wire/mad.h"

namespace nd::soft {

// The values that RDMA_PS_TCP, RDMA_PS_UDP and RDMA_PS_IB have.
enum class PortSpace : uint16_t { kTcp = 0x0106, kUdp = 0x0111, kIb = 0x013f };

// An IP address, IPv4 as ::ffff:a.b.c.d, and a port in some port space.
struct CmEndpoint {
  Gid ip{};
  uint16_t port = 0;

  bool operator==(const CmEndpoint&) const = default;
};

bool IsWildcard(const Gid& ip);  // 0.0.0.0 or ::

// Annex A11, service ids.
constexpr uint64_t ServiceId(PortSpace space, uint16_t port) {
  return uint64_t{static_cast<uint16_t>(space)} << 16 | port;
}

// The addresses of a connection as its requester names them.
struct CmEndpoints {
  CmEndpoint local;  // the requester's
  CmEndpoint remote;

  bool operator==(const CmEndpoints&) const = default;
};

RdmaCmHeader MakeHeader(const CmEndpoints& endpoints);

// Nothing: the header's version is not 0 or its IP version is neither 4 nor 6.
// What stands in front of an IPv4 address does not count.
std::optional<CmEndpoints> ReadHeader(const RdmaCmHeader& header,
                                      uint64_t service_id);

// What both ends derive the UDP source port of the traffic from.
uint32_t FlowLabel(const CmEndpoints& endpoints);

}  // namespace nd::soft

#endif  // ND_SOFT_CM_ADDRESS_H_
