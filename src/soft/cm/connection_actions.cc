// What the state machine of connection.cc does on its way: builds messages,
// sends and repeats them, tells the application, takes over what the peer said.
#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "soft/cm/connection.h"
#include "soft/cm/private_data.h"

namespace nd::soft {
namespace {

// No QP shall wait for hours because its peer says that it is slow.
constexpr uint8_t kMaxTargetAckDelay = 20;

Psn DrawPsn(Random& random) {
  return Psn(static_cast<uint32_t>(random.Below(Psn::kMask + 1)));
}

}  // namespace

// Sending.

absl::Status Connection::SendReq(const CmConnectOptions& options,
                                 CmTurn& turn) {
  if (auto status = CheckPrivateData(options.private_data, kReqUserBytes);
      !status.ok()) {
    return status;
  }
  requester_ = true;
  transaction_id_ = turn.random.Next();
  local_qpn_ = options.qpn;
  packet_life_time_ = options.packet_life_time;
  params_ = OfferedParams(options, DrawPsn(turn.random));
  schedule_ = {.every = IbTime(kCmResponseTimeout) +
                        2 * IbTime(options.packet_life_time),
               .retries = kMaxCmRetries};
  PrepareRepeats(transaction_id_, Req(options));
  SendAgain(State::kReqSent, turn);
  return absl::OkStatus();
}

CmQpParams Connection::OfferedParams(const CmConnectOptions& options,
                                     Psn rq_psn) const {
  return {
      .remote_read_and_atomic = options.responder_resources > 0,
      .source = options.endpoints.local.ip,
      .destination = options.endpoints.remote.ip,
      .flow_label = FlowLabel(options.endpoints),
      .traffic_class = options.traffic_class,
      .hop_limit = options.hop_limit,
      .path_mtu = options.path_mtu,
      .rq_psn = rq_psn,
      .ack_timeout = AckTimeout(device_.ack_delay, options.packet_life_time),
      .retry_count = options.retry_count,
      .rnr_retry_count = options.rnr_retry_count};
}

CmReq Connection::Req(const CmConnectOptions& options) const {
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
  return req;
}

absl::Status Connection::SendRep(const CmAcceptOptions& options, CmTurn& turn) {
  if (auto status =
          CheckPrivateData(options.private_data, CmRep::kPrivateBytes);
      !status.ok()) {
    return status;
  }
  local_qpn_ = options.qpn;
  // IBA ch. 12, responder resources and initiator depth: never more than the
  // REQ offered.
  params_.max_dest_rd_atomic =
      std::min(options.responder_resources, params_.max_dest_rd_atomic);
  params_.max_rd_atomic =
      std::min(options.initiator_depth, params_.max_rd_atomic);
  params_.remote_read_and_atomic = params_.max_dest_rd_atomic > 0;
  PrepareRepeats(transaction_id_, Rep(options));
  SendAgain(State::kRepSent, turn);
  return absl::OkStatus();
}

CmRep Connection::Rep(const CmAcceptOptions& options) const {
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
  return rep;
}

void Connection::Send(uint64_t transaction_id, const CmMessage& message,
                      CmTurn& turn) const {
  turn.out.datagrams.push_back(
      {.source = params_.source,
       .destination = params_.destination,
       .mad = {.transaction_id = transaction_id, .message = message}});
}

void Connection::PrepareRepeats(uint64_t transaction_id,
                                const CmMessage& message) {
  repeated_ = {.transaction_id = transaction_id, .message = message};
  retries_left_ = schedule_.retries + 1;
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
  // IBA 12.6.7.2: whoever gives up names himself, for the peer may know the
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
  PrepareRepeats(turn.random.Next(), Dreq(private_data));
  SendAgain(State::kDreqSent, turn);
}

CmDreq Connection::Dreq(PrivateDataView private_data) const {
  CmDreq dreq{.local_id = identity_.local_id,
              .remote_id = remote_id_,
              .remote_qpn = params_.remote_qpn};
  StorePrivateData(private_data, dreq.private_data);
  return dreq;
}

void Connection::SendDrep(PrivateDataView private_data, CmTurn& turn) const {
  CmDrep drep{.local_id = identity_.local_id, .remote_id = remote_id_};
  StorePrivateData(private_data, drep.private_data);
  Send(dreq_transaction_id_, drep, turn);
}

// Telling the application.

void Connection::Emit(CmEvent event, CmTurn& turn) const {
  if (abandoned_) return;
  event.handle = identity_.handle;
  turn.out.events.push_back(std::move(event));
}

void Connection::EmitRequest(const Request& request, CmTurn& turn) const {
  const CmReq& req = request.req;
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

void Connection::EmitResponse(const CmRep& rep, CmTurn& turn) const {
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
}

void Connection::EmitDisconnected(CmEvent event, CmTurn& turn) {
  disconnected_ = true;
  event.type = CmEventType::kDisconnected;
  Emit(std::move(event), turn);
}

// Changing.

// IBA ch. 12, MRA: the answer takes as long as the MRA says, and its way here.
void Connection::WaitLonger(const CmMra& mra, State next, CmTurn& turn) {
  state_ = next;
  deadline_ = turn.now + PeerServiceTime(mra.service_timeout) +
              IbTime(kPacketLifeTime + 1);
}

void Connection::TakeReq(const Request& request, CmTurn& turn) {
  const CmReq& req = request.req;
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
