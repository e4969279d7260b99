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

GsiTarget GsiRouter::TargetOf(std::span<const std::byte> mad) {
  const std::optional<CmMad> parsed = ParseCmMad(mad);
  if (!parsed.has_value()) return NobodyTarget();
  if (const auto* req = std::get_if<CmReq>(&parsed->message)) {
    Remember(*parsed, *req);
  }
  const auto* rej = std::get_if<CmRej>(&parsed->message);
  if (rej != nullptr && rej->remote_id == CommId()) {
    return TargetOfRefused(*parsed, *rej);
  }
  return std::visit(TargetOfMessage(), parsed->message);
}

void GsiRouter::Remember(const CmMad& mad, const CmReq& req) {
  const Request request{.transaction_id = mad.transaction_id,
                        .sender = req.local_id,
                        .service_id = req.service_id};
  if (requests_.size() < kRequests) {
    requests_.push_back(request);
    return;
  }
  requests_[next_] = request;
  next_ = (next_ + 1) % kRequests;
}

GsiTarget GsiRouter::TargetOfRefused(const CmMad& mad, const CmRej& rej) const {
  for (const Request& request : requests_) {
    if (request.transaction_id == mad.transaction_id &&
        request.sender == rej.local_id) {
      return ServiceTarget{.service_id = request.service_id};
    }
  }
  return NobodyTarget();
}

}  // namespace nd::soft
