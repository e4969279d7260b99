// What goes into the communication manager and comes out of it.
#ifndef ND_SOFT_CM_TYPES_H_
#define ND_SOFT_CM_TYPES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
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
  CmEndpoints endpoints{};
  PrivateDataView private_data{};  // at most kSidrReqUserBytes
};

// The QP that a look-up finds.
struct SidrAcceptOptions {
  Qpn qpn{};
  Qkey qkey{};
  PrivateDataView private_data{};
};

enum class QpStage : uint8_t { kInit, kRtr, kRts };

// What a QP's owner needs to bring it to INIT, RTR and RTS.
struct CmQpParams {
  // INIT. Remote writes are always allowed.
  bool remote_read_and_atomic = false;
  // RTR
  Gid source{};
  Gid destination{};
  uint32_t flow_label = 0;
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 0;
  uint8_t path_mtu = 0;
  Qpn remote_qpn{};
  Psn rq_psn{};
  uint8_t max_dest_rd_atomic = 0;
  uint8_t min_rnr_timer = 0;
  // RTS
  Psn sq_psn{};
  uint8_t ack_timeout = 0;
  uint8_t retry_count = 0;
  uint8_t rnr_retry_count = 0;
  uint8_t max_rd_atomic = 0;

  bool operator==(const CmQpParams&) const = default;
};

enum class CmEventType : uint8_t {
  kConnectRequest,
  kConnectResponse,  // the requester's; it answers with Establish or Reject
  kEstablished,      // the acceptor's, and the outcome of a look-up
  kRejected,
  kUnreachable,
  kDisconnected,
  kTimewaitExit,
};

// What the peer said of its QP, seen from here: `responder_resources` is what
// this end may be asked to serve.
struct CmPeerParams {
  Qpn qpn{};
  Qkey qkey{};
  uint8_t responder_resources = 0;
  uint8_t initiator_depth = 0;
  bool flow_control = false;
  uint8_t retry_count = 0;
  uint8_t rnr_retry_count = 0;
  bool srq = false;

  bool operator==(const CmPeerParams&) const = default;
};

struct CmEvent {
  CmEventType type{};
  CmHandle handle{};
  CmHandle listener{};      // kConnectRequest: who it is for; `handle` is new
  CmEndpoints endpoints{};  // kConnectRequest: `local` is the requester
  CmPeerParams peer{};      // kConnectRequest, kConnectResponse, look-ups
  RejectReason reason{};    // kRejected
  uint8_t sidr_status = 0;  // kUnreachable: why a look-up was refused, or 0
  bool timed_out = false;   // kUnreachable, kDisconnected: nobody answered
  std::vector<uint8_t> private_data{};  // all that the message holds
};

// A MAD between two QP1s.
struct CmDatagram {
  Gid source{};
  Gid destination{};
  CmMad mad{};
};

struct CmOutput {
  std::vector<CmDatagram> datagrams;
  std::vector<CmEvent> events;
};

// One step of the machines: when it happens, where chance comes from, where
// what it makes goes.
struct CmTurn {
  Instant now;
  Random& random;
  CmOutput& out;
};

}  // namespace nd::soft

#endif  // ND_SOFT_CM_TYPES_H_
