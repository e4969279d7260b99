#include "soft/net/inet.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace nd::soft {

std::vector<Gid> AnyAddresses() { return {kAnyIpv4, kAnyIpv6}; }

SocketAddress ToSocketAddress(const Gid& gid, uint16_t port,
                              uint32_t interface) {
  SocketAddress address;
  if (IsIpv4(gid)) {
    sockaddr_in ip{};
    ip.sin_family = AF_INET;
    ip.sin_port = htons(port);
    ip.sin_addr = ToInAddr(gid);
    std::memcpy(&address.storage, &ip, sizeof(ip));
    address.length = sizeof(ip);
  } else {
    sockaddr_in6 ip{};
    ip.sin6_family = AF_INET6;
    ip.sin6_port = htons(port);
    ip.sin6_addr = ToIn6Addr(gid);
    ip.sin6_scope_id = interface;
    std::memcpy(&address.storage, &ip, sizeof(ip));
    address.length = sizeof(ip);
  }
  return address;
}

std::vector<uint32_t> InterfacesOf(std::span<const Gid> gids) {
  std::vector<uint32_t> interfaces(gids.size());
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return interfaces;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owned(list,
                                                               &freeifaddrs);
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) continue;
    SocketAddress address;
    if (entry->ifa_addr->sa_family == AF_INET) {
      address.length = sizeof(sockaddr_in);
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      address.length = sizeof(sockaddr_in6);
    } else {
      continue;
    }
    std::memcpy(&address.storage, entry->ifa_addr, address.length);
    const Gid gid = GidOf(address);
    for (size_t i = 0; i < gids.size(); ++i) {
      if (interfaces[i] == 0 && gids[i] == gid) {
        interfaces[i] = if_nametoindex(entry->ifa_name);
      }
    }
  }
  return interfaces;
}

uint32_t InterfaceOf(const Gid& gid) { return InterfacesOf({&gid, 1}).front(); }

Gid GidOf(const SocketAddress& address) {
  if (address.storage.ss_family == AF_INET) {
    sockaddr_in ip;
    std::memcpy(&ip, &address.storage, sizeof(ip));
    return ToGid(ip.sin_addr);
  }
  sockaddr_in6 ip;
  std::memcpy(&ip, &address.storage, sizeof(ip));
  return ToGid(ip.sin6_addr);
}

uint16_t PortOf(const SocketAddress& address) {
  // At the same place in both families.
  static_assert(offsetof(sockaddr_in, sin_port) ==
                offsetof(sockaddr_in6, sin6_port));
  sockaddr_in ip;
  std::memcpy(&ip, &address.storage, sizeof(ip));
  return ntohs(ip.sin_port);
}

Gid ToGid(const in_addr& address) {
  Gid gid = kAnyIpv4;
  std::memcpy(&gid[kMappedPrefix.size()], &address, sizeof(address));
  return gid;
}

Gid ToGid(const in6_addr& address) {
  Gid gid;
  std::memcpy(gid.data(), &address, sizeof(address));
  return gid;
}

in_addr ToInAddr(const Gid& gid) {
  in_addr address;
  std::memcpy(&address, &gid[kMappedPrefix.size()], sizeof(address));
  return address;
}

in6_addr ToIn6Addr(const Gid& gid) {
  in6_addr address;
  std::memcpy(&address, gid.data(), sizeof(address));
  return address;
}

bool SetOption(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

void SetBuffer(int fd, int option, int forced, int bytes) {
  if (SetOption(fd, SOL_SOCKET, forced, bytes)) return;
  SetOption(fd, SOL_SOCKET, option, bytes);
}

}  // namespace nd::soft
