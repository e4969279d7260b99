#include "soft/rc/inbound.h"

#include "absl/base/attributes.h"
#include "soft/rc/segments.h"

namespace nd::soft {
namespace {

// SENDs use a receive from their first packet on, WRITEs with immediate with
// their last.
bool NeedsReceive(const OpcodeFacts& facts) {
  return facts.kind == PacketKind::kSend || facts.headers.imm_dt;
}

Ending EndingOf(const HeaderSet& headers) {
  if (headers.imm_dt) return Ending::kImmediate;
  return headers.ieth ? Ending::kInvalidate : Ending::kPlain;
}

}  // namespace

Inbound::Inbound(const QpAttributes& attributes, const QpPorts& ports)
    : attributes_(attributes), ports_(ports) {}

void Inbound::Reset() {
  message_.reset();
  receive_.reset();
}

ABSL_ATTRIBUTE_HOT Outcome Inbound::OnPacket(const Packet& packet) {
  if (!InSequence(packet)) [[unlikely]]
    return {Verdict::kInvalidRequest};
  if (!Permitted(packet)) [[unlikely]]
    return {Verdict::kInvalidRequest};
  Message message = message_.value_or(
      Message{.kind = packet.facts().kind, .reth = packet.reth});
  if (!LengthFits(packet, message)) [[unlikely]]
    return {Verdict::kInvalidRequest};
  if (!ReceiveReady(packet)) [[unlikely]]
    return {Verdict::kNotReady};
  const Outcome receive = CheckReceive(packet, message);
  if (receive.verdict != Verdict::kExecuted) [[unlikely]]
    return receive;
  const Verdict placed = Place(packet, message);
  if (placed != Verdict::kExecuted) [[unlikely]]
    return {placed};
  message.arrived += packet.payload_bytes();
  message_ = message;
  return packet.facts().last ? Finish(packet, message) : Outcome{};
}

bool Inbound::TakeReceive(const Packet& packet) {
  const Message message{.kind = packet.facts().kind};
  return InSequence(packet) && LengthFits(packet, message) &&
         ReceiveReady(packet) &&
         CheckReceive(packet, message).verdict == Verdict::kExecuted;
}

Slice Inbound::PlaceOf(const Packet& packet, uint64_t arrived) const {
  const size_t bytes = packet.payload_bytes();
  if (!receive_ || receive_->fault != IBV_WC_SUCCESS ||
      arrived + bytes > TotalBytes(receive_->segments)) {
    return {};
  }
  return {.segments = receive_->segments, .offset = arrived, .length = bytes};
}

// IBA ch. 9, opcode sequence: FIRST and ONLY begin a message when none is open,
// MIDDLE and LAST go on with one of their kind.
bool Inbound::InSequence(const Packet& packet) const {
  const OpcodeFacts& facts = packet.facts();
  if (facts.first) return !message_;
  return message_ && message_->kind == facts.kind;
}

bool Inbound::Permitted(const Packet& packet) const {
  return packet.facts().kind == PacketKind::kSend ||
         (attributes_.access & IBV_ACCESS_REMOTE_WRITE) != 0;
}

// IBA C9-92, C9-94: full packets but for the last, which is not empty in a
// message of several; a WRITE brings what its first packet announced, 2^31
// bytes at most.
ABSL_ATTRIBUTE_HOT bool Inbound::LengthFits(const Packet& packet,
                                            const Message& message) const {
  const OpcodeFacts& facts = packet.facts();
  const size_t most = size_t{packet.packets} * attributes_.mtu_bytes;
  const size_t least = most - attributes_.mtu_bytes;
  const size_t bytes = packet.payload_bytes();
  const bool empty_message = facts.first && packet.packets == 1;
  if (!facts.last && bytes != most) return false;
  if (bytes > most || (!empty_message && bytes <= least)) [[unlikely]]
    return false;
  const uint64_t arrived = message.arrived + bytes;
  if (arrived > kMaxMessageBytes) [[unlikely]]
    return false;
  if (facts.kind == PacketKind::kSend) return true;
  if (message.reth.length > kMaxMessageBytes) return false;
  return facts.last ? arrived == message.reth.length
                    : arrived < message.reth.length;
}

bool Inbound::ReceiveReady(const Packet& packet) {
  if (!NeedsReceive(packet.facts()) || receive_) return true;
  receive_ = ports_.receives.Take();
  return receive_.has_value();
}

Outcome Inbound::CheckReceive(const Packet& packet,
                              const Message& message) const {
  if (message.kind != PacketKind::kSend) return {};
  if (receive_->fault != IBV_WC_SUCCESS) [[unlikely]] {
    return {Verdict::kOperationalError, receive_->fault};
  }
  const uint64_t room = TotalBytes(receive_->segments);
  if (message.arrived + packet.payload_bytes() > room) [[unlikely]] {
    return {Verdict::kInvalidRequest, IBV_WC_LOC_LEN_ERR};
  }
  return {};
}

Verdict Inbound::Place(const Packet& packet, const Message& message) {
  if (message.kind == PacketKind::kWrite) return PlaceWrite(packet, message);
  return ScatterPayload(packet, receive_->segments, message.arrived)
             ? Verdict::kExecuted
             : Verdict::kLost;
}

// IBA ch. 9, R_Key: the first packet is checked with the range of the whole
// message, nothing of which is placed if part of it is forbidden; a range of no
// bytes is not checked (C9-88). What follows asks again: the key may be gone by
// then.
Verdict Inbound::PlaceWrite(const Packet& packet, const Message& message) {
  if (message.reth.length == 0) return Verdict::kExecuted;
  const auto memory =
      ports_.memory.Find({.rkey = message.reth.rkey,
                          .address = message.reth.address + message.arrived,
                          .length = message.reth.length - message.arrived,
                          .access = IBV_ACCESS_REMOTE_WRITE});
  if (!memory) return Verdict::kAccessError;
  return ScatterPayload(packet, {&*memory, 1}, 0) ? Verdict::kExecuted
                                                  : Verdict::kLost;
}

Outcome Inbound::Finish(const Packet& packet, const Message& message) {
  if (packet.facts().headers.ieth &&
      !ports_.memory.Invalidate(packet.ieth.rkey)) [[unlikely]] {
    return {Verdict::kAccessError, IBV_WC_LOC_ACCESS_ERR};
  }
  message_.reset();
  if (NeedsReceive(packet.facts())) Complete(packet, message);
  return {};
}

void Inbound::Complete(const Packet& packet, const Message& message) {
  const bool send = message.kind == PacketKind::kSend;
  const WorkCompletion completion{
      .wr_id = receive_->wr_id,
      .opcode = send ? IBV_WC_RECV : IBV_WC_RECV_RDMA_WITH_IMM,
      .byte_len = static_cast<uint32_t>(message.arrived),
      .ending = EndingOf(packet.facts().headers),
      .immediate = packet.imm_dt.value,
      .invalidated = packet.ieth.rkey,
      .source = packet.deth.source,
      .solicited = packet.bth.solicited};
  receive_.reset();
  ports_.completions.ReceiveCompleted(completion);
}

void Inbound::ForgetMemory(NamesMemory names) {
  if (!receive_ || !names(receive_->segments)) return;
  if (receive_->fault == IBV_WC_SUCCESS) receive_->fault = IBV_WC_LOC_PROT_ERR;
  receive_->segments = {};
}

bool Inbound::FailReceive(ibv_wc_status status) {
  message_.reset();
  if (!receive_) return false;
  const WorkCompletion completion{
      .wr_id = receive_->wr_id, .status = status, .opcode = IBV_WC_RECV};
  receive_.reset();
  ports_.completions.ReceiveCompleted(completion);
  return true;
}

}  // namespace nd::soft
