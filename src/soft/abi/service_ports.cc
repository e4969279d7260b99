#include "soft/abi/service_ports.h"

namespace nd::soft {
namespace {

// Ports that chance picks and another process turns out to have.
constexpr int kTries = 64;

HostService ServiceOf(const PortTable::Binding& binding, uint16_t port) {
  const Gid& ip = binding.local.ip;
  HostService service{.id = ServiceId(binding.space, port), .address = ip};
  const bool all = binding.loopback || IsWildcard(ip);
  if (!all) return service;
  service.address = IsIpv4(ip) ? Mapped(Gid{}) : Gid{};
  service.ipv6_only = binding.ipv6_only && !IsIpv4(ip);
  return service;
}

}  // namespace

absl::Status ServicePorts::Announce(Owned& owned) {
  int& count = announced_[owned.service];
  if (count == 0) {
    if (absl::Status claimed = network_.ClaimService(owned.service);
        !claimed.ok()) {
      announced_.erase(owned.service);
      return claimed;
    }
  }
  ++count;
  owned.announced = true;
  return absl::OkStatus();
}

absl::StatusOr<PortTable::Bound> ServicePorts::Bind(
    const PortTable::Binding& binding, bool announced) {
  const int tries = binding.local.port == 0 ? kTries : 1;
  absl::Status taken;
  for (int i = 0; i < tries; ++i) {
    auto bound = table_.Bind(binding, random_);
    if (!bound.ok()) return bound.status();
    Owned owned{.service = ServiceOf(binding, bound->port)};
    taken = announced ? Announce(owned) : absl::OkStatus();
    if (taken.ok()) {
      owned_[bound->claim] = owned;
      return bound;
    }
    table_.Release(bound->claim);
    const bool by_another =
        absl::IsAlreadyExists(taken) || absl::IsFailedPrecondition(taken);
    if (!by_another) break;
  }
  return taken;
}

absl::Status ServicePorts::Listen(PortClaim claim) {
  if (absl::Status status = table_.Listen(claim); !status.ok()) return status;
  Owned& owned = owned_.at(claim);
  return owned.announced ? absl::OkStatus() : Announce(owned);
}

void ServicePorts::Release(PortClaim claim) {
  const auto found = owned_.find(claim);
  if (found == owned_.end()) return;
  const Owned owned = found->second;
  owned_.erase(found);
  table_.Release(claim);
  if (!owned.announced) return;
  const auto count = announced_.find(owned.service);
  if (--count->second > 0) return;
  announced_.erase(count);
  network_.ReleaseService(owned.service);
}

}  // namespace nd::soft
