// This process's membership, in the kernel, of IP multicast groups.
#ifndef ND_SOFT_NET_MEMBERSHIPS_H_
#define ND_SOFT_NET_MEMBERSHIPS_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "soft/net/device_fds.h"
#include "soft/net/inet.h"

namespace nd::soft {

// By which datagrams come: it has an address of the family.
struct Interface {
  IpFamily family{};
  uint32_t index = 0;

  // NOLINTNEXTLINE(modernize-use-nullptr): that 0 is the compiler's
  auto operator<=>(const Interface&) const = default;
};

// While any process of the host is a member, the socket that has the UDP port
// of all addresses gets what is sent to the group, whosever it is
// (IP_MULTICAST_ALL, which is on unless switched off). So each process is a
// member itself, whoever holds the port, and nothing is to be done when another
// takes it. A group is joined at each interface; where the kernel will not
// have that, other hosts are not heard there. One thread at a time.
class Memberships {
 public:
  // The kernel bounds the memberships of a socket: 20 of IPv4, as a rule.
  static constexpr size_t kMaxSockets = 128;

  // Each group once.
  void Join(const Gid& group);
  void Leave(const Gid& group);
  void SetInterfaces(std::set<Interface> interfaces);

  // Of groups at interfaces.
  size_t size() const;

 private:
  struct Membership {
    Gid group{};
    uint32_t interface = 0;

    bool operator==(const Membership&) const = default;
  };
  // It only has memberships, and no port.
  struct Socket {
    IpFamily family{};
    OwnFd fd;
    std::vector<Membership> memberships;
  };

  void Add(const Membership& membership);
  void Drop(const Membership& membership);

  std::set<Gid> groups_;
  std::set<Interface> interfaces_;
  std::vector<Socket> sockets_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_MEMBERSHIPS_H_
