// What the two ends of a session tell each other, as values:
// proto/nd/v1/control.proto in C++, where units and ranges are written down.
#ifndef ND_CONTROL_SESSION_H_
#define ND_CONTROL_SESSION_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "control/layout.h"
#include "control/token.h"
#include "verbs/address.h"

namespace nd::control {

// The version of docs/wire.md that this code sets up.
inline constexpr uint32_t kSessionVersion = 1;

// One side's end of a link.
struct LinkLayout {
  uint64_t send_depth = 0;
  uint64_t receive_depth = 0;
  uint64_t ring_address = 0;
  uint32_t ring_rkey = 0;
  uint64_t ring_size = 0;
  uint64_t max_rd_atomic = 0;
  uint64_t max_dest_rd_atomic = 0;
  uint64_t path_mtu = 0;
  bool operator==(const LinkLayout&) const = default;
};

// INVALID_ARGUMENT, "link_layout.path_mtu: 1000 is ...", unless every field is
// in its range and fits the session's layout.
absl::Status CheckLinkLayout(const LinkLayout& link,
                             const SessionLayout& session);

struct RegionAccess {
  bool read = false;
  bool write = false;
  bool atomic = false;
  bool operator==(const RegionAccess&) const = default;
};

// Memory that the peer of its owner may use without asking.
struct Region {
  uint64_t id = 0;  // given out when it is published
  uint64_t address = 0;
  uint64_t size = 0;
  uint32_t rkey = 0;
  RegionAccess access;
  bool operator==(const Region&) const = default;
};

inline constexpr size_t kMaxRegionName = 255;

// INVALID_ARGUMENT, "region.size: 0 is below 1".
absl::Status CheckRegion(absl::string_view name, const Region& region);

// The right to make some of a session's connections.
struct LinkPass {
  verbs::SocketAddress endpoint;  // the server's rdma_cm listener
  Token token;
  Duration token_lifetime{};
  std::vector<LinkId> links;
};

// What happens at the server's end, as Watch tells.
struct Draining {
  std::string text;
  Duration grace{};
  bool operator==(const Draining&) const = default;
};
struct RegionWithdrawn {
  std::string name;
  uint64_t id = 0;
  bool operator==(const RegionWithdrawn&) const = default;
};
struct SessionClosed {
  absl::Status why;
  bool operator==(const SessionClosed&) const = default;
};
using SessionEvent = std::variant<Draining, RegionWithdrawn, SessionClosed>;

// "session 00000000075bcd15"
std::string SessionName(uint64_t id);

}  // namespace nd::control

#endif  // ND_CONTROL_SESSION_H_
