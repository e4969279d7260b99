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

#include <utility>

#include "soft/cm/private_data.h"

namespace nd::soft {
namespace {

absl::Status WrongState() {
  return absl::FailedPreconditionError("not in this state of the connection");
}

}  // namespace

Connection::Connection(const CmDevice& device, Identity identity)
    : device_(device), identity_(identity) {}

// The requester's commands.

absl::Status Connection::Connect(const CmConnectOptions& options,
                                 CmTurn& turn) {
  switch (state_) {
    case State::kIdle:
      return SendReq(options, turn);
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
      break;
  }
  return WrongState();
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
      return SendRep(options, turn);
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
      break;
  }
  return WrongState();
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
      PrepareRepeats(turn.random.Next(), Dreq({}));
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
      state_ = State::kReqReceived;
      TakeReq(request, turn);
      EmitRequest(request, turn);
      return;
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
      EmitResponse(rep, turn);
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

// As Linux's cm_destroy_id, at the peer.
void Connection::HandlePeerGone(CmTurn& turn) {
  switch (state_) {
    case State::kReqReceived:
      HandleRej({.reason = RejectReason::kTimeout}, turn);
      return;
    case State::kReqSent:
    case State::kMraReqReceived:
    case State::kRepSent:
    case State::kMraRepReceived:
    case State::kRepReceived:
      HandleRej({.reason = RejectReason::kConsumer}, turn);
      return;
    case State::kEstablished:
      HandleDreq({.remote_qpn = local_qpn_}, turn.random.Next(), turn);
      return;
    case State::kDreqSent:
      HandleDrep({}, turn);
      return;
    case State::kIdle:
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

}  // namespace nd::soft
