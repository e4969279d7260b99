// The values of session.h as messages of proto/nd/v1/control.proto, and back.
#ifndef ND_CONTROL_SESSION_MESSAGES_H_
#define ND_CONTROL_SESSION_MESSAGES_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "control/session.h"
#include "nd/v1/control.pb.h"

namespace nd::control {

inline constexpr size_t kMaxText = 1024;       // bytes for people
inline constexpr size_t kMaxClientName = 255;  // bytes

// Not checked: CheckLayout, CheckLinkLayout and CheckRegion do that, and refuse
// what an enum of an unknown value becomes.
SessionLayout FromMessage(const v1::SessionLayout& message);
LinkLayout FromMessage(const v1::LinkLayout& message);
LinkId FromMessage(const v1::Link& message);
Region FromMessage(const v1::Region& message);

v1::SessionLayout ToMessage(const SessionLayout& layout);
v1::LinkLayout ToMessage(const LinkLayout& layout);
v1::Link ToMessage(const LinkId& link);
v1::Region ToMessage(const Region& region);

// The token has 16 bytes, the port is not 0, the address is numeric. An empty
// one becomes `reached`, where the server was reached.
absl::StatusOr<LinkPass> FromMessage(const v1::Pass& message,
                                     const verbs::SocketAddress& reached);
// A wildcard becomes an empty address.
v1::Pass ToMessage(const LinkPass& pass);

// Texts are cut at kMaxText, between characters.
v1::Reason ToMessage(const absl::Status& why);
// INVALID_ARGUMENT names the field.
absl::Status CheckReason(const v1::Reason& reason);
// A code that is none becomes UNKNOWN.
absl::Status FromMessage(const v1::Reason& reason);

v1::WatchEvent ToMessage(const SessionEvent& event);
// Nothing for WatchStarted and for what this version does not know.
std::optional<SessionEvent> FromMessage(const v1::WatchEvent& message);

// INVALID_ARGUMENT, "versions: 7, 9, of which this server speaks none, only 1".
absl::StatusOr<uint32_t> ChooseVersion(const v1::OpenSessionRequest& request);

}  // namespace nd::control

#endif  // ND_CONTROL_SESSION_MESSAGES_H_
