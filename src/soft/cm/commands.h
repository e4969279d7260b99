// What the communication manager is asked for.
#ifndef ND_SOFT_CM_COMMANDS_H_
#define ND_SOFT_CM_COMMANDS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "soft/cm/address.h"
#include "soft/cm/timing.h"
#include "soft/wire/mad.h"

namespace nd::soft {

// A listener, a connection or a datagram address look-up, as the application
// names it. Never used twice; 0 is none.
enum class CmHandle : uint64_t {};

enum class CmTransport : uint8_t { kRc = 0, kUc = 1 };

using PrivateDataView = std::span<const uint8_t>;

// What the application may add to a message: what the message holds, less what
// rdma_cm itself puts there.
inline constexpr size_t kReqUserBytes =
    CmReq::kPrivateBytes - RdmaCmHeader::kSize;
inline constexpr size_t kSidrReqUserBytes =
    CmSidrReq::kPrivateBytes - RdmaCmHeader::kSize;

// The device that the connections are of.
struct CmDevice {
  uint64_t guid = 0;
  std::vector<Gid> gids{};  // by index; a REQ to any other is refused
  uint8_t max_path_mtu = 5;
  uint8_t max_responder_resources = 128;
  uint8_t max_initiator_depth = 128;
  uint8_t ack_delay = 15;
};

struct CmListenOptions {
  PortSpace space = PortSpace::kTcp;
  CmTransport transport = CmTransport::kRc;
  CmEndpoint local{};  // a wildcard address takes all
  bool ipv6_only = false;
  int backlog = 0;  // requests not fetched yet; 0 or too many: the maximum
};

struct CmConnectOptions {
  PortSpace space = PortSpace::kTcp;
  CmTransport transport = CmTransport::kRc;
  CmEndpoints endpoints{};
  Qpn qpn{};
  bool srq = false;
  uint8_t responder_resources = 0;
  uint8_t initiator_depth = 0;
  bool flow_control = false;
  uint8_t retry_count = 7;
  uint8_t rnr_retry_count = 7;
  uint8_t path_mtu = 3;
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 64;
  uint8_t packet_life_time = kPacketLifeTime;
  PrivateDataView private_data{};  // at most kReqUserBytes
};

struct CmAcceptOptions {
  Qpn qpn{};
  bool srq = false;
  uint8_t responder_resources = 0;
  uint8_t initiator_depth = 0;
  bool flow_control = false;
  uint8_t rnr_retry_count = 7;
  PrivateDataView private_data{};
};

// Where a datagram address look-up starts from.
struct SidrResolveOptions {
  PortSpace space = PortSpace::kUdp;
  CmEndpoints endpoints{};
  PrivateDataView private_data{};  // at most kSidrReqUserBytes
};

// The QP that a look-up finds.
struct SidrAcceptOptions {
  Qpn qpn{};
  Qkey qkey{};
  PrivateDataView private_data{};
};

}  // namespace nd::soft

#endif  // ND_SOFT_CM_COMMANDS_H_
