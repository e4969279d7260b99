#include "soft/cm/port_table.h"

#include <algorithm>

#include "base/status.h"

namespace nd::soft {
namespace {

constexpr uint32_t kEphemeralPorts =
    PortTable::kLastEphemeral - PortTable::kFirstEphemeral + 1;

bool OneFamilyOnly(const PortTable::Binding& binding) {
  return IsIpv4(binding.local.ip) || binding.ipv6_only;
}

bool TakesAll(const PortTable::Binding& binding) {
  return binding.loopback || IsWildcard(binding.local.ip);
}

// Of the same port.
absl::Status Collision(const PortTable::Binding& a,
                       const PortTable::Binding& b) {
  const bool same_family = IsIpv4(a.local.ip) == IsIpv4(b.local.ip);
  if (!same_family && OneFamilyOnly(a) && OneFamilyOnly(b)) {
    return absl::OkStatus();
  }
  if (TakesAll(a) || TakesAll(b)) {
    return absl::FailedPreconditionError("the port is in use at all addresses");
  }
  if (a.local.ip != b.local.ip) return absl::OkStatus();
  return absl::AlreadyExistsError("the port is in use at this address");
}

}  // namespace

absl::StatusOr<PortTable::Bound> PortTable::Bind(const Binding& binding,
                                                 Random& random) {
  uint16_t port = binding.local.port;
  if (port == 0) port = PickEphemeral(binding.space, random);
  if (port == 0) return absl::ResourceExhaustedError("no port is left");
  const Key key{binding.space, port};
  if (const auto found = owners_.find(key); found != owners_.end()) {
    for (const Owner& owner : found->second) {
      if (binding.reuse_address && owner.binding.reuse_address) continue;
      ND_RETURN_IF_ERROR(Collision(binding, owner.binding));
    }
  }
  const PortClaim claim{++last_claim_};
  owners_[key].push_back({.claim = claim, .binding = binding});
  keys_.emplace(claim, key);
  return Bound{.claim = claim, .port = port};
}

absl::Status PortTable::Listen(PortClaim claim) {
  const auto key = keys_.find(claim);
  if (key == keys_.end()) return absl::NotFoundError("no such port claim");
  const std::vector<Owner>& owners = owners_.at(key->second);
  const auto self = std::ranges::find(owners, claim, &Owner::claim);
  for (const Owner& owner : owners) {
    if (owner.claim == claim) continue;
    ND_RETURN_IF_ERROR(Collision(self->binding, owner.binding));
  }
  return absl::OkStatus();
}

void PortTable::Release(PortClaim claim) {
  const auto key = keys_.find(claim);
  if (key == keys_.end()) return;
  std::vector<Owner>& owners = owners_.at(key->second);
  std::erase_if(owners,
                [claim](const Owner& owner) { return owner.claim == claim; });
  if (owners.empty()) owners_.erase(key->second);
  keys_.erase(key);
}

// A port that nobody has at all, or 0.
uint16_t PortTable::PickEphemeral(PortSpace space, Random& random) const {
  const auto start = static_cast<uint32_t>(random.Below(kEphemeralPorts));
  for (uint32_t i = 0; i < kEphemeralPorts; ++i) {
    const auto port =
        static_cast<uint16_t>(kFirstEphemeral + (start + i) % kEphemeralPorts);
    if (!owners_.contains(Key{space, port})) return port;
  }
  return 0;
}

}  // namespace nd::soft
