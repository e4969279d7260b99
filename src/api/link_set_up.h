// One connection of a session, from rdma_cm's first word to its first credit.
#ifndef ND_API_LINK_SET_UP_H_
#define ND_API_LINK_SET_UP_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api/session_impl.h"
#include "base/clock.h"
#include "control/session.h"
#include "verbs/cm.h"

namespace nd::api {

// Both block, and are not for the reactor's thread.

// The client's end: shows the pass to the listener, and opens the link once
// `exchange` has told the server how this end is laid out.
absl::Status ConnectLink(
    SessionImpl& session, control::LinkId link, const control::LinkPass& pass,
    const std::function<absl::Status(const control::LinkLayout&)>& exchange,
    const Deadline& deadline);

// The server's end: answers a request that showed a pass for this link. Returns
// how this end is laid out.
absl::StatusOr<control::LinkLayout> AcceptLink(
    SessionImpl& session, control::LinkId link,
    std::unique_ptr<verbs::CmId> request, const Deadline& deadline);

}  // namespace nd::api

#endif  // ND_API_LINK_SET_UP_H_
