#include "soft/rc/responder.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/base/attributes.h"
#include "soft/rc/segments.h"
#include "soft/wire/syndrome.h"

namespace nd::soft {
namespace {

constexpr uint64_t kAtomicBytes = sizeof(uint64_t);

uint32_t PacketsOf(uint32_t length, uint32_t mtu_bytes) {
  if (length == 0) return 1;
  return (length - 1) / mtu_bytes + 1;
}

// Executes it on aligned memory and returns what was there before. Atomic
// against the application and other queue pairs alike.
uint64_t ExecuteAtomic(const Packet& packet, std::byte* memory) {
  std::atomic_ref<uint64_t> word(*reinterpret_cast<uint64_t*>(memory));
  const AtomicEth& operands = packet.atomic_eth;
  if (packet.bth.opcode == Opcode::kRcFetchAdd) {
    return word.fetch_add(operands.swap_or_add);
  }
  uint64_t original = operands.compare;
  word.compare_exchange_strong(original, operands.swap_or_add);
  return original;
}

bool Aligned(const std::byte* memory) {
  return reinterpret_cast<uintptr_t>(memory) % kAtomicBytes == 0;
}

}  // namespace

Responder::Responder(const QpAttributes& attributes, const QpPorts& ports)
    : attributes_(attributes), ports_(ports), inbound_(attributes, ports) {}

void Responder::Start() {
  expected_ = attributes_.receive_psn;
  acknowledged_ = expected_ - 1;
  msn_ = Msn();
  told_ = failed_ = false;
  inbound_.Reset();
  const size_t depth = attributes_.max_dest_rd_atomic;
  served_ = FixedRing<Served>(depth);
  first_served_ = 0;
  // One reply a Served, and an acknowledgement before and behind each.
  replies_ = FixedRing<Reply>(2 * depth + 1);
}

// IBA ch. 9, PSN verification: at most 2^23 behind what is expected, it is a
// repetition.
ABSL_ATTRIBUTE_HOT void Responder::OnPacket(const Packet& packet) {
  const int32_t ahead = packet.bth.psn - expected_;
  if (ahead < 0) return OnDuplicate(packet);
  if (ahead == 0) return OnExpected(packet);
  if (!told_) AskForMissing();
}

// IBA ch. 9, PSN sequence error: one NAK for what is missing, then silence
// until it comes.
void Responder::AskForMissing() {
  told_ = true;
  Answer(Syndrome::Nak(NakCode::kPsnSequenceError), expected_);
}

void Responder::OnExpected(const Packet& packet) {
  switch (packet.facts().kind) {
    case PacketKind::kSend:
    case PacketKind::kWrite:
      return OnMessagePacket(packet);
    case PacketKind::kReadRequest:
      return OnRead(packet);
    case PacketKind::kAtomicRequest:
      return OnAtomic(packet);
    case PacketKind::kReadResponse:
    case PacketKind::kAcknowledge:
    case PacketKind::kAtomicAcknowledge:
      return;
  }
}

// ---- Requests.

ABSL_ATTRIBUTE_HOT void Responder::OnMessagePacket(const Packet& packet) {
  const Outcome outcome = inbound_.OnPacket(packet);
  switch (outcome.verdict) {
    case Verdict::kExecuted:
      break;
    case Verdict::kNotReady:
      // IBA ch. 9, RNR NAK: what follows the refused packet is dropped in
      // silence.
      told_ = true;
      return Answer(Syndrome::RnrNak(attributes_.min_rnr_timer), expected_);
    case Verdict::kInvalidRequest:
      return Refuse(NakCode::kInvalidRequest, outcome);
    case Verdict::kAccessError:
      return Refuse(NakCode::kRemoteAccessError, outcome);
    case Verdict::kOperationalError:
      return Refuse(NakCode::kRemoteOperationalError, outcome);
    case Verdict::kLost:
      return AskForMissing();
  }
  expected_ = expected_ + packet.packets;
  acknowledged_ = expected_ - 1;
  told_ = false;
  if (packet.facts().last) ++msn_;
  if (packet.bth.ack_req) Acknowledge();
}

void Responder::OnRead(const Packet& packet) {
  const Reth& reth = packet.reth;
  if (!MayServe(IBV_ACCESS_REMOTE_READ) || reth.length > kMaxMessageBytes) {
    return Refuse(NakCode::kInvalidRequest, {});
  }
  // A range of no bytes is not checked (IBA C9-88).
  if (reth.length > 0 &&
      !ports_.memory.Find({.rkey = reth.rkey,
                           .address = reth.address,
                           .length = reth.length,
                           .access = IBV_ACCESS_REMOTE_READ})) {
    return Refuse(NakCode::kRemoteAccessError, {});
  }
  Serve({.opcode = packet.bth.opcode,
         .psn = expected_,
         .packets = PacketsOf(reth.length, attributes_.mtu_bytes),
         .reth = reth});
}

void Responder::OnAtomic(const Packet& packet) {
  const uint64_t address = packet.atomic_eth.address;
  if (!MayServe(IBV_ACCESS_REMOTE_ATOMIC) || address % kAtomicBytes != 0) {
    return Refuse(NakCode::kInvalidRequest, {});
  }
  const auto memory = ports_.memory.Find({.rkey = packet.atomic_eth.rkey,
                                          .address = address,
                                          .length = kAtomicBytes,
                                          .access = IBV_ACCESS_REMOTE_ATOMIC});
  if (!memory) return Refuse(NakCode::kRemoteAccessError, {});
  if (!Aligned(memory->data())) return Refuse(NakCode::kInvalidRequest, {});
  Serve({.opcode = packet.bth.opcode,
         .psn = expected_,
         .original = ExecuteAtomic(packet, memory->data())});
}

// Whether a READ or atomic may begin: outside of messages, where the
// queue pair permits it, and within the depth agreed (IBA ch. 9,
// responder resources).
bool Responder::MayServe(unsigned access) const {
  return !inbound_.busy() && (attributes_.access & access) != 0 &&
         InService() < attributes_.max_dest_rd_atomic;
}

size_t Responder::InService() const {
  size_t count = 0;
  for (size_t i = 0; i < replies_.size(); ++i) {
    if (replies_[i].fresh) ++count;
  }
  return count;
}

void Responder::Serve(const Served& served) {
  if (served_.full()) {
    RemoveReply(FindReply(first_served_));
    served_.PopFront();
    ++first_served_;
  }
  expected_ = expected_ + served.packets;
  told_ = false;
  ++msn_;
  served_.Push(served).msn = msn_;
  replies_.Push({.acknowledges = false,
                 .served = first_served_ + served_.size() - 1,
                 .fresh = true});
}

// ---- Repetitions.

void Responder::OnDuplicate(const Packet& packet) {
  switch (packet.facts().kind) {
    case PacketKind::kSend:
    case PacketKind::kWrite:
      // IBA C9-105: acknowledged again, not executed.
      return Acknowledge();
    case PacketKind::kReadRequest:
      return OnDuplicateRead(packet);
    case PacketKind::kAtomicRequest:
      return OnDuplicateAtomic(packet);
    case PacketKind::kReadResponse:
    case PacketKind::kAcknowledge:
    case PacketKind::kAtomicAcknowledge:
      return;
  }
}

// IBA ch. 9, duplicate requests: a repeated READ asks for all of the first one
// or for what is left from some packet on, and is executed again.
void Responder::OnDuplicateRead(const Packet& packet) {
  for (size_t i = 0; i < served_.size(); ++i) {
    const Served& served = served_[i];
    const int32_t from = packet.bth.psn - served.psn;
    // One before it is far behind it, as a number without a sign.
    if (served.opcode != packet.bth.opcode ||
        static_cast<uint32_t>(from) >= served.packets) {
      continue;
    }
    const uint64_t offset = static_cast<uint64_t>(from) * attributes_.mtu_bytes;
    const Reth tail{
        .address = served.reth.address + offset,
        .rkey = served.reth.rkey,
        .length = static_cast<uint32_t>(served.reth.length - offset)};
    if (packet.reth != tail) return;
    return ServeAgain(first_served_ + i, static_cast<uint32_t>(from));
  }
}

// IBA ch. 9, duplicate requests: answered from what was saved, not executed.
void Responder::OnDuplicateAtomic(const Packet& packet) {
  for (size_t i = 0; i < served_.size(); ++i) {
    if (served_[i].psn == packet.bth.psn &&
        served_[i].opcode == packet.bth.opcode) {
      return ServeAgain(first_served_ + i, 0);
    }
  }
}

// If an answer to it still waits, that does, from what is asked on. The peer
// can use no answer before this one: it goes ahead of what comes after it, and
// an answer that it interrupts begins anew, as the peer has dropped what came.
void Responder::ServeAgain(uint64_t number, uint32_t from) {
  if (Reply* const waiting = FindReply(number)) {
    if (waiting->next > from) waiting->begin = waiting->next = from;
    return;
  }
  replies_.Push(
      {.acknowledges = false, .served = number, .begin = from, .next = from});
  const Psn psn = NumberedServed(number).psn;
  for (size_t i = replies_.size() - 1; i > 0; --i) {
    Reply& before = replies_[i - 1];
    const bool later =
        before.acknowledges ? before.psn - psn > 0 : before.served > number;
    if (!later) return;
    before.next = before.begin;
    std::swap(before, replies_[i]);
  }
}

Responder::Reply* Responder::FindReply(uint64_t number) {
  for (size_t i = 0; i < replies_.size(); ++i) {
    Reply& reply = replies_[i];
    if (!reply.acknowledges && reply.served == number) return &reply;
  }
  return nullptr;
}

// Null does nothing. Of the acknowledgements before and behind it, which meet
// now, the later one stays.
void Responder::RemoveReply(const Reply* reply) {
  if (reply == nullptr) return;
  size_t index = 0;
  while (&replies_[index] != reply) ++index;
  const bool meet = index > 0 && index + 1 < replies_.size() &&
                    replies_[index - 1].acknowledges &&
                    replies_[index + 1].acknowledges;
  replies_.Erase(index);
  if (meet) replies_.Erase(index - 1);
}

// ---- Answers.

// An acknowledgement never has the PSN of a READ or atomic: a peer might take
// it for the answer.
void Responder::Acknowledge() { Answer(Syndrome::Ack(), acknowledged_); }

ABSL_ATTRIBUTE_HOT void Responder::Answer(Syndrome syndrome, Psn psn) {
  const Reply reply{.syndrome = syndrome, .psn = psn, .msn = msn_};
  if (replies_.empty() || !replies_.back().acknowledges) {
    replies_.Push(reply);
    return;
  }
  // A NAK of what is expected acknowledges all before it.
  if (replies_.back().psn - psn > 0) return;
  replies_.back() = reply;
}

void Responder::Refuse(NakCode code, const Outcome& outcome) {
  Answer(Syndrome::Nak(code), expected_);
  failed_ = true;
  if (inbound_.FailReceive(outcome.receive_status)) return;
  // Without a receive to fail, an event tells.
  ports_.completions.Raise(code == NakCode::kRemoteAccessError
                               ? IBV_EVENT_QP_ACCESS_ERR
                               : IBV_EVENT_QP_REQ_ERR);
}

bool Responder::HasRead(NamesKey names) const {
  for (size_t i = 0; i < served_.size(); ++i) {
    if (served_[i].opcode == Opcode::kRcReadRequest &&
        names(served_[i].reth.rkey)) {
      return true;
    }
  }
  return false;
}

ABSL_ATTRIBUTE_HOT void Responder::Transmit(Outbox& outbox) {
  while (!replies_.empty() && outbox.room() > 0) {
    if (SendReply(replies_.front(), outbox)) replies_.PopFront();
  }
}

// False: more of it is to be sent.
ABSL_ATTRIBUTE_HOT bool Responder::SendReply(Reply& reply, Outbox& outbox) {
  Packet packet;
  if (reply.acknowledges) [[likely]] {
    packet.bth = MakeBth(Opcode::kRcAcknowledge, reply.psn);
    packet.aeth = {.syndrome = reply.syndrome, .msn = reply.msn};
    outbox.Send({.packet = packet});
    return true;
  }
  const Served& served = NumberedServed(reply.served);
  if (served.opcode == Opcode::kRcReadRequest) {
    return SendReadPart(reply, served, outbox);
  }
  packet.bth = MakeBth(Opcode::kRcAtomicAcknowledge, served.psn);
  packet.aeth = {.syndrome = Syndrome::Ack(), .msn = served.msn};
  packet.atomic_ack_eth = {.original = served.original};
  outbox.Send({.packet = packet});
  return true;
}

bool Responder::SendReadPart(Reply& reply, const Served& served,
                             Outbox& outbox) {
  const uint64_t mtu = attributes_.mtu_bytes;
  const uint64_t offset = reply.next * mtu;
  const auto packets = static_cast<uint8_t>(std::min<uint64_t>(
      served.packets - reply.next,
      PacketsOfBurst(std::max(outbox.lent_burst_bytes(), outbox.burst_bytes()),
                     mtu)));
  const size_t length =
      std::min<uint64_t>(packets * mtu, served.reth.length - offset);
  const Psn psn = served.psn + reply.next;
  Segment memory;
  if (length > 0) {
    const auto found =
        ports_.memory.Find({.rkey = served.reth.rkey,
                            .address = served.reth.address + offset,
                            .length = length,
                            .access = IBV_ACCESS_REMOTE_READ});
    if (!found) {
      OnReadLost(reply, served, psn, outbox);
      return !failed_;
    }
    memory = *found;
  }
  const bool first = reply.next == reply.begin;
  const bool last = reply.next + packets == served.packets;
  Packet packet;
  packet.packets = packets;
  packet.bth = MakeBth(ReadResponseOpcode(first, last), psn);
  packet.bth.pad = PadFor(length);
  packet.aeth = {.syndrome = Syndrome::Ack(), .msn = served.msn};
  outbox.Send({.packet = packet,
               .payload = {.segments = {&memory, 1}, .length = length},
               .lasts = true});
  reply.next += packets;
  return last;
}

// The memory was taken away while it was being read. A repetition may be one
// that the peer has no more use for, and whose refusal it ignores: here it is
// no error.
void Responder::OnReadLost(const Reply& reply, const Served& served, Psn psn,
                           Outbox& outbox) {
  if (!reply.fresh) {
    Packet packet;
    packet.bth = MakeBth(Opcode::kRcAcknowledge, psn);
    packet.aeth = {.syndrome = Syndrome::Nak(NakCode::kRemoteAccessError),
                   .msn = served.msn};
    return outbox.Send({.packet = packet});
  }
  replies_.Clear();
  expected_ = psn;
  Refuse(NakCode::kRemoteAccessError, {});
}

Bth Responder::MakeBth(Opcode opcode, Psn psn) const {
  return {.opcode = opcode,
          .pkey = attributes_.pkey,
          .destination = attributes_.destination,
          .psn = psn};
}

Responder::Served& Responder::NumberedServed(uint64_t number) {
  return served_[number - first_served_];
}

}  // namespace nd::soft
