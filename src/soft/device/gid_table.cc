#include "soft/device/gid_table.h"

#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/fd.h"
#include "base/status.h"
#include "soft/net/inet.h"
#include "soft/wire/icrc.h"

namespace nd::soft {
namespace {

constexpr size_t kMacBytes = 6;

constexpr Gid kLoopback4 = {0, 0, 0,    0,    0,   0, 0, 0,
                            0, 0, 0xff, 0xff, 127, 0, 0, 1};
constexpr Gid kLoopback6 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

// EUI-64, as Linux makes it for its RoCE devices.
uint64_t GuidOf(const sockaddr_ll& link) {
  if (link.sll_halen != kMacBytes) return 0;
  const unsigned char* mac = link.sll_addr;
  const uint8_t bytes[] = {static_cast<uint8_t>(mac[0] ^ 2),
                           mac[1],
                           mac[2],
                           0xff,
                           0xfe,
                           mac[3],
                           mac[4],
                           mac[5]};
  uint64_t guid = 0;
  for (const uint8_t byte : bytes) guid = guid << 8 | byte;
  return guid;
}

uint32_t MtuOf(int socket, const char* interface) {
  ifreq request{};
  std::strncpy(request.ifr_name, interface, sizeof(request.ifr_name) - 1);
  if (ioctl(socket, SIOCGIFMTU, &request) != 0) return 0;
  return static_cast<uint32_t>(request.ifr_mtu);
}

// A stable number where no interface has an address of its own.
uint64_t GuidOfHostName() {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char* c = name; *c != '\0'; ++c) {
    hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001b3;
  }
  return hash | uint64_t{2} << 56;  // locally administered
}

}  // namespace

HostAddresses ReadHostAddresses() {
  HostAddresses host;
  std::vector<GidEntry> loopback;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) list = nullptr;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list,
                                                               freeifaddrs);
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || (each->ifa_flags & IFF_UP) == 0) continue;
    const bool is_loopback = (each->ifa_flags & IFF_LOOPBACK) != 0;
    if (each->ifa_addr->sa_family == AF_PACKET) {
      const auto& link = *reinterpret_cast<sockaddr_ll*>(each->ifa_addr);
      if (is_loopback) continue;
      if (host.guid == 0) host.guid = GuidOf(link);
      host.mtu_bytes =
          std::min(host.mtu_bytes, MtuOf(socket.get(), each->ifa_name));
      continue;
    }
    GidEntry entry{.interface_index = if_nametoindex(each->ifa_name),
                   .interface = each->ifa_name};
    if (each->ifa_addr->sa_family == AF_INET) {
      entry.gid =
          ToGid(reinterpret_cast<sockaddr_in*>(each->ifa_addr)->sin_addr);
    } else if (each->ifa_addr->sa_family == AF_INET6) {
      entry.gid =
          ToGid(reinterpret_cast<sockaddr_in6*>(each->ifa_addr)->sin6_addr);
    } else {
      continue;
    }
    (is_loopback ? loopback : host.gids).push_back(std::move(entry));
  }
  std::ranges::move(loopback, std::back_inserter(host.gids));
  for (const Gid& gid : {kLoopback4, kLoopback6}) {
    if (std::ranges::find(host.gids, gid, &GidEntry::gid) == host.gids.end()) {
      host.gids.push_back(
          {.gid = gid, .interface_index = 1, .interface = "lo"});
    }
  }
  if (host.guid == 0) host.guid = GuidOfHostName();
  return host;
}

std::vector<Gid> HostAddresses::addresses() const {
  std::vector<Gid> all;
  for (const GidEntry& entry : gids) {
    if (entry.gid != Gid{}) all.push_back(entry.gid);
  }
  return all;
}

HostAddresses Updated(const HostAddresses& table, const HostAddresses& host) {
  const auto has = [](const HostAddresses& in, const GidEntry& entry) {
    return std::ranges::find(in.gids, entry) != in.gids.end();
  };
  HostAddresses updated = table;
  for (GidEntry& entry : updated.gids) {
    if (!has(host, entry)) entry = {};
  }
  for (const GidEntry& entry : host.gids) {
    if (has(table, entry)) continue;
    const auto place = std::ranges::find(updated.gids, Gid{}, &GidEntry::gid);
    if (place != updated.gids.end()) {
      *place = entry;
    } else {
      updated.gids.push_back(entry);
    }
  }
  return updated;
}

absl::StatusOr<AddressWatch> AddressWatch::Open() {
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
                     NETLINK_ROUTE));
  if (!socket.valid()) return ErrnoStatus(errno, "netlink socket");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&address),
           sizeof(address)) != 0) {
    return ErrnoStatus(errno, "netlink socket: groups of addresses");
  }
  return AddressWatch(std::move(socket));
}

// What exactly changed may have been lost where much did (ENOBUFS), so it is
// not looked at.
bool AddressWatch::Changed() {
  bool changed = false;
  std::byte message;
  while (socket_.valid()) {
    const ssize_t size =
        recv(socket_.get(), &message, sizeof(message), MSG_TRUNC);
    if (size < 0 && errno != ENOBUFS && errno != EINTR) break;
    changed = true;
  }
  return changed;
}

// Asks the kernel, by a socket that is connected and sends nothing.
absl::StatusOr<Gid> SourceAddressFor(const Gid& destination) {
  const Fd socket(::socket(SocketFamily(FamilyOf(destination)),
                           SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return ErrnoStatus(errno, "socket");
  const SocketAddress to =
      ToSocketAddress(destination, kRoceUdpPort, InterfaceOf(destination));
  if (connect(socket.get(), to.get(), to.length) != 0) {
    return ErrnoStatus(errno, "no way to the address");
  }
  SocketAddress from{.length = sizeof(from.storage)};
  if (getsockname(socket.get(), from.get(), &from.length) != 0) {
    return ErrnoStatus(errno, "getsockname");
  }
  return GidOf(from);
}

}  // namespace nd::soft
