// Whom a packet to QP1 concerns.
#ifndef ND_SOFT_NET_GSI_TARGET_H_
#define ND_SOFT_NET_GSI_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "soft/wire/mad.h"

namespace nd::soft {

struct NobodyTarget {
  bool operator==(const NobodyTarget&) const = default;
};
// The process that has the slot.
struct SlotTarget {
  uint32_t slot = 0;
  bool operator==(const SlotTarget&) const = default;
};
// The process that has claimed the service.
struct ServiceTarget {
  uint64_t service_id = 0;
  bool operator==(const ServiceTarget&) const = default;
};
using GsiTarget = std::variant<NobodyTarget, SlotTarget, ServiceTarget>;

// Decides by the management datagram that is the packet's payload. One thread
// at a time.
class GsiRouter {
 public:
  GsiTarget TargetOf(std::span<const std::byte> mad);

 private:
  // A REQ that passed. What takes it back before it was answered names nothing
  // of the receiver's, but has its transaction and its sender's name for it.
  struct Request {
    uint64_t transaction_id = 0;
    CommId sender{};
    uint64_t service_id = 0;
  };
  static constexpr size_t kRequests = 1024;  // the newest

  void Remember(const CmMad& mad, const CmReq& req);
  GsiTarget TargetOfRefused(const CmMad& mad, const CmRej& rej) const;

  std::vector<Request> requests_;
  size_t next_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_GSI_TARGET_H_
