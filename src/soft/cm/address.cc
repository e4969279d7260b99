#include "soft/cm/address.h"

#include <algorithm>

namespace nd::soft {
namespace {

constexpr uint32_t kFlowLabelMask = 0xfffff;

// IPv4 stands alone in its last four bytes (annex A11).
Gid HeaderAddress(Gid ip) {
  if (IsIpv4(ip)) std::ranges::fill_n(ip.begin(), kMappedPrefix.size(), 0);
  return ip;
}

}  // namespace

bool IsWildcard(const Gid& ip) { return HeaderAddress(ip) == Gid{}; }

RdmaCmHeader MakeHeader(const CmEndpoints& endpoints) {
  return {.ip_version = IsIpv4(endpoints.local.ip) ? uint8_t{4} : uint8_t{6},
          .source_port = endpoints.local.port,
          .source = HeaderAddress(endpoints.local.ip),
          .destination = HeaderAddress(endpoints.remote.ip)};
}

std::optional<CmEndpoints> ReadHeader(const RdmaCmHeader& header,
                                      uint64_t service_id) {
  if (header.version != 0) return std::nullopt;
  CmEndpoints endpoints{
      .local = {.ip = header.source, .port = header.source_port},
      .remote = {.ip = header.destination,
                 .port = static_cast<uint16_t>(service_id)}};
  if (header.ip_version == 6) return endpoints;
  if (header.ip_version != 4) return std::nullopt;
  endpoints.local.ip = Mapped(header.source);
  endpoints.remote.ip = Mapped(header.destination);
  return endpoints;
}

uint32_t FlowLabel(const CmEndpoints& endpoints) {
  return (endpoints.local.port * 31u + endpoints.remote.port) & kFlowLabelMask;
}

}  // namespace nd::soft
