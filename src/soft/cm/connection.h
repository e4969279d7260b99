// One reliable connection between this device's QP and another's, from the REQ
// to the end of timewait (IBA vol. 1, ch. 12).
#ifndef ND_SOFT_CM_CONNECTION_H_
#define ND_SOFT_CM_CONNECTION_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "soft/cm/commands.h"
#include "soft/cm/events.h"

namespace nd::soft {

// The state machine of one end. Its owner hands it the messages that carry its
// ids and come from its peer, calls HandleTimeout once deadline() has passed,
// and takes what it appends to turn.out. A command at the wrong time is a
// FailedPrecondition, one with too much private data an InvalidArgument; it
// changes nothing then. A message at the wrong time is ignored.
//
// One thread at a time. `device` must outlive it.
class Connection {
 public:
  enum class State : uint8_t {
    kIdle,
    kReqSent,
    kMraReqReceived,
    kReqReceived,
    kRepSent,
    kMraRepReceived,
    kRepReceived,
    kEstablished,
    kDreqSent,
    kDreqReceived,
    kTimewait,
    kClosed,
  };

  struct Identity {
    CmHandle handle{};
    CommId local_id{};
  };
  struct Request {
    const CmReq& req;
    uint64_t transaction_id = 0;
    CmHandle listener{};
    CmEndpoints endpoints{};  // as the REQ names them
  };

  Connection(const CmDevice& device, Identity identity);

  // The requester's commands.
  absl::Status Connect(const CmConnectOptions& options, CmTurn& turn);
  absl::Status Establish(CmTurn& turn);  // the QP is ready: RTU
  // The acceptor's. Its QP is in RTS already: data may precede the RTU.
  absl::Status Accept(const CmAcceptOptions& options, CmTurn& turn);
  // Either's.
  absl::Status Reject(PrivateDataView private_data, CmTurn& turn);
  absl::Status Disconnect(PrivateDataView private_data, CmTurn& turn);
  // The application lets go: no events any more. The peer is told, and the
  // machine lives on until it is closed().
  void Abandon(CmTurn& turn);

  // Messages.
  void HandleReq(const Request& request, CmTurn& turn);
  void HandleReqAgain(CmTurn& turn);
  void HandleMra(const CmMra& mra, CmTurn& turn);
  void HandleRej(const CmRej& rej, CmTurn& turn);
  void HandleRep(const CmRep& rep, CmTurn& turn);
  void HandleRtu(const CmRtu& rtu, CmTurn& turn);
  void HandleDreq(const CmDreq& dreq, uint64_t transaction_id, CmTurn& turn);
  void HandleDrep(const CmDrep& drep, CmTurn& turn);

  // The peer's process has ended without a word. What its host's kernel says
  // then is taken as said.
  void HandlePeerGone(CmTurn& turn);
  // A packet came to the QP, or the application says so: worth an RTU.
  void HandleFirstPacket(CmTurn& turn);
  // The REP's QPN is one that this device still has a connection with.
  void RefuseStaleRep(const CmRep& rep, CmTurn& turn);
  void HandleTimeout(CmTurn& turn);

  absl::StatusOr<CmQpParams> QpParams(QpStage stage) const;

  std::optional<Instant> deadline() const { return deadline_; }
  State state() const { return state_; }
  bool closed() const { return state_ == State::kClosed; }
  bool abandoned() const { return abandoned_; }
  bool requester() const { return requester_; }

  CmHandle handle() const { return identity_.handle; }
  CommId local_id() const { return identity_.local_id; }
  CommId remote_id() const { return remote_id_; }
  // Whether the peer's id is known, from its REQ or REP.
  bool has_remote_id() const { return has_remote_id_; }
  uint64_t remote_guid() const { return remote_guid_; }
  const Gid& peer() const { return params_.destination; }
  // 0 until it is known.
  Qpn local_qpn() const { return local_qpn_; }
  Qpn remote_qpn() const { return params_.remote_qpn; }

 private:
  bool InTime(QpStage stage) const;

  absl::Status SendReq(const CmConnectOptions& options, CmTurn& turn);
  absl::Status SendRep(const CmAcceptOptions& options, CmTurn& turn);
  CmQpParams OfferedParams(const CmConnectOptions& options, Psn rq_psn) const;
  CmReq Req(const CmConnectOptions& options) const;
  CmRep Rep(const CmAcceptOptions& options) const;
  CmDreq Dreq(PrivateDataView private_data) const;

  void Send(uint64_t transaction_id, const CmMessage& message,
            CmTurn& turn) const;
  void PrepareRepeats(uint64_t transaction_id, const CmMessage& message);
  // False once it has been sent often enough.
  bool SendAgain(State next, CmTurn& turn);
  void SendRej(RejectReason reason, uint8_t message, PrivateDataView data,
               CmTurn& turn) const;
  void SendMra(uint8_t message, CmTurn& turn) const;
  void SendRtu(CmTurn& turn) const;
  void SendDreq(PrivateDataView private_data, CmTurn& turn);
  void SendDrep(PrivateDataView private_data, CmTurn& turn) const;
  void Emit(CmEvent event, CmTurn& turn) const;
  void EmitRequest(const Request& request, CmTurn& turn) const;
  void EmitResponse(const CmRep& rep, CmTurn& turn) const;
  void EmitDisconnected(CmEvent event, CmTurn& turn);

  void WaitLonger(const CmMra& mra, State next, CmTurn& turn);
  void TakeReq(const Request& request, CmTurn& turn);
  void TakeRep(const CmRep& rep);
  void EnterTimewait(CmTurn& turn);
  void Close();

  const CmDevice& device_;
  const Identity identity_;
  State state_ = State::kIdle;
  bool requester_ = false;
  bool abandoned_ = false;
  bool disconnected_ = false;  // kDisconnected was told: kTimewaitExit follows
  bool has_remote_id_ = false;

  CmHandle listener_{};
  CommId remote_id_{};
  uint64_t remote_guid_ = 0;
  uint64_t transaction_id_ = 0;       // of the REQ and what answers it
  uint64_t dreq_transaction_id_ = 0;  // of the peer's DREQ
  Qpn local_qpn_{};
  uint8_t packet_life_time_ = kPacketLifeTime;
  CmQpParams params_;

  RepeatSchedule schedule_;
  int retries_left_ = 0;
  CmMad repeated_;
  std::optional<Instant> deadline_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_CM_CONNECTION_H_
