//   requester                                      acceptor
//
//             kIdle                                 kIdle
//     Connect   |  REQ ->                -> REQ       |
//               v                                     v
//   +------ kReqSent ------+                    kReqReceived  (a REQ again:
//   | MRA      |           | REP           Accept     |        MRA ->)
//   v          | REP       |               REP ->     v          MRA
//   kMraReq-   |           |                       kRepSent <--------> kMraRep-
//   Received --+-----------+                          |      (REP ->)  Received
//   (REQ ->)   v                                      |                    |
//           kRepReceived  (a REP again: MRA ->)       | RTU or a packet    |
//    Establish |  RTU ->                              |                    |
//              v                                      v                    |
//          kEstablished  (a REP again: RTU ->)   kEstablished <------------+
//
//                   either end, once established
//
//                         kEstablished
//           Disconnect  |             | DREQ
//           DREQ ->     v             v
//                   kDreqSent    kDreqReceived
//          DREP, or a   |             |  Disconnect
//          DREQ: DREP-> |             |  DREP ->
//                       +-> kTimewait <-+  (a DREQ again: DREP ->)
//                               |  its time is up
//                               v
//                            kClosed
//
// A REJ, received or sent, leads from where a REQ or REP is under way to
// kClosed. So does the end of the retries there; that of a DREQ's leads to
// kTimewait. Who sends an MRA stays where he is: it only makes the peer wait.
// An abandoned machine goes on until it is closed.
#include "soft/cm/connection.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "soft/cm/private_data.h"

namespace nd::soft {
namespace {

// Which message an MRA answers or a REJ refuses (12.6.6, 12.6.7).
constexpr uint8_t kOfReq = 0;
constexpr uint8_t kOfRep = 1;
constexpr uint8_t kOfOther = 2;

// No QP shall wait for hours because its peer says that it is slow.
constexpr uint8_t kMaxTargetAckDelay = 20;

absl::Status WrongState() {
  return absl::FailedPreconditionError("not in this state of the connection");
}

Psn DrawPsn(Random& random) {
  return Psn(static_cast<uint32_t>(random.Below(Psn::kMask + 1)));
}

}  // namespace

Connection::Connection(const CmDevice& device, Identity identity)
    : device_(device), identity_(identity) {}

// The requester's commands.

absl::Status Connection::Connect(const CmConnectOptions& options,
                                 CmTurn& turn) {
  switch (state_) {
    case State::kIdle:
      break;
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kRepReceived:
    case State::kEstablished:
    case State::kDreqSent:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      return WrongState();
  }
  if (auto status = CheckPrivateData(options.private_data, kReqUserBytes);
      !status.ok()) {
    return status;
  }
  requester_ = true;
  transaction_id_ = turn.random.Next();
  local_qpn_ = options.qpn;
  packet_life_time_ = options.packet_life_time;
  params_ = {
      .remote_read_and_atomic = options.responder_resources > 0,
      .source = options.endpoints.local.ip,
      .destination = options.endpoints.remote.ip,
      .flow_label = FlowLabel(options.endpoints),
      .traffic_class = options.traffic_class,
      .hop_limit = options.hop_limit,
      .path_mtu = options.path_mtu,
      .rq_psn = DrawPsn(turn.random),
      .ack_timeout = AckTimeout(device_.ack_delay, options.packet_life_time),
      .retry_count = options.retry_count,
      .rnr_retry_count = options.rnr_retry_count};
  schedule_ = {.every = IbTime(kCmResponseTimeout) +
                        2 * IbTime(options.packet_life_time),
               .retries = kMaxCmRetries};
  CmReq req{
      .local_id = identity_.local_id,
      .service_id = ServiceId(options.space, options.endpoints.remote.port),
      .ca_guid = device_.guid,
      .qpn = options.qpn,
      .responder_resources = options.responder_resources,
      .initiator_depth = options.initiator_depth,
      .remote_response_timeout = kCmResponseTimeout,
      .transport = static_cast<uint8_t>(options.transport),
      .flow_control = options.flow_control,
      .starting_psn = params_.rq_psn,
      .local_response_timeout = kCmResponseTimeout,
      .retry_count = options.retry_count,
      .path_mtu = options.path_mtu,
      .rnr_retry_count = options.rnr_retry_count,
      .max_cm_retries = kMaxCmRetries,
      .srq = options.srq,
      .local_gid = params_.source,
      .remote_gid = params_.destination,
      .flow_label = params_.flow_label,
      .traffic_class = options.traffic_class,
      .hop_limit = options.hop_limit,
      .local_ack_timeout = params_.ack_timeout};
  StoreWithHeader(MakeHeader(options.endpoints), options.private_data,
                  req.private_data);
  SendRepeatedly(req, State::kReqSent, turn);
  return absl::OkStatus();
}

absl::Status Connection::Establish(CmTurn& turn) {
  switch (state_) {
    case State::kRepReceived:
      state_ = State::kEstablished;
      SendRtu(turn);
      return absl::OkStatus();
    case State::kIdle:
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kEstablished:
    case State::kDreqSent:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      break;
  }
  return WrongState();
}

// The acceptor's commands.

absl::Status Connection::Accept(const CmAcceptOptions& options, CmTurn& turn) {
  switch (state_) {
    case State::kReqReceived:
      break;
    case State::kIdle:
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kRepReceived:
    case State::kEstablished:
    case State::kDreqSent:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      return WrongState();
  }
  if (auto status =
          CheckPrivateData(options.private_data, CmRep::kPrivateBytes);
      !status.ok()) {
    return status;
  }
  local_qpn_ = options.qpn;
  // 12.7.29 and 12.7.30: never more than the REQ offered.
  params_.max_dest_rd_atomic =
      std::min(options.responder_resources, params_.max_dest_rd_atomic);
  params_.max_rd_atomic =
      std::min(options.initiator_depth, params_.max_rd_atomic);
  params_.remote_read_and_atomic = params_.max_dest_rd_atomic > 0;
  CmRep rep{.local_id = identity_.local_id,
            .remote_id = remote_id_,
            .qpn = options.qpn,
            .starting_psn = params_.rq_psn,
            .responder_resources = params_.max_dest_rd_atomic,
            .initiator_depth = params_.max_rd_atomic,
            .target_ack_delay = device_.ack_delay,
            .flow_control = options.flow_control,
            .rnr_retry_count = options.rnr_retry_count,
            .srq = options.srq,
            .ca_guid = device_.guid};
  StorePrivateData(options.private_data, rep.private_data);
  SendRepeatedly(rep, State::kRepSent, turn);
  return absl::OkStatus();
}

// Either end's commands.

absl::Status Connection::Reject(PrivateDataView private_data, CmTurn& turn) {
  if (auto status = CheckPrivateData(private_data, CmRej::kPrivateBytes);
      !status.ok()) {
    return status;
  }
  switch (state_) {
    case State::kReqReceived:
      SendRej(RejectReason::kConsumer, kOfReq, private_data, turn);
      Close();
      return absl::OkStatus();
    case State::kRepReceived:
      SendRej(RejectReason::kConsumer, kOfRep, private_data, turn);
      Close();
      return absl::OkStatus();
    case State::kIdle:
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kEstablished:
    case State::kDreqSent:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      break;
  }
  return WrongState();
}

absl::Status Connection::Disconnect(PrivateDataView private_data,
                                    CmTurn& turn) {
  if (auto status = CheckPrivateData(private_data, CmDreq::kPrivateBytes);
      !status.ok()) {
    return status;
  }
  switch (state_) {
    case State::kEstablished:
      SendDreq(private_data, turn);
      return absl::OkStatus();
    case State::kDreqReceived:
      SendDrep(private_data, turn);
      EnterTimewait(turn);
      return absl::OkStatus();
    case State::kDreqSent:
    case State::kTimewait:
      return absl::OkStatus();
    case State::kIdle:
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kRepReceived:
    case State::kClosed:
      break;
  }
  return WrongState();
}

void Connection::Abandon(CmTurn& turn) {
  abandoned_ = true;
  switch (state_) {
    case State::kReqSent:
    case State::kMraReqReceived:
      SendRej(RejectReason::kTimeout, kOfOther, {}, turn);
      Close();
      return;
    case State::kReqReceived:
      SendRej(RejectReason::kConsumer, kOfReq, {}, turn);
      Close();
      return;
    case State::kRepReceived:
      SendRej(RejectReason::kConsumer, kOfRep, {}, turn);
      Close();
      return;
    case State::kRepSent:
    case State::kMraRepReceived:
      // The peer may have had the REP and count itself connected. Nothing
      // answers a REJ, so that a lost one would leave it so: it gets a DREQ
      // later, which it does answer.
      SendRej(RejectReason::kConsumer, kOfOther, {}, turn);
      repeated_ = {.transaction_id = turn.random.Next(),
                   .message = CmDreq{.local_id = identity_.local_id,
                                     .remote_id = remote_id_,
                                     .remote_qpn = params_.remote_qpn}};
      retries_left_ = schedule_.retries;
      deadline_ = turn.now + schedule_.every;
      state_ = State::kDreqSent;
      return;
    case State::kEstablished:
      SendDreq({}, turn);
      return;
    case State::kDreqReceived:
      SendDrep({}, turn);
      EnterTimewait(turn);
      return;
    case State::kDreqSent:
    case State::kTimewait:
    case State::kClosed:
      return;
    case State::kIdle:
      Close();
      return;
  }
}

// Messages.

void Connection::HandleReq(const Request& request, CmTurn& turn) {
  switch (state_) {
    case State::kIdle:
      break;
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kRepReceived:
    case State::kEstablished:
    case State::kDreqSent:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      return;
  }
  const CmReq& req = request.req;
  state_ = State::kReqReceived;
  listener_ = request.listener;
  remote_id_ = req.local_id;
  has_remote_id_ = true;
  remote_guid_ = req.ca_guid;
  transaction_id_ = request.transaction_id;
  params_ = {.remote_read_and_atomic = req.initiator_depth > 0,
             .source = req.remote_gid,
             .destination = req.local_gid,
             .flow_label = req.flow_label,
             .traffic_class = req.traffic_class,
             .hop_limit = req.hop_limit,
             .path_mtu = req.path_mtu,
             .remote_qpn = req.qpn,
             .rq_psn = DrawPsn(turn.random),
             .max_dest_rd_atomic =
                 std::min(req.initiator_depth, device_.max_responder_resources),
             .sq_psn = req.starting_psn,
             .ack_timeout = std::max<uint8_t>(req.local_ack_timeout, 1),
             .retry_count = req.retry_count,
             .rnr_retry_count = req.rnr_retry_count,
             .max_rd_atomic = std::min(req.responder_resources,
                                       device_.max_initiator_depth)};
  schedule_ = {.every = PeerResponseTime(req.local_response_timeout),
               .retries = req.max_cm_retries};
  Emit({.type = CmEventType::kConnectRequest,
        .listener = listener_,
        .endpoints = request.endpoints,
        .peer = {.qpn = req.qpn,
                 .responder_resources = req.initiator_depth,
                 .initiator_depth = req.responder_resources,
                 .flow_control = req.flow_control,
                 .retry_count = req.retry_count,
                 .rnr_retry_count = req.rnr_retry_count,
                 .srq = req.srq},
        .private_data = UserData(req.private_data)},
       turn);
}

void Connection::HandleReqAgain(CmTurn& turn) {
  switch (state_) {
    case State::kReqReceived:
      SendMra(kOfReq, turn);
      return;
    case State::kRepSent:
    case State::kMraRepReceived:
      // The REP was lost or crosses the REQ: the peer need not wait for the
      // timer.
      Send(repeated_.transaction_id, repeated_.message, turn);
      return;
    case State::kTimewait:
      SendRej(RejectReason::kStaleConnection, kOfReq, {}, turn);
      return;
    case State::kIdle:
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kRepReceived:
    case State::kEstablished:
    case State::kDreqSent:
    case State::kDreqReceived:
    case State::kClosed:
      return;
  }
}

void Connection::HandleMra(const CmMra& mra, CmTurn& turn) {
  switch (state_) {
    case State::kReqSent:
      if (mra.message == kOfReq) {
        WaitLonger(mra, State::kMraReqReceived, turn);
      }
      return;
    case State::kRepSent:
      if (mra.message == kOfRep) {
        WaitLonger(mra, State::kMraRepReceived, turn);
      }
      return;
    case State::kIdle:
    case State::kMraReqReceived:
    case State::kReqReceived:
    case State::kMraRepReceived:
    case State::kRepReceived:
    case State::kEstablished:
    case State::kDreqSent:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      return;
  }
}

void Connection::HandleRej(const CmRej& rej, CmTurn& turn) {
  CmEvent event{.type = CmEventType::kRejected,
                .reason = rej.reason,
                .private_data = AllData(rej.private_data)};
  switch (state_) {
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
      Close();
      Emit(std::move(event), turn);
      return;
    // The QP may have sent packets by now.
    case State::kRepReceived:
    case State::kEstablished:
      EnterTimewait(turn);
      Emit(std::move(event), turn);
      return;
    case State::kDreqSent:
      EnterTimewait(turn);
      EmitDisconnected({}, turn);
      return;
    case State::kIdle:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      return;
  }
}

void Connection::HandleRep(const CmRep& rep, CmTurn& turn) {
  switch (state_) {
    case State::kReqSent:
    case State::kMraReqReceived:
      TakeRep(rep);
      state_ = State::kRepReceived;
      deadline_.reset();
      Emit({.type = CmEventType::kConnectResponse,
            .peer = {.qpn = rep.qpn,
                     .qkey = rep.qkey,
                     .responder_resources = rep.initiator_depth,
                     .initiator_depth = rep.responder_resources,
                     .flow_control = rep.flow_control,
                     .retry_count = params_.retry_count,
                     .rnr_retry_count = rep.rnr_retry_count,
                     .srq = rep.srq},
            .private_data = AllData(rep.private_data)},
           turn);
      return;
    case State::kRepReceived:
      SendMra(kOfRep, turn);
      return;
    case State::kEstablished:
      // Only the requester is sent REPs, so this one's RTU was lost.
      if (requester_) SendRtu(turn);
      return;
    case State::kIdle:
    case State::kReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kDreqSent:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      return;
  }
}

void Connection::HandleRtu(const CmRtu& rtu, CmTurn& turn) {
  switch (state_) {
    case State::kRepSent:
    case State::kMraRepReceived:
      state_ = State::kEstablished;
      deadline_.reset();
      Emit({.type = CmEventType::kEstablished,
            .private_data = AllData(rtu.private_data)},
           turn);
      return;
    case State::kIdle:
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kReqReceived:
    case State::kRepReceived:
    case State::kEstablished:
    case State::kDreqSent:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      return;
  }
}

void Connection::HandleDreq(const CmDreq& dreq, uint64_t transaction_id,
                            CmTurn& turn) {
  if (dreq.remote_qpn != local_qpn_) return;
  dreq_transaction_id_ = transaction_id;
  CmEvent event{.private_data = AllData(dreq.private_data)};
  switch (state_) {
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kEstablished:
      state_ = State::kDreqReceived;
      deadline_.reset();
      EmitDisconnected(std::move(event), turn);
      return;
    case State::kDreqSent:
      SendDrep({}, turn);
      EnterTimewait(turn);
      EmitDisconnected(std::move(event), turn);
      return;
    case State::kTimewait:
      SendDrep({}, turn);
      return;
    case State::kIdle:
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kReqReceived:
    case State::kRepReceived:
    case State::kDreqReceived:
    case State::kClosed:
      return;
  }
}

void Connection::HandleDrep(const CmDrep& drep, CmTurn& turn) {
  switch (state_) {
    case State::kDreqSent:
      EnterTimewait(turn);
      EmitDisconnected({.private_data = AllData(drep.private_data)}, turn);
      return;
    case State::kIdle:
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kRepReceived:
    case State::kEstablished:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      return;
  }
}

void Connection::HandleFirstPacket(CmTurn& turn) { HandleRtu({}, turn); }

void Connection::RefuseStaleRep(const CmRep& rep, CmTurn& turn) {
  switch (state_) {
    case State::kReqSent:
    case State::kMraReqReceived:
      remote_id_ = rep.local_id;
      SendRej(RejectReason::kStaleConnection, kOfRep, {}, turn);
      Close();
      Emit({.type = CmEventType::kRejected,
            .reason = RejectReason::kStaleConnection},
           turn);
      return;
    case State::kIdle:
    case State::kReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kRepReceived:
    case State::kEstablished:
    case State::kDreqSent:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      return;
  }
}

void Connection::HandleTimeout(CmTurn& turn) {
  switch (state_) {
    case State::kReqSent:
    case State::kMraReqReceived:
      if (SendAgain(State::kReqSent, turn)) return;
      Close();
      Emit({.type = CmEventType::kUnreachable, .timed_out = true}, turn);
      return;
    case State::kRepSent:
    case State::kMraRepReceived:
      if (SendAgain(State::kRepSent, turn)) return;
      Close();
      Emit({.type = CmEventType::kUnreachable, .timed_out = true}, turn);
      return;
    case State::kDreqSent:
      if (SendAgain(State::kDreqSent, turn)) return;
      EnterTimewait(turn);
      EmitDisconnected({.timed_out = true}, turn);
      return;
    case State::kTimewait:
      Close();
      if (disconnected_) Emit({.type = CmEventType::kTimewaitExit}, turn);
      return;
    // These wait for the application, or for nothing.
    case State::kIdle:
    case State::kReqReceived:
    case State::kRepReceived:
    case State::kEstablished:
    case State::kDreqReceived:
    case State::kClosed:
      return;
  }
}

absl::StatusOr<CmQpParams> Connection::QpParams(QpStage stage) const {
  if (!InTime(stage)) return WrongState();
  return params_;
}

// Whether what `stage` needs is known, and of use still.
bool Connection::InTime(QpStage stage) const {
  switch (state_) {
    case State::kReqSent:
    case State::kMraReqReceived:
      return stage == QpStage::kInit;
    case State::kReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kRepReceived:
    case State::kEstablished:
      return true;
    case State::kIdle:
    case State::kDreqSent:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kClosed:
      return false;
  }
  return false;
}

void Connection::Send(uint64_t transaction_id, CmMessage message,
                      CmTurn& turn) const {
  turn.out.datagrams.push_back(
      {.source = params_.source,
       .destination = params_.destination,
       .mad = {.transaction_id = transaction_id, .message = message}});
}

void Connection::SendRepeatedly(CmMessage message, State next, CmTurn& turn) {
  repeated_ = {.transaction_id = transaction_id_, .message = message};
  retries_left_ = schedule_.retries + 1;
  SendAgain(next, turn);
}

bool Connection::SendAgain(State next, CmTurn& turn) {
  if (retries_left_ == 0) return false;
  --retries_left_;
  state_ = next;
  deadline_ = turn.now + schedule_.every;
  Send(repeated_.transaction_id, repeated_.message, turn);
  return true;
}

void Connection::SendRej(RejectReason reason, uint8_t message,
                         PrivateDataView data, CmTurn& turn) const {
  CmRej rej{.local_id = identity_.local_id,
            .remote_id = remote_id_,
            .message = message,
            .reason = reason};
  // 12.6.7.2: whoever gives up names himself, for the peer may know the
  // request by nothing else.
  if (reason == RejectReason::kTimeout) {
    ByteWriter information{std::span<uint8_t>(rej.information)};
    information.WriteBe64(device_.guid);
    rej.information_length = sizeof(device_.guid);
  }
  StorePrivateData(data, rej.private_data);
  Send(transaction_id_, rej, turn);
}

void Connection::SendMra(uint8_t message, CmTurn& turn) const {
  Send(transaction_id_,
       CmMra{.local_id = identity_.local_id,
             .remote_id = remote_id_,
             .message = message,
             .service_timeout = kMraServiceTimeout},
       turn);
}

void Connection::SendRtu(CmTurn& turn) const {
  Send(transaction_id_,
       CmRtu{.local_id = identity_.local_id, .remote_id = remote_id_}, turn);
}

void Connection::SendDreq(PrivateDataView private_data, CmTurn& turn) {
  CmDreq dreq{.local_id = identity_.local_id,
              .remote_id = remote_id_,
              .remote_qpn = params_.remote_qpn};
  StorePrivateData(private_data, dreq.private_data);
  transaction_id_ = turn.random.Next();
  SendRepeatedly(dreq, State::kDreqSent, turn);
}

void Connection::SendDrep(PrivateDataView private_data, CmTurn& turn) const {
  CmDrep drep{.local_id = identity_.local_id, .remote_id = remote_id_};
  StorePrivateData(private_data, drep.private_data);
  Send(dreq_transaction_id_, drep, turn);
}

void Connection::Emit(CmEvent event, CmTurn& turn) const {
  if (abandoned_) return;
  event.handle = identity_.handle;
  turn.out.events.push_back(std::move(event));
}

void Connection::EmitDisconnected(CmEvent event, CmTurn& turn) {
  disconnected_ = true;
  event.type = CmEventType::kDisconnected;
  Emit(std::move(event), turn);
}

// 12.9.8.2: the answer takes as long as the MRA says, and its way here.
void Connection::WaitLonger(const CmMra& mra, State next, CmTurn& turn) {
  state_ = next;
  deadline_ = turn.now + PeerServiceTime(mra.service_timeout) +
              IbTime(kPacketLifeTime + 1);
}

void Connection::TakeRep(const CmRep& rep) {
  remote_id_ = rep.local_id;
  has_remote_id_ = true;
  remote_guid_ = rep.ca_guid;
  params_.remote_qpn = rep.qpn;
  params_.sq_psn = rep.starting_psn;
  params_.max_rd_atomic =
      std::min(rep.responder_resources, device_.max_initiator_depth);
  params_.max_dest_rd_atomic =
      std::min(rep.initiator_depth, device_.max_responder_resources);
  params_.remote_read_and_atomic = params_.max_dest_rd_atomic > 0;
  params_.rnr_retry_count = rep.rnr_retry_count;
  params_.ack_timeout = AckTimeout(
      std::min(rep.target_ack_delay, kMaxTargetAckDelay), packet_life_time_);
}

void Connection::EnterTimewait(CmTurn& turn) {
  state_ = State::kTimewait;
  deadline_ = turn.now + TimewaitLength(params_.ack_timeout);
}

void Connection::Close() {
  state_ = State::kClosed;
  deadline_.reset();
}

}  // namespace nd::soft
