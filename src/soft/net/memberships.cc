#include "soft/net/memberships.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace nd::soft {
namespace {

// 0 or the errno of MCAST_JOIN_GROUP or MCAST_LEAVE_GROUP (RFC 3678).
int Set(int fd, int option, const Gid& group, uint32_t interface) {
  const SocketAddress address = ToSocketAddress(group, 0);
  group_req request{};
  request.gr_interface = interface;
  request.gr_group = address.storage;
  const int level =
      FamilyOf(group) == IpFamily::kIpv4 ? IPPROTO_IP : IPPROTO_IPV6;
  return setsockopt(fd, level, option, &request, sizeof(request)) == 0 ? 0
                                                                       : errno;
}

}  // namespace

void Memberships::Join(const Gid& group) {
  groups_.insert(group);
  for (const Interface& interface : interfaces_) {
    if (interface.family == FamilyOf(group)) Add({group, interface.index});
  }
}

void Memberships::Leave(const Gid& group) {
  groups_.erase(group);
  for (const Interface& interface : interfaces_) {
    if (interface.family == FamilyOf(group)) Drop({group, interface.index});
  }
}

void Memberships::SetInterfaces(std::set<Interface> interfaces) {
  const std::set<Interface> before =
      std::exchange(interfaces_, std::move(interfaces));
  for (const Gid& group : groups_) {
    for (const Interface& interface : before) {
      if (interface.family == FamilyOf(group) &&
          !interfaces_.contains(interface)) {
        Drop({group, interface.index});
      }
    }
    for (const Interface& interface : interfaces_) {
      if (interface.family == FamilyOf(group) && !before.contains(interface)) {
        Add({group, interface.index});
      }
    }
  }
}

size_t Memberships::size() const {
  size_t size = 0;
  for (const Socket& socket : sockets_) size += socket.memberships.size();
  return size;
}

void Memberships::Add(const Membership& membership) {
  const IpFamily family = FamilyOf(membership.group);
  const auto joins = [&](Socket& socket) {
    if (socket.family != family) return false;
    const int error = Set(socket.fd.get(), MCAST_JOIN_GROUP, membership.group,
                          membership.interface);
    if (error == 0) socket.memberships.push_back(membership);
    // A socket that is full lets another one try.
    return error != ENOBUFS && error != ENOMEM;
  };
  if (std::ranges::any_of(sockets_, joins)) return;
  if (sockets_.size() == kMaxSockets) return;
  Fd fd(socket(SocketFamily(family), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return;
  Socket made{.family = family, .fd = OwnFd(std::move(fd)), .memberships = {}};
  (void)joins(made);
  if (!made.memberships.empty()) sockets_.push_back(std::move(made));
}

void Memberships::Drop(const Membership& membership) {
  for (Socket& socket : sockets_) {
    if (std::erase(socket.memberships, membership) == 0) continue;
    // Where the interface has gone, so has its membership.
    (void)Set(socket.fd.get(), MCAST_LEAVE_GROUP, membership.group,
              membership.interface);
  }
  std::erase_if(sockets_, [](const Socket& socket) {
    return socket.memberships.empty();
  });
}

}  // namespace nd::soft
