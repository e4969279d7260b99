// What rdma_cm's character device knows of an id that it gave out.
#ifndef ND_SOFT_ABI_UCMA_ID_H_
#define ND_SOFT_ABI_UCMA_ID_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "soft/abi/ucma_host.h"
#include "soft/abi/ucma_sockaddr.h"
#include "soft/cm/commands.h"
#include "soft/cm/port_table.h"
#include "soft/wire/gid.h"

namespace nd::soft {

// The values of enum ibv_qp_type.
enum class UcmaQpType : uint8_t { kRc = 2, kUc = 3, kUd = 4 };

// What a path record says.
struct UcmaPath {
  Gid source{};
  Gid destination{};
  uint32_t flow_label = 0;
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 0;
  uint8_t mtu = 0;  // enum ibv_mtu
  uint8_t packet_life_time = 0;

  bool operator==(const UcmaPath&) const = default;
};

struct UcmaId {
  // The order of a client's life: kIdle to kConnected. A listener leaves kBound
  // for kListening; what it gets begins as kConnected.
  enum class State : uint8_t {
    kIdle,
    kBound,
    kAddressResolved,
    kRouteResolved,
    kConnected,  // or about to be, or no longer
    kListening,
  };

  bool datagram() const { return type == UcmaQpType::kUd; }
  // Whether it is known which addresses of the device it uses.
  bool on_device() const { return source.has_value(); }

  uint32_t number = 0;
  UcmaFile file{};
  uint64_t uid = 0;  // the application's name for it; 0: not known yet
  uint16_t space = 0;
  UcmaQpType type = UcmaQpType::kRc;
  State state = State::kIdle;
  bool fetched = true;  // false: its kConnectRequest waits still
  uint32_t events_waiting = 0;
  uint32_t events_reported = 0;

  bool reuse_address = false;
  bool ipv6_only = false;
  uint8_t tos = 0;
  std::optional<uint8_t> ack_timeout{};

  // As the application sees them.
  UcmaSockaddr local{};
  UcmaSockaddr remote{};
  std::optional<PortClaim> claim{};
  bool announced = false;  // the port, so that it can be listened to

  std::optional<Gid> source{};
  std::optional<Gid> destination{};
  std::optional<UcmaPath> path{};
  CmHandle handle{};              // the manager's, once there is one
  std::vector<uint32_t> joins{};  // of multicast groups, by their numbers
};

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_UCMA_ID_H_
