// Who gives out the right to make a session's connections.
#ifndef ND_CONTROL_LINK_INVITER_H_
#define ND_CONTROL_LINK_INVITER_H_

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "control/session.h"

namespace nd::control {

// The listener's side of it is ConnectionBroker. Thread-safe.
class LinkInviter {
 public:
  virtual ~LinkInviter() = default;

  // A new token for these links, each once; links of these numbers that earlier
  // tokens of the session would let in are void. Where the endpoint's address
  // is a wildcard, any of the host's serves.
  virtual absl::StatusOr<LinkPass> InviteLinks(
      uint64_t session, std::span<const LinkId> links) = 0;

  // No token lets anybody into that session any more.
  virtual void WithdrawLinks(uint64_t session) = 0;
};

}  // namespace nd::control

#endif  // ND_CONTROL_LINK_INVITER_H_
