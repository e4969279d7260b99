#include "soft/rc/qp.h"

#include "absl/base/attributes.h"

namespace nd::soft {
namespace {

constexpr uint16_t kPkeyBits = 0x7fff;
constexpr uint16_t kFullMember = 0x8000;

// IBA ch. 10, partitioning: the same partition, and one of the two at least a
// full member of it.
bool PkeysMatch(uint16_t a, uint16_t b) {
  const bool full = ((a | b) & kFullMember) != 0;
  return full && (a & kPkeyBits) != 0 && (a & kPkeyBits) == (b & kPkeyBits);
}

}  // namespace

Qp::Qp(const QpOptions& options, const QpPorts& ports)
    : options_(options),
      ports_(ports),
      requester_(options_, attributes_, ports.completions),
      responder_(attributes_, ports),
      unreliable_(options_, attributes_, ports) {}

bool Qp::sends() const {
  return state_ == QpState::kRts || state_ == QpState::kSqd;
}

bool Qp::receives() const {
  return sends() || state_ == QpState::kRtr || state_ == QpState::kSqe;
}

bool Qp::Modify(QpState to, const QpAttributes& attributes) {
  if (!MayMove(options_.transport, state_, to)) return false;
  const QpState from = state_;
  if (to == QpState::kErr) {
    if (from == QpState::kErr) return true;
    EnterError();
    responder_.Stop();
    return true;
  }
  attributes_ = attributes;
  if (to == QpState::kReset) Reset();
  if (to == QpState::kRtr) {
    responder_.Start();
    unreliable_.Start();
  }
  if (from == QpState::kSqe) requester_.ClearFailure();
  requester_.SetDraining(to == QpState::kSqd);
  if (from != QpState::kSqd) drained_ = false;
  state_ = to;
  Settle();
  return true;
}

void Qp::Reset() {
  requester_.Reset();
  responder_.Start();
  unreliable_.Start();
  heard_ = false;
}

PostResult Qp::Post(const SendWork& work) {
  switch (state_) {
    case QpState::kReset:
    case QpState::kInit:
    case QpState::kRtr:
      return PostResult::kWrongState;
    case QpState::kRts:
    case QpState::kSqd:
    case QpState::kSqe:
    case QpState::kErr:
      break;
  }
  if (requester_.full()) return PostResult::kFull;
  requester_.Post(work);
  if (!sends()) requester_.Flush();
  return PostResult::kPosted;
}

void Qp::ForgetMemory(NamesMemory names) {
  requester_.ForgetMemory(names);
  responder_.ForgetMemory(names);
  unreliable_.ForgetMemory(names);
}

void Qp::OnReceivePosted() {
  if (state_ == QpState::kErr) FlushReceives();
}

void Qp::OnPacket(const Packet& packet, Instant now) {
  if (!Accepts(packet)) [[unlikely]]
    return;
  if (state_ == QpState::kRtr && !heard_) [[unlikely]] {
    ports_.completions.Raise(IBV_EVENT_COMM_EST);
  }
  heard_ = true;
  OnPacketOfPeer(packet, now);
  Settle();
}

// What is not for it is dropped without an answer (IBA ch. 9, packet header
// validation).
ABSL_ATTRIBUTE_HOT bool Qp::Accepts(const Packet& packet) const {
  const bool to_group = options_.transport == Transport::kUd &&
                        packet.bth.destination == kMulticastQpn;
  return packet.facts().transport == options_.transport &&
         (packet.bth.destination == options_.number || to_group) &&
         (packet.packets == 1 || options_.transport == Transport::kRc) &&
         PkeysMatch(packet.bth.pkey, attributes_.pkey) &&
         (packet.facts().is_response() ? sends() : receives());
}

bool Qp::BeginsPayload(const Packet& packet) const {
  const OpcodeFacts& facts = packet.facts();
  if (!facts.first || !Accepts(packet)) return false;
  if (facts.kind == PacketKind::kReadResponse) {
    return requester_.IsNextAnswer(packet);
  }
  const bool permitted = facts.kind == PacketKind::kSend ||
                         (facts.kind == PacketKind::kWrite &&
                          (attributes_.access & IBV_ACCESS_REMOTE_WRITE) != 0);
  if (!permitted) return false;
  switch (options_.transport) {
    case Transport::kRc:
      return responder_.Begins(packet);
    case Transport::kUc:
      return true;  // any first packet
    case Transport::kUd:
      return packet.deth.qkey == attributes_.qkey;
  }
  return false;
}

bool Qp::TakeReceive(const Packet& packet) {
  return options_.transport == Transport::kRc ? responder_.TakeReceive(packet)
                                              : unreliable_.TakeReceive(packet);
}

Slice Qp::PlaceOf(const Packet& packet, uint64_t arrived) const {
  if (packet.facts().kind == PacketKind::kReadResponse) {
    return requester_.PlaceOf(packet);
  }
  return options_.transport == Transport::kRc
             ? responder_.PlaceOf(packet, arrived)
             : unreliable_.PlaceOf(packet, arrived);
}

void Qp::OnPacketOfPeer(const Packet& packet, Instant now) {
  if (packet.facts().is_response()) return requester_.OnPacket(packet, now);
  if (options_.transport == Transport::kRc) return responder_.OnPacket(packet);
  unreliable_.OnPacket(packet);
}

void Qp::OnTimer(Instant now) {
  requester_.OnTimer(now);
  Settle();
}

std::optional<Instant> Qp::NextDeadline() const {
  return requester_.NextDeadline();
}

// Requests first: an application's answer is waited for, an acknowledgement
// rarely. Where there is not room for all, by turns, so that neither a long
// READ nor a long WRITE starves the other way.
void Qp::Transmit(Instant now, Outbox& outbox) {
  if (answers_first_) TransmitAnswers(outbox);
  TransmitRequests(now, outbox);
  if (!answers_first_) TransmitAnswers(outbox);
  answers_first_ = !answers_first_ && responder_.has_answers();
}

void Qp::TransmitRequests(Instant now, Outbox& outbox) {
  requester_.Transmit(now, outbox);
  Settle();
}

// The responder's last word may have to wait for room in the outbox until after
// the queue pair is in ERR.
void Qp::TransmitAnswers(Outbox& outbox) {
  responder_.Transmit(outbox);
  Settle();
}

// What requester and responder have come to.
void Qp::Conclude() {
  if (!receives()) return;
  const bool rc = options_.transport == Transport::kRc;
  if (rc && (requester_.failed() || responder_.failed())) return EnterError();
  if (unreliable_.failed()) return EnterError();
  if (requester_.failed() && state_ != QpState::kSqe) {
    state_ = QpState::kSqe;
    requester_.Flush();
  }
  if (state_ == QpState::kSqd && !drained_ && requester_.drained()) {
    drained_ = true;
    ports_.completions.Raise(IBV_EVENT_SQ_DRAINED);
  }
}

// IBA 10.3.1: what is queued completes as flushed, sends first.
void Qp::EnterError() {
  state_ = QpState::kErr;
  requester_.Flush();
  responder_.FlushReceive();
  unreliable_.FlushReceive();
  FlushReceives();
  if (ports_.receives.shared()) {
    ports_.completions.Raise(IBV_EVENT_QP_LAST_WQE_REACHED);
  }
}

void Qp::FlushReceives() {
  if (ports_.receives.shared()) return;
  while (const auto receive = ports_.receives.Take()) {
    ports_.completions.ReceiveCompleted({.wr_id = receive->wr_id,
                                         .status = IBV_WC_WR_FLUSH_ERR,
                                         .opcode = IBV_WC_RECV});
  }
}

}  // namespace nd::soft
