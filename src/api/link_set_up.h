// One connection of a session, from rdma_cm's first word to its first credit.
#ifndef ND_API_LINK_SET_UP_H_
#define ND_API_LINK_SET_UP_H_

#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api/session_impl.h"
#include "base/clock.h"
#include "control/session.h"
#include "verbs/address.h"
#include "verbs/cm.h"

namespace nd::api {

// Both block, and are not for the reactor's thread.

// Tells the peer how this end of a link is laid out, or waits for the peer's
// word; returns how the peer's is.
using Exchange = std::function<absl::StatusOr<control::LinkLayout>(
    const control::LinkLayout& own)>;

// The client's end: shows the pass to the listener, and opens the link once the
// server has answered `exchange`.
absl::Status ConnectLink(SessionImpl& session, control::LinkId link,
                         const control::LinkPass& pass,
                         const std::optional<verbs::SocketAddress>& from,
                         const Exchange& exchange, const Deadline& deadline);

// The server's end: answers a request that showed a pass for this link, and
// opens it once the client has said how its end is laid out. Returns how this
// one is.
absl::StatusOr<control::LinkLayout> AcceptLink(
    SessionImpl& session, control::LinkId link,
    std::unique_ptr<verbs::CmId> request, const Exchange& exchange,
    const Deadline& deadline);

}  // namespace nd::api

#endif  // ND_API_LINK_SET_UP_H_
