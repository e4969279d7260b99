#include "soft/net/gsi_target.h"

#include <optional>

#include "soft/net/network.h"
#include "soft/wire/mad.h"

namespace nd::soft {
namespace {

// The receiver's name for what the message is about. No process has slot 0.
GsiTarget OwnerOf(CommId id) {
  const uint32_t slot = SlotOf(id);
  if (slot == 0) return NobodyTarget();
  return SlotTarget{.slot = slot};
}

struct TargetOfMessage {
  GsiTarget operator()(const CmReq& req) const {
    return ServiceTarget{.service_id = req.service_id};
  }
  GsiTarget operator()(const CmSidrReq& req) const {
    return ServiceTarget{.service_id = req.service_id};
  }
  GsiTarget operator()(const CmSidrRep& rep) const {
    return OwnerOf(rep.request_id);
  }
  template <typename Message>
  GsiTarget operator()(const Message& message) const {
    return OwnerOf(message.remote_id);
  }
};

}  // namespace

GsiTarget GsiTargetOf(std::span<const std::byte> mad) {
  const std::optional<CmMad> parsed = ParseCmMad(mad);
  if (!parsed.has_value()) return NobodyTarget();
  return std::visit(TargetOfMessage(), parsed->message);
}

}  // namespace nd::soft
