// GIDs as the socket calls have them.
#ifndef ND_SOFT_NET_INET_H_
#define ND_SOFT_NET_INET_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "soft/wire/gid.h"

namespace nd::soft {

enum class IpFamily : uint8_t { kIpv4, kIpv6 };

constexpr IpFamily FamilyOf(const Gid& gid) {
  return IsIpv4(gid) ? IpFamily::kIpv4 : IpFamily::kIpv6;
}
constexpr int SocketFamily(IpFamily family) {
  return family == IpFamily::kIpv4 ? AF_INET : AF_INET6;
}

// The addresses of all interfaces.
inline constexpr Gid kAnyIpv4 = Mapped({});
inline constexpr Gid kAnyIpv6 = {};
std::vector<Gid> AnyAddresses();  // both

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const {
    return reinterpret_cast<const sockaddr*>(&storage);
  }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

// `interface` counts for link-local addresses: 0 is any.
SocketAddress ToSocketAddress(const Gid& gid, uint16_t port,
                              uint32_t interface = 0);
constexpr bool IsLinkLocal(const Gid& gid) {
  return gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80;
}
// The interface that has each address; 0: none.
std::vector<uint32_t> InterfacesOf(std::span<const Gid> gids);
uint32_t InterfaceOf(const Gid& gid);

// Of an AF_INET or AF_INET6 address.
Gid GidOf(const SocketAddress& address);
uint16_t PortOf(const SocketAddress& address);

Gid ToGid(const in_addr& address);
Gid ToGid(const in6_addr& address);
in_addr ToInAddr(const Gid& gid);  // of an IPv4 GID
in6_addr ToIn6Addr(const Gid& gid);

// Sets an option whose value is an int. False: the kernel would not.
bool SetOption(int fd, int level, int option, int value);

// Asks for a buffer of that size, and takes what may be had. `forced` is the
// option that needs a privilege.
void SetBuffer(int fd, int option, int forced, int bytes);

}  // namespace nd::soft

#endif  // ND_SOFT_NET_INET_H_
