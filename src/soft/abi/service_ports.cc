#include "soft/abi/service_ports.h"

namespace nd::soft {
namespace {

// Ports that chance picks and another process turns out to have.
constexpr int kTries = 64;

}  // namespace

absl::Status ServicePorts::Announce(Owned& owned) {
  int& count = announced_[owned.service_id];
  if (count == 0) {
    if (absl::Status claimed = network_.ClaimService(owned.service_id);
        !claimed.ok()) {
      announced_.erase(owned.service_id);
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
    Owned owned{.service_id = ServiceId(binding.space, bound->port)};
    taken = announced ? Announce(owned) : absl::OkStatus();
    if (taken.ok()) {
      owned_[bound->claim] = owned;
      return bound;
    }
    table_.Release(bound->claim);
    if (!absl::IsAlreadyExists(taken)) break;
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
  const auto count = announced_.find(owned.service_id);
  if (--count->second > 0) return;
  announced_.erase(count);
  network_.ReleaseService(owned.service_id);
}

}  // namespace nd::soft
