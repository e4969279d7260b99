// What the communication manager says: events, QP parameters, MADs to send.
#ifndef ND_SOFT_CM_EVENTS_H_
#define ND_SOFT_CM_EVENTS_H_

#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "soft/cm/commands.h"
#include "soft/wire/mad.h"

namespace nd::soft {

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

#endif  // ND_SOFT_CM_EVENTS_H_
