#include "soft/net/services.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::soft {
namespace {

constexpr Gid kAllIpv4 = Mapped(Gid{});
constexpr Gid kAll{};

bool IsAtAll(const HostService& service) {
  return service.address == kAll || service.address == kAllIpv4;
}

// The other claims that may not be there beside this one.
std::vector<HostService> Against(const HostService& service,
                                 std::span<const Gid> local) {
  const bool ipv4 = service.address == kAllIpv4;
  if (!IsAtAll(service)) {
    const auto all = ServicesFor(service.id, service.address);
    return {all.begin() + 1, all.end()};
  }
  const bool both = !ipv4 && !service.ipv6_only;
  std::vector<HostService> against;
  for (const HostService& all :
       {HostService{.id = service.id, .address = kAllIpv4},
        HostService{.id = service.id},
        HostService{.id = service.id, .address = kAll, .ipv6_only = true}}) {
    const bool apart = (ipv4 && all.ipv6_only) ||
                       (service.ipv6_only && all.address == kAllIpv4);
    if (all != service && !apart) against.push_back(all);
  }
  for (const Gid& address : local) {
    if (both || IsIpv4(address) == ipv4) {
      against.push_back({.id = service.id, .address = address});
    }
  }
  return against;
}

}  // namespace

std::array<HostService, 3> ServicesFor(uint64_t id, const Gid& address) {
  const bool ipv4 = IsIpv4(address);
  return {HostService{.id = id, .address = address},
          HostService{
              .id = id, .address = ipv4 ? kAllIpv4 : kAll, .ipv6_only = !ipv4},
          HostService{.id = id}};
}

absl::Status Services::Claim(const HostService& service,
                             std::span<const Gid> local) {
  if (const auto claim = claims_.find(service); claim != claims_.end()) {
    ++claim->second.times;
    return absl::OkStatus();
  }
  const std::string name = names_.Service(service);
  auto socket = UnixSocket::Bind(name);
  if (absl::IsAlreadyExists(socket.status()) && IsAtAll(service)) {
    return absl::FailedPreconditionError(
        absl::StrCat("another process has ", name));
  }
  if (!socket.ok()) return Annotate(socket.status(), name);
  // Its own name first, then the others': of two that do so at the same time,
  // one at least sees the other.
  for (const HostService& other : Against(service, local)) {
    if (Elsewhere(other)) {
      return absl::FailedPreconditionError(
          absl::StrCat(name, ": another process has ", names_.Service(other)));
    }
  }
  const uint32_t number = next_number_++;
  ND_RETURN_IF_ERROR(events_.Add(
      socket->fd(), {.kind = EventToken::Kind::kService, .number = number}));
  claims_.emplace(
      service, ClaimedService{.socket = *std::move(socket), .number = number});
  return absl::OkStatus();
}

bool Services::Elsewhere(const HostService& service) const {
  return !Has(service) && UnixSocket::Exists(names_.Service(service));
}

void Services::Release(const HostService& service) {
  const auto claim = claims_.find(service);
  if (claim == claims_.end() || --claim->second.times > 0) return;
  events_.Remove(claim->second.socket.fd());
  claims_.erase(claim);
}

const UnixSocket* Services::SocketOf(uint32_t number) const {
  const auto claim = std::ranges::find_if(claims_, [number](const auto& entry) {
    return entry.second.number == number;
  });
  return claim == claims_.end() ? nullptr : &claim->second.socket;
}

}  // namespace nd::soft
