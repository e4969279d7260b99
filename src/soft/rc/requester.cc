#include "soft/rc/requester.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/base/attributes.h"
#include "soft/wire/syndrome.h"

namespace nd::soft {
namespace {

// Farther apart, PSNs do not compare (IBA ch. 9, valid and duplicate PSNs).
constexpr uint64_t kMaxSpan = uint64_t{1} << 23;
constexpr uint32_t kAtomicBytes = 8;
constexpr uint32_t kPrivilegedQkey = 0x80000000;

ibv_wc_status StatusOf(NakCode code) {
  switch (code) {
    case NakCode::kInvalidRequest:
      return IBV_WC_REM_INV_REQ_ERR;
    case NakCode::kRemoteAccessError:
      return IBV_WC_REM_ACCESS_ERR;
    case NakCode::kRemoteOperationalError:
    case NakCode::kInvalidRdRequest:
    case NakCode::kPsnSequenceError:
      break;
  }
  return IBV_WC_REM_OP_ERR;
}

PacketKind KindOf(Operation operation) {
  return operation == Operation::kWrite ? PacketKind::kWrite
                                        : PacketKind::kSend;
}

uint8_t PadOf(const Slice& slice) { return PadFor(slice.length); }

}  // namespace

Requester::Requester(const QpOptions& options, const QpAttributes& attributes,
                     CompletionSink& completions)
    : options_(options),
      attributes_(attributes),
      completions_(completions),
      queue_(options.send_depth) {}

void Requester::Reset() {
  queue_.Clear();
  posted_ = unacked_ = send_at_ = max_sent_ = 0;
  grown_ = 0;
  answered_ = 0;
  GoBack();
  retries_ = rnr_retries_ = 0;
  asked_again_ = probing_ = draining_ = failed_ = false;
  rnr_until_ = kNever;
}

Psn Requester::PsnAt(uint64_t position) const {
  return attributes_.send_psn + static_cast<uint32_t>(position & Psn::kMask);
}

uint64_t Requester::PositionsOf(const SendWork& work, uint64_t length) const {
  if (work.operation == Operation::kLocal) return 0;
  if (length <= attributes_.mtu_bytes) [[likely]]
    return 1;
  return (length + attributes_.mtu_bytes - 1) / attributes_.mtu_bytes;
}

ABSL_ATTRIBUTE_HOT void Requester::Post(const SendWork& work) {
  const uint64_t length =
      std::min(TotalBytes(work.segments), kMaxMessageBytes + 1);
  const uint64_t end = posted_ + PositionsOf(work, length);
  queue_.Push({.work = work,
               .length = static_cast<uint32_t>(length),
               .begin = posted_,
               .end = end});
  posted_ = end;
}

void Requester::ForgetMemory(NamesMemory names) {
  for (size_t i = 0; i < queue_.size(); ++i) {
    SendWork& work = queue_[i].work;
    if (!names(work.segments)) continue;
    if (work.fault == IBV_WC_SUCCESS) work.fault = IBV_WC_LOC_PROT_ERR;
    work.segments = {};
  }
}

bool Requester::drained() const {
  return queue_.empty() || !Begun(queue_.front());
}

void Requester::Flush() {
  while (!queue_.empty()) Complete(IBV_WC_WR_FLUSH_ERR);
  unacked_ = max_sent_ = posted_;
  GoBack();
  rnr_until_ = kNever;
}

// ---- What goes out.

ABSL_ATTRIBUTE_HOT void Requester::Transmit(Instant now, Outbox& outbox) {
  lends_ = outbox.lent_burst_bytes() > 0;
  beside_short_ = outbox.beside_short();
  if (rnr_until_ != kNever && now < rnr_until_) return;
  rnr_until_ = kNever;
  while (Request* const request = NextToSend()) {
    if (outbox.room() == 0) return;
    const uint64_t up_to = EndOfBurst(*request, outbox);
    if (up_to == send_at_) return;
    SendPart(*request, up_to, outbox);
    Sent(*request, up_to, now);
  }
}

// The work whose packet at send_at_ may go now; runs local works on the way to
// it. A work with a fault fails once all before it have completed.
ABSL_ATTRIBUTE_HOT Requester::Request* Requester::NextToSend() {
  while (!failed_ && send_index_ < queue_.size()) {
    Request& request = queue_[send_index_];
    if (!MaySend(request)) return nullptr;
    if (const ibv_wc_status fault = LocalFault(request);
        fault != IBV_WC_SUCCESS) [[unlikely]] {
      if (send_index_ == 0) Fail(fault);
      return nullptr;
    }
    if (request.work.operation != Operation::kLocal) [[likely]]
      return &request;
    ++send_index_;
    RunLocal(request);
  }
  return nullptr;
}

bool Requester::Begun(const Request& request) const {
  return request.has_run || max_sent_ > request.begin;
}

bool Requester::MaySend(const Request& request) const {
  if (draining_ && !Begun(request)) return false;
  // IBA ch. 10, fence: a fenced work waits for all READs and atomics before it.
  if (request.work.fence && send_at_ == request.begin && rd_atomics_ > 0) {
    return false;
  }
  if (IsAnswered(request.work.operation) && attributes_.max_rd_atomic > 0 &&
      rd_atomics_ >= attributes_.max_rd_atomic) {
    return false;
  }
  if (IsAnswered(request.work.operation) && doubting() &&
      rd_atomics_ >= repeats_) {
    return false;
  }
  return WindowHasRoom(request);
}

bool Requester::WindowHasRoom(const Request& request) const {
  if (probing_ && send_at_ > unacked_) return false;
  const uint64_t end = EndOfPart(request, send_at_);
  const bool comparable = end - unacked_ <= kMaxSpan;
  return comparable && Room(request) > 0;
}

// Packets that the window takes. One that has become narrower may find that
// nothing in flight will be acknowledged: it widens for what asks.
uint64_t Requester::Room(const Request& request) const {
  const uint64_t in_flight = send_at_ - unacked_ - awaited_;
  const uint64_t most = since_ack_req_ < in_flight
                            ? window(request)
                            : std::max(window(request), own_window());
  return most - std::min(most, in_flight);
}

// Where the packet at `position` ends or, of a READ, what one request asks for.
// Parts begin at the same places however often the requester went back.
uint64_t Requester::EndOfPart(const Request& request, uint64_t position) const {
  const uint64_t most =
      request.work.operation == Operation::kRead ? attributes_.read_packets : 1;
  const uint64_t part = (position - request.begin) / most;
  return std::min(request.end, request.begin + (part + 1) * most);
}

// Payload in one piece can be lent.
size_t Requester::BurstBytes(const Request& request, const Outbox& outbox) {
  const size_t lent =
      request.work.segments.size() == 1 ? outbox.lent_burst_bytes() : 0;
  return std::max(lent, outbox.burst_bytes());
}

// Where what goes out as one now ends. Nothing goes where the window would cut
// a burst short: while at least half of it is in flight, there will be room.
ABSL_ATTRIBUTE_HOT uint64_t Requester::EndOfBurst(const Request& request,
                                                  const Outbox& outbox) const {
  const uint64_t end = EndOfPart(request, send_at_);
  if (!reliable() || IsAnswered(request.work.operation) || probing_ ||
      end == request.end) {
    return end;
  }
  const uint64_t in_flight = send_at_ - unacked_;
  const uint64_t wanted = std::min(
      PacketsOfBurst(BurstBytes(request, outbox), attributes_.mtu_bytes),
      request.end - send_at_);
  const uint64_t room = Room(request);
  if (room < std::min<uint64_t>(wanted, window(request) / 2)) return send_at_;
  return send_at_ + std::min({wanted, room, kMaxSpan - in_flight});
}

ibv_wc_status Requester::LocalFault(const Request& request) const {
  const SendWork& work = request.work;
  if (work.fault != IBV_WC_SUCCESS) return work.fault;
  const uint64_t most = options_.transport == Transport::kUd
                            ? attributes_.mtu_bytes
                            : kMaxMessageBytes;
  if (request.length > most) return IBV_WC_LOC_LEN_ERR;
  if (!IsAnswered(work.operation)) return IBV_WC_SUCCESS;
  // No more in flight than the peer serves, and it serves none.
  if (!reliable() || attributes_.max_rd_atomic == 0) {
    return IBV_WC_LOC_QP_OP_ERR;
  }
  if (work.operation != Operation::kRead && request.length != kAtomicBytes) {
    return IBV_WC_LOC_LEN_ERR;
  }
  return IBV_WC_SUCCESS;
}

void Requester::RunLocal(Request& request) {
  if (!request.has_run) {
    request.has_run = true;
    request.work.fault = request.work.action->Run();
    if (request.work.fault != IBV_WC_SUCCESS) --send_index_;
  }
  Retire();
}

ABSL_ATTRIBUTE_HOT void Requester::SendPart(Request& request, uint64_t up_to,
                                            Outbox& outbox) {
  switch (request.work.operation) {
    case Operation::kSend:
    case Operation::kWrite:
      return outbox.Send(MakeData(request, up_to));
    case Operation::kRead:
      return outbox.Send(MakeRead(request));
    case Operation::kCompareSwap:
    case Operation::kFetchAdd:
      return outbox.Send(MakeAtomic(request));
    case Operation::kLocal:
      return;
  }
}

Outgoing Requester::MakeData(const Request& request, uint64_t up_to) {
  const SendWork& work = request.work;
  const bool first = send_at_ == request.begin;
  const bool last = up_to == request.end;
  const auto packets = static_cast<uint8_t>(up_to - send_at_);
  const uint64_t offset = (send_at_ - request.begin) * attributes_.mtu_bytes;
  const Slice payload{
      .segments = work.segments,
      .offset = offset,
      .length = std::min<size_t>(size_t{packets} * attributes_.mtu_bytes,
                                 request.length - offset)};
  Packet packet;
  packet.packets = packets;
  packet.bth = {
      .opcode = MessageOpcode(options_.transport, KindOf(work.operation), first,
                              last, work.ending),
      .solicited = last && work.solicited,
      .pad = PadOf(payload),
      .pkey = attributes_.pkey,
      .destination = attributes_.destination,
      .ack_req = WantsAck(last, packets),
      .psn = PsnAt(send_at_)};
  packet.reth = {.address = work.remote_address,
                 .rkey = work.rkey,
                 .length = request.length};
  packet.imm_dt = {.value = work.immediate};
  packet.ieth = {.rkey = work.invalidate};
  if (options_.transport == Transport::kUd) [[unlikely]] {
    packet.bth.destination = work.address.destination;
    packet.deth = {.qkey = QkeyOf(work), .source = options_.number};
  }
  // A work that is not acknowledged completes here and now, and its memory is
  // the application's again.
  return {.packet = packet,
          .payload = payload,
          .route = work.address.route,
          .lasts = reliable()};
}

// IBA ch. 10, Q_Keys: a privileged one in the work stands for the queue pair's
// own.
Qkey Requester::QkeyOf(const SendWork& work) const {
  const bool privileged = (ToUint(work.address.qkey) & kPrivilegedQkey) != 0;
  return privileged ? attributes_.qkey : work.address.qkey;
}

Outgoing Requester::MakeRead(const Request& request) const {
  const uint64_t offset = (send_at_ - request.begin) * attributes_.mtu_bytes;
  const uint64_t most =
      (EndOfPart(request, send_at_) - send_at_) * attributes_.mtu_bytes;
  Packet packet;
  packet.bth = {.opcode = Opcode::kRcReadRequest,
                .pkey = attributes_.pkey,
                .destination = attributes_.destination,
                .ack_req = true,
                .psn = PsnAt(send_at_)};
  packet.reth = {
      .address = request.work.remote_address + offset,
      .rkey = request.work.rkey,
      .length = static_cast<uint32_t>(std::min(most, request.length - offset))};
  return {.packet = packet};
}

Outgoing Requester::MakeAtomic(const Request& request) const {
  const SendWork& work = request.work;
  const bool swaps = work.operation == Operation::kCompareSwap;
  Packet packet;
  packet.bth = {.opcode = swaps ? Opcode::kRcCompareSwap : Opcode::kRcFetchAdd,
                .pkey = attributes_.pkey,
                .destination = attributes_.destination,
                .ack_req = true,
                .psn = PsnAt(send_at_)};
  packet.atomic_eth = {.address = work.remote_address,
                       .rkey = work.rkey,
                       .swap_or_add = work.swap_or_add,
                       .compare = swaps ? work.compare : 0};
  return {.packet = packet};
}

// On the last packet of each message, and often enough inside long ones that
// an acknowledgement arrives before the window is full, which may be narrow by
// then.
bool Requester::WantsAck(bool last, uint32_t packets) {
  if (!reliable()) return false;
  since_ack_req_ += packets;
  const bool wanted = last || probing_ || since_ack_req_ >= copied_window() / 2;
  if (wanted) since_ack_req_ = 0;
  return wanted;
}

void Requester::Sent(Request& request, uint64_t up_to, Instant now) {
  if (request.work.operation == Operation::kRead) awaited_ += up_to - send_at_;
  if (IsAnswered(request.work.operation)) ++rd_atomics_;
  send_at_ = up_to;
  max_sent_ = std::max(max_sent_, send_at_);
  if (send_at_ == request.end) ++send_index_;
  if (!reliable()) {
    Advance(send_at_, now);
  } else if (ack_deadline_ == kNever) {
    StartAckTimer(now);
  }
}

// ---- What comes in.

// Of what is answered already, none. An answer to what was never sent is a
// ghost, too (IBA ch. 9, ghost acknowledgements).
std::optional<uint64_t> Requester::PositionOf(const Packet& packet) const {
  const int32_t ahead = packet.bth.psn - PsnAt(unacked_);
  if (ahead < 0) return std::nullopt;
  const uint64_t position = unacked_ + static_cast<uint64_t>(ahead);
  if (position >= max_sent_) return std::nullopt;
  return position;
}

// The READ that is to be answered there, if none of those before it and no
// atomic waits for its answer.
const Requester::Request* Requester::ReadAt(uint64_t position) const {
  for (size_t i = 0; i < queue_.size(); ++i) {
    const Request& request = queue_[i];
    const bool answered = IsAnswered(request.work.operation);
    if (request.end <= position && !answered) continue;
    const bool here = request.begin <= position && position < request.end &&
                      request.work.operation == Operation::kRead;
    return here ? &request : nullptr;
  }
  return nullptr;
}

bool Requester::IsNextAnswer(const Packet& packet) const {
  const auto position = PositionOf(packet);
  const Request* const read = position ? ReadAt(*position) : nullptr;
  return read != nullptr && *position == std::max(read->begin, unacked_);
}

Slice Requester::PlaceOf(const Packet& packet) const {
  const auto position = PositionOf(packet);
  const Request* const read = position ? ReadAt(*position) : nullptr;
  if (read == nullptr || read->work.fault != IBV_WC_SUCCESS) return {};
  const uint64_t offset = (*position - read->begin) * attributes_.mtu_bytes;
  return {.segments = read->work.segments,
          .offset = offset,
          .length =
              std::min<size_t>(packet.payload_bytes(), read->length - offset)};
}

ABSL_ATTRIBUTE_HOT void Requester::OnPacket(const Packet& packet, Instant now) {
  const auto position = PositionOf(packet);
  if (!position) [[unlikely]]
    return;
  switch (packet.facts().kind) {
    case PacketKind::kAcknowledge:
      return OnAcknowledge(packet, *position, now);
    case PacketKind::kReadResponse:
      return OnReadResponse(packet, *position, now);
    case PacketKind::kAtomicAcknowledge:
      return OnAtomicAcknowledge(packet, *position, now);
    case PacketKind::kSend:
    case PacketKind::kWrite:
    case PacketKind::kReadRequest:
    case PacketKind::kAtomicRequest:
      return;
  }
}

void Requester::OnAcknowledge(const Packet& packet, uint64_t position,
                              Instant now) {
  const Syndrome syndrome = packet.aeth.syndrome;
  switch (syndrome.kind()) {
    case Syndrome::Kind::kAck:
      if (!Acknowledge(position + 1, now)) AskAgain();
      return;
    case Syndrome::Kind::kRnrNak:
      return OnRnrNak(syndrome.code(), position, now);
    case Syndrome::Kind::kNak:
      return OnNak(syndrome.nak_code(), position, now);
    case Syndrome::Kind::kReserved:
      return;
  }
}

// Everything before `end` has arrived there. False: a READ or atomic before it
// has no answer, which must have been lost; it is not passed over.
ABSL_ATTRIBUTE_HOT bool Requester::Acknowledge(uint64_t end, Instant now) {
  uint64_t reached = unacked_;
  for (size_t i = 0; i < queue_.size() && reached < end; ++i) {
    const Request& request = queue_[i];
    const bool blocks =
        IsAnswered(request.work.operation) && request.end > reached;
    if (blocks) break;
    reached = std::min(end, request.end);
  }
  if (reached > unacked_) Advance(reached, now);
  return reached == end;
}

// A NAK acknowledges what is before it (IBA 9.7.5.1.2, coalesced
// acknowledgements).
void Requester::OnNak(NakCode code, uint64_t position, Instant now) {
  const bool answered = Acknowledge(position, now);
  if (code == NakCode::kPsnSequenceError) {
    // rdma_rxe sends these for what follows a packet it had no receive for,
    // where the rules ask for silence: the wait goes on.
    if (rnr_until_ == kNever) AskAgain();
    return;
  }
  const bool of_first = position < queue_.front().end;
  if (!answered && !of_first) return AskAgain();
  Fail(StatusOf(code));
}

void Requester::OnRnrNak(uint8_t timer_code, uint64_t position, Instant now) {
  if (!Acknowledge(position, now)) return AskAgain();
  if (rnr_until_ != kNever) return;  // the same NAK twice
  const bool for_ever = attributes_.rnr_retry == kRnrRetryForever;
  if (!for_ever && rnr_retries_ == attributes_.rnr_retry) {
    return Fail(IBV_WC_RNR_RETRY_EXC_ERR);
  }
  if (!for_ever) ++rnr_retries_;
  GoBack();
  rnr_until_ = now + RnrTime(timer_code);
}

void Requester::OnReadResponse(const Packet& packet, uint64_t position,
                               Instant now) {
  if (!IsNext(position, now)) return;
  const Request& request = queue_.front();
  // FIRST or MIDDLE, LAST or ONLY: which of the two is the responder's choice
  // where a READ was asked again from its middle.
  const uint64_t end = position + packet.packets;
  const uint64_t end_of_part = EndOfPart(request, position);
  if (request.work.operation != Operation::kRead || end > end_of_part ||
      packet.facts().last != (end == end_of_part)) {
    return Fail(IBV_WC_BAD_RESP_ERR);
  }
  const uint64_t mtu = attributes_.mtu_bytes;
  const uint64_t offset = (position - request.begin) * mtu;
  const uint64_t expected =
      std::min(packet.packets * mtu, request.length - offset);
  if (packet.payload_bytes() != expected) return Fail(IBV_WC_LOC_LEN_ERR);
  if (request.work.fault != IBV_WC_SUCCESS) return Fail(request.work.fault);
  if (!ScatterPayload(packet, request.work.segments, offset)) {
    return AskAgain();
  }
  AnswerTaken(position, packet.packets, now);
}

void Requester::OnAtomicAcknowledge(const Packet& packet, uint64_t position,
                                    Instant now) {
  if (!IsNext(position, now)) return;
  const Request& request = queue_.front();
  if (request.work.operation != Operation::kCompareSwap &&
      request.work.operation != Operation::kFetchAdd) {
    return Fail(IBV_WC_BAD_RESP_ERR);
  }
  if (request.work.fault != IBV_WC_SUCCESS) return Fail(request.work.fault);
  std::array<std::byte, kAtomicBytes> original;
  std::memcpy(original.data(), &packet.atomic_ack_eth.original, kAtomicBytes);
  Scatter(original, request.work.segments, 0);
  AnswerTaken(position, 1, now);
}

// An answer with data acknowledges all before it; if one before it is missing,
// it has been lost, and this one will come again.
bool Requester::IsNext(uint64_t position, Instant now) {
  if (Acknowledge(position, now)) return true;
  AskAgain();
  return false;
}

void Requester::AnswerTaken(uint64_t position, uint64_t packets, Instant now) {
  const Request& request = queue_.front();
  const uint64_t end = position + packets;
  const bool in_flight = send_at_ > position;  // not since it went back
  if (in_flight && request.work.operation == Operation::kRead) {
    awaited_ -= packets;
  }
  if (in_flight && end == EndOfPart(request, position)) {
    --rd_atomics_;
    ++repeats_;
  }
  const bool late = !in_flight && doubting();
  Advance(end, now);
  if (late) GoOn(now);
}

// An answer to what was not asked for again: the peer is slow, and what else
// was in flight is on its way still. If it is not, the next silence tells.
void Requester::GoOn(Instant now) {
  doubted_ = 0;
  while (send_at_ < max_sent_) {
    Request& request = queue_[send_index_];
    if (request.work.operation == Operation::kLocal) {
      ++send_index_;
    } else {
      Sent(request, std::min(EndOfPart(request, send_at_), max_sent_), now);
    }
  }
}

ABSL_ATTRIBUTE_HOT void Requester::Advance(uint64_t position, Instant now) {
  Widen(position);
  unacked_ = position;
  send_at_ = std::max(send_at_, unacked_);
  retries_ = rnr_retries_ = 0;
  asked_again_ = probing_ = false;
  rnr_until_ = kNever;
  ack_deadline_ = kNever;
  if (send_at_ > unacked_) StartAckTimer(now);
  Retire();
}

// By one for each window that was answered, as TCP's congestion avoidance does.
// It ends with a loss, which one that never repeats cannot afford.
void Requester::Widen(uint64_t position) {
  const bool widest = own_window() >= attributes_.max_window;
  if (widest || attributes_.retry_cnt == 0) return;
  answered_ += position - unacked_;
  if (answered_ < own_window()) return;
  answered_ = 0;
  const bool used = send_at_ - unacked_ >= awaited_ + own_window() / 2;
  if (used) ++grown_;
}

void Requester::StartAckTimer(Instant now) {
  if (attributes_.ack_timeout == 0) return;
  ack_deadline_ = now + AckTime(attributes_.ack_timeout);
}

// ---- Retries and ends.

std::optional<Instant> Requester::NextDeadline() const {
  const Instant next = rnr_until_ != kNever ? rnr_until_ : ack_deadline_;
  if (next == kNever) return std::nullopt;
  return next;
}

void Requester::OnTimer(Instant now) {
  if (now >= rnr_until_) rnr_until_ = kNever;
  if (now < ack_deadline_) return;
  Retry();
  if (failed_) return;
  // The peer may be slow, not deaf: all that is in flight once more, and an
  // answer to each of those, would make it slower. One packet finds out: its
  // acknowledgement says what has arrived. A READ's answer says so of that READ
  // only, hence of those one goes again, and two for each that is answered.
  probing_ = true;
  doubted_ = max_sent_;
  repeats_ = 1;
}

// Something was lost, says the responder. It says so once and again only after
// the repeated packets have arrived, so what it says before is about the past.
void Requester::AskAgain() {
  if (asked_again_) return;
  asked_again_ = true;
  Retry();
}

void Requester::Retry() {
  if (retries_ == attributes_.retry_cnt) return Fail(IBV_WC_RETRY_EXC_ERR);
  ++retries_;
  grown_ /= 2;
  GoBack();
}

void Requester::GoBack() {
  probing_ = false;
  send_at_ = unacked_;
  send_index_ = 0;
  awaited_ = 0;
  rd_atomics_ = 0;
  since_ack_req_ = 0;
  doubted_ = 0;
  ack_deadline_ = kNever;
}

ABSL_ATTRIBUTE_HOT void Requester::Retire() {
  while (!queue_.empty()) {
    const Request& request = queue_.front();
    const bool waits =
        request.work.operation == Operation::kLocal &&
        (!request.has_run || request.work.fault != IBV_WC_SUCCESS);
    if (waits || request.end > unacked_) return;
    Complete(IBV_WC_SUCCESS);
  }
}

// Completes the oldest work. An error completes whether signaled or not.
void Requester::Complete(ibv_wc_status status) {
  const Request& request = queue_.front();
  const WorkCompletion completion{.wr_id = request.work.wr_id,
                                  .status = status,
                                  .opcode = request.work.wc_opcode,
                                  .byte_len = request.length};
  const bool shown = request.work.signaled || status != IBV_WC_SUCCESS;
  queue_.PopFront();
  if (send_index_ > 0) --send_index_;
  if (shown) completions_.SendCompleted(completion);
}

void Requester::Fail(ibv_wc_status status) {
  Complete(status);
  failed_ = true;
  ack_deadline_ = kNever;
  rnr_until_ = kNever;
}

}  // namespace nd::soft
