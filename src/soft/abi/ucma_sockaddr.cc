#include "soft/abi/ucma_sockaddr.h"

#include <endian.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

namespace nd::soft {
namespace {

constexpr Gid kLoopback6 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr uint8_t kLoopbackNet4 = 127;

// All of a T at the front of `bytes`, if it is there.
template <typename T>
std::optional<T> Load(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

template <typename T>
void Store(const T& value, std::span<std::byte> out) {
  std::memcpy(out.data(), &value, sizeof(value));
}

std::optional<UcmaSockaddr> ReadIpv4(std::span<const std::byte> bytes) {
  const auto in = Load<sockaddr_in>(bytes);
  if (!in) return std::nullopt;
  UcmaSockaddr address{.family = AF_INET,
                       .endpoint = {.port = ntohs(in->sin_port)}};
  std::memcpy(&address.endpoint.ip[kMappedPrefix.size()], &in->sin_addr,
              sizeof(in->sin_addr));
  address.endpoint.ip = Mapped(address.endpoint.ip);
  return address;
}

std::optional<UcmaSockaddr> ReadIpv6(std::span<const std::byte> bytes) {
  const auto in = Load<sockaddr_in6>(bytes);
  if (!in) return std::nullopt;
  UcmaSockaddr address{.family = AF_INET6,
                       .endpoint = {.port = ntohs(in->sin6_port)},
                       .flow_info = in->sin6_flowinfo,
                       .scope_id = in->sin6_scope_id};
  std::memcpy(address.endpoint.ip.data(), &in->sin6_addr,
              sizeof(in->sin6_addr));
  return address;
}

std::optional<UcmaSockaddr> ReadIb(std::span<const std::byte> bytes) {
  const auto in = Load<IbSockaddr>(bytes);
  if (!in) return std::nullopt;
  const uint64_t service_id = be64toh(in->service_id);
  const uint64_t mask = be64toh(in->service_id_mask);
  return UcmaSockaddr{
      .family = kIbFamily,
      .endpoint = {.ip = in->address,
                   .port = static_cast<uint16_t>(service_id & mask)},
      .flow_info = in->flow_info,
      .pkey = in->pkey,
      .service_id = service_id,
      .service_id_mask = mask};
}

}  // namespace

std::optional<UcmaSockaddr> UcmaSockaddr::Read(
    std::span<const std::byte> bytes) {
  switch (Load<sa_family_t>(bytes).value_or(AF_UNSPEC)) {
    case AF_INET:
      return ReadIpv4(bytes);
    case AF_INET6:
      return ReadIpv6(bytes);
    case kIbFamily:
      return ReadIb(bytes);
    default:
      return std::nullopt;
  }
}

UcmaSockaddr UcmaSockaddr::Of(const CmEndpoint& endpoint) {
  const bool v4 = IsIpv4(endpoint.ip);
  return {.family = static_cast<uint16_t>(v4 ? AF_INET : AF_INET6),
          .endpoint = endpoint};
}

UcmaSockaddr UcmaSockaddr::Wildcard(uint16_t family) {
  return {.family = family,
          .endpoint = {.ip = family == AF_INET ? Mapped({}) : Gid{}}};
}

size_t UcmaSockaddr::size() const {
  switch (family) {
    case AF_INET:
      return sizeof(sockaddr_in);
    case AF_INET6:
      return sizeof(sockaddr_in6);
    case kIbFamily:
      return sizeof(IbSockaddr);
    default:
      return 0;
  }
}

void UcmaSockaddr::Write(std::span<std::byte> out) const {
  const Gid& ip = endpoint.ip;
  if (family == AF_INET) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(endpoint.port);
    std::memcpy(&in.sin_addr, &ip[kMappedPrefix.size()], sizeof(in.sin_addr));
    Store(in, out);
  } else if (family == AF_INET6) {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(endpoint.port);
    in.sin6_flowinfo = flow_info;
    in.sin6_scope_id = scope_id;
    std::memcpy(&in.sin6_addr, ip.data(), ip.size());
    Store(in, out);
  } else if (family == kIbFamily) {
    Store(IbSockaddr{.family = kIbFamily,
                     .pkey = pkey,
                     .flow_info = flow_info,
                     .address = ip,
                     .service_id = htobe64(service_id),
                     .service_id_mask = htobe64(service_id_mask)},
          out);
  }
}

bool UcmaSockaddr::IsLoopback() const {
  const Gid& ip = endpoint.ip;
  if (IsIpv4(ip)) return ip[kMappedPrefix.size()] == kLoopbackNet4;
  return ip == kLoopback6;
}

}  // namespace nd::soft
