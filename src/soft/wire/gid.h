// Addresses of ports: a GID is an IPv6 address, or an IPv4 one mapped into it.
#ifndef ND_SOFT_WIRE_GID_H_
#define ND_SOFT_WIRE_GID_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace nd::soft {

using Gid = std::array<uint8_t, 16>;

// What a == b says, where it is said for each packet.
inline bool SameGid(const Gid& a, const Gid& b) {
  return std::memcmp(a.data(), b.data(), sizeof(Gid)) == 0;
}

// What stands in front of an IPv4 address: ::ffff:a.b.c.d.
inline constexpr std::array<uint8_t, 12> kMappedPrefix = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

constexpr bool IsIpv4(const Gid& ip) {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), ip.begin());
}

// A group's: ff00::/8, or 224.0.0.0/4 as an IPv4 address.
constexpr bool IsMulticast(const Gid& ip) {
  return ip[0] == 0xff ||
         (IsIpv4(ip) && (ip[kMappedPrefix.size()] & 0xf0) == 0xe0);
}

// `ip` with its last four bytes taken for an IPv4 address.
constexpr Gid Mapped(Gid ip) {
  std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), ip.begin());
  return ip;
}

}  // namespace nd::soft

#endif  // ND_SOFT_WIRE_GID_H_
