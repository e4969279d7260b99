#include "soft/device/queue_pair.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/base/attributes.h"
#include "soft/device/grh.h"

namespace nd::soft {
namespace {

constexpr uint32_t kMax24Bits = 0xffffff;
constexpr uint8_t kMaxTimeout = 31;
constexpr uint8_t kMaxRetries = 7;

// What a send opcode of verbs means here.
struct OpcodeMeaning {
  ibv_wr_opcode opcode;
  Operation operation;
  Ending ending;
  ibv_wc_opcode completion;
};
constexpr OpcodeMeaning kOpcodes[] = {
    {IBV_WR_SEND, Operation::kSend, Ending::kPlain, IBV_WC_SEND},
    {IBV_WR_SEND_WITH_IMM, Operation::kSend, Ending::kImmediate, IBV_WC_SEND},
    {IBV_WR_SEND_WITH_INV, Operation::kSend, Ending::kInvalidate, IBV_WC_SEND},
    {IBV_WR_RDMA_WRITE, Operation::kWrite, Ending::kPlain, IBV_WC_RDMA_WRITE},
    {IBV_WR_RDMA_WRITE_WITH_IMM, Operation::kWrite, Ending::kImmediate,
     IBV_WC_RDMA_WRITE},
    {IBV_WR_RDMA_READ, Operation::kRead, Ending::kPlain, IBV_WC_RDMA_READ},
    {IBV_WR_ATOMIC_CMP_AND_SWP, Operation::kCompareSwap, Ending::kPlain,
     IBV_WC_COMP_SWAP},
    {IBV_WR_ATOMIC_FETCH_AND_ADD, Operation::kFetchAdd, Ending::kPlain,
     IBV_WC_FETCH_ADD},
    {IBV_WR_BIND_MW, Operation::kLocal, Ending::kPlain, IBV_WC_BIND_MW},
    {IBV_WR_LOCAL_INV, Operation::kLocal, Ending::kPlain, IBV_WC_LOCAL_INV},
};

// Of the memory that an element names; 0: none.
uint32_t KeyOf(const ibv_sge& sge) { return sge.length > 0 ? sge.lkey : 0; }

const OpcodeMeaning* MeaningOf(ibv_wr_opcode opcode) {
  for (const OpcodeMeaning& meaning : kOpcodes) {
    if (meaning.opcode == opcode) return &meaning;
  }
  return nullptr;
}

// IBA ch. 10, transport services: what a transport serves.
bool Serves(Transport transport, const OpcodeMeaning& meaning) {
  switch (transport) {
    case Transport::kRc:
      return true;
    case Transport::kUc:
      return !IsAnswered(meaning.operation) &&
             meaning.ending != Ending::kInvalidate;
    case Transport::kUd:
      return meaning.operation == Operation::kSend &&
             meaning.ending != Ending::kInvalidate;
    default:
      return false;
  }
}

// What a queue pair sends before it is the next one's turn. Within the host
// that is one burst, so that what comes meanwhile, or another queue pair wants
// to send, has not long to wait; on the wire as much as UDP's segmentation
// offload takes at once, 15 packets of 4,096 bytes.
constexpr size_t kTurnOnTheWire = size_t{60} << 10;

// The verbs' states have the order of QpState.
ibv_qp_state ToVerbs(QpState state) { return static_cast<ibv_qp_state>(state); }
QpState FromVerbs(ibv_qp_state state) { return static_cast<QpState>(state); }
static_assert(static_cast<int>(QpState::kErr) == IBV_QPS_ERR &&
              static_cast<int>(QpState::kSqd) == IBV_QPS_SQD);

}  // namespace

ibv_wc_status WindowAction::Run() {
  if (invalidate) {
    return memory->Invalidate(key, by) ? IBV_WC_SUCCESS : IBV_WC_MW_BIND_ERR;
  }
  const absl::Status bound = type1 ? memory->BindType1(key, new_key, by, bind)
                                   : memory->BindType2(key, new_key, by, bind);
  return bound.ok() ? IBV_WC_SUCCESS : IBV_WC_MW_BIND_ERR;
}

// Hands packets on to the network, on the way that they are to take.
class QueuePair::NetOutbox final : public Outbox {
 public:
  NetOutbox(QueuePair& qp, Network& network)
      : qp_(qp),
        network_(network),
        bursts_(network.Bursts(qp.path_, Qpn(qp.attr_.dest_qp_num))),
        turn_bytes_(bursts_.copied > 0 ? bursts_.copied : kTurnOnTheWire) {}

  size_t room() const override {
    if (sent_bytes_ >= turn_bytes_) {
      turn_over_ = true;
      return 0;
    }
    const size_t room = Room();
    if (room == 0) blocked_ = true;
    return room;
  }
  size_t burst_bytes() const override {
    return std::min(bursts_.copied,
                    turn_bytes_ - std::min(turn_bytes_, sent_bytes_));
  }
  size_t lent_burst_bytes() const override { return bursts_.lent; }
  bool beside_short() const override { return bursts_.beside_short; }
  void Send(const Outgoing& outgoing) override {
    sent_bytes_ += kAboutHeaders;
    if (bursts_.lent > 0 && outgoing.payload.length > bursts_.copied) {
      Outgoing lent = outgoing;
      lent.loan = &qp_.loan_;
      return network_.Send(qp_.path_, lent);
    }
    const Path* const datagram_path =
        reinterpret_cast<const Path*>(outgoing.route);
    network_.Send(datagram_path != nullptr ? *datagram_path : qp_.path_,
                  outgoing);
    sent_bytes_ += outgoing.payload.length;
  }
  SendOutcome outcome() const {
    if (turn_over_) return SendOutcome::kTurn;
    if (!blocked_) return SendOutcome::kAll;
    return sent_bytes_ > 0 ? SendOutcome::kSome : SendOutcome::kNothing;
  }

 private:
  static constexpr size_t kAboutHeaders = 64;

  size_t Room() const {
    if (!qp_.datagram()) {
      return network_.Room(qp_.path_, Qpn(qp_.attr_.dest_qp_num));
    }
    if (qp_.qp_.sends_queued() == 0) return 1;
    const SendSlot& oldest = qp_.OldestSlot();
    return std::min<size_t>(1, network_.Room(oldest.path, oldest.destination));
  }

  QueuePair& qp_;
  Network& network_;
  const BurstBytes bursts_;
  const size_t turn_bytes_;
  size_t sent_bytes_ = 0;
  mutable bool blocked_ = false;
  mutable bool turn_over_ = false;
};

QueuePair::QueuePair(const Options& options, MemoryTable& memory)
    : options_(options),
      memory_(memory),
      slots_(options.cap.max_send_wr),
      segments_(size_t{options.cap.max_send_wr} *
                std::max(options.cap.max_send_sge, 1u)),
      keys_(segments_.size()),
      inline_(new std::byte[size_t{options.cap.max_send_wr} *
                            options.cap.max_inline_data]),
      receives_(options.srq != nullptr ? 0 : options.cap.max_recv_wr,
                options.cap.max_recv_sge),
      loan_(options.loan),
      qp_({.transport = options.transport,
           .number = options.number,
           .send_depth = options.cap.max_send_wr},
          {.memory = *this, .receives = *this, .completions = *this}) {
  attr_.port_num = 1;
}

// Nothing that comes behind may be seen before it.
void QueuePair::EndLoans() { loan_.fetch_add(1, std::memory_order_seq_cst); }

ibv_qp_state QueuePair::state() const { return ToVerbs(qp_.state()); }

const QueuePair::SendSlot& QueuePair::OldestSlot() const {
  return slots_[(next_slot_ + slots_.size() - qp_.sends_queued()) %
                slots_.size()];
}

int QueuePair::Modify(const ibv_qp_attr& attr, int mask,
                      const std::optional<Path>& path) {
  const ibv_qp_state to = (mask & IBV_QP_STATE) != 0 ? attr.qp_state : state();
  if (to == IBV_QPS_RESET || to == IBV_QPS_ERR) {
    if (!qp_.Modify(FromVerbs(to), qp_.attributes())) return EINVAL;
    (void)shuffled_.Take();
    EndLoans();
    if (to == IBV_QPS_RESET) {
      receives_.Clear();
      heard_ = false;
      attr_ = {};
      attr_.port_num = 1;
    }
    return 0;
  }
  ibv_qp_attr next = attr_;
  if ((mask & IBV_QP_ACCESS_FLAGS) != 0) {
    next.qp_access_flags = attr.qp_access_flags;
  }
  if ((mask & IBV_QP_QKEY) != 0) next.qkey = attr.qkey;
  if ((mask & IBV_QP_AV) != 0) next.ah_attr = attr.ah_attr;
  if ((mask & IBV_QP_PATH_MTU) != 0) next.path_mtu = attr.path_mtu;
  if ((mask & IBV_QP_DEST_QPN) != 0) next.dest_qp_num = attr.dest_qp_num;
  if ((mask & IBV_QP_RQ_PSN) != 0) next.rq_psn = attr.rq_psn & kMax24Bits;
  if ((mask & IBV_QP_SQ_PSN) != 0) next.sq_psn = attr.sq_psn & kMax24Bits;
  if ((mask & IBV_QP_TIMEOUT) != 0) next.timeout = attr.timeout;
  if ((mask & IBV_QP_RETRY_CNT) != 0) next.retry_cnt = attr.retry_cnt;
  if ((mask & IBV_QP_RNR_RETRY) != 0) next.rnr_retry = attr.rnr_retry;
  if ((mask & IBV_QP_MIN_RNR_TIMER) != 0) {
    next.min_rnr_timer = attr.min_rnr_timer;
  }
  if ((mask & IBV_QP_MAX_QP_RD_ATOMIC) != 0) {
    next.max_rd_atomic = attr.max_rd_atomic;
  }
  if ((mask & IBV_QP_MAX_DEST_RD_ATOMIC) != 0) {
    next.max_dest_rd_atomic = attr.max_dest_rd_atomic;
  }
  if (next.timeout > kMaxTimeout || next.min_rnr_timer > kMaxTimeout ||
      next.retry_cnt > kMaxRetries || next.rnr_retry > kMaxRetries ||
      next.dest_qp_num > kMax24Bits) {
    return EINVAL;
  }
  QpAttributes attributes = qp_.attributes();
  attributes.access = next.qp_access_flags;
  attributes.qkey = Qkey(next.qkey);
  if (next.path_mtu != 0) attributes.mtu_bytes = 128u << next.path_mtu;
  if (datagram()) attributes.mtu_bytes = 4096;
  attributes.destination = Qpn(next.dest_qp_num);
  attributes.receive_psn = Psn(next.rq_psn);
  attributes.send_psn = Psn(next.sq_psn);
  attributes.max_dest_rd_atomic = next.max_dest_rd_atomic;
  attributes.max_rd_atomic = next.max_rd_atomic;
  attributes.min_rnr_timer = next.min_rnr_timer;
  attributes.retry_cnt = next.retry_cnt;
  attributes.rnr_retry = next.rnr_retry;
  attributes.ack_timeout = next.timeout;
  attributes.window = window_;
  attributes.max_window = max_window_;
  if (!qp_.Modify(FromVerbs(to), attributes)) return EINVAL;
  attr_ = next;
  if (path) path_ = *path;
  return 0;
}

void QueuePair::Query(ibv_qp_attr& attr) const {
  attr = attr_;
  attr.qp_state = attr.cur_qp_state = state();
  attr.path_mig_state = IBV_MIG_MIGRATED;
  attr.cap = options_.cap;
}

// ---- Requests.

int QueuePair::CollectInline(const ibv_send_wr& wr, SendWork& work) {
  std::byte* const place =
      inline_.get() + next_slot_ * options_.cap.max_inline_data;
  size_t length = 0;
  for (const ibv_sge& sge : std::span(wr.sg_list, size_t(wr.num_sge))) {
    if (sge.length > options_.cap.max_inline_data - length) [[unlikely]]
      return EINVAL;
    if (sge.length == 0) continue;
    std::memcpy(place + length, reinterpret_cast<const void*>(sge.addr),
                sge.length);
    length += sge.length;
  }
  const size_t index = next_slot_ * std::max(options_.cap.max_send_sge, 1u);
  Segment& segment = segments_[index];
  segment = {place, length};
  keys_[index] = 0;
  work.segments = {&segment, 1};
  return 0;
}

// A key that does not allow what is asked is a fault of the work, found when
// its turn comes (IBA ch. 10, error handling).
int QueuePair::Collect(const ibv_send_wr& wr, SendWork& work) {
  const size_t index = next_slot_ * std::max(options_.cap.max_send_sge, 1u);
  Segment* const first = &segments_[index];
  const bool filled = IsAnswered(work.operation);
  size_t count = 0;
  for (const ibv_sge& sge : std::span(wr.sg_list, size_t(wr.num_sge))) {
    const auto segment = memory_.FindLocal(options_.pd, sge, filled);
    if (!segment) [[unlikely]] {
      work.fault = IBV_WC_LOC_PROT_ERR;
      break;
    }
    keys_[index + count] = KeyOf(sge);
    first[count++] = *segment;
  }
  work.segments = {first, count};
  return 0;
}

ABSL_ATTRIBUTE_HOT int QueuePair::PostSend(const ibv_send_wr& wr) {
  const OpcodeMeaning* const meaning = MeaningOf(wr.opcode);
  if (meaning == nullptr || !Serves(options_.transport, *meaning) ||
      wr.num_sge < 0 ||
      static_cast<uint32_t>(wr.num_sge) > options_.cap.max_send_sge)
      [[unlikely]] {
    return EINVAL;
  }
  if (qp_.sends_queued() >= slots_.size()) [[unlikely]]
    return ENOMEM;
  SendWork work{
      .wr_id = wr.wr_id,
      .operation = meaning->operation,
      .wc_opcode = meaning->completion,
      .signaled = options_.signal_all || (wr.send_flags & IBV_SEND_SIGNALED),
      .fence = (wr.send_flags & IBV_SEND_FENCE) != 0,
      .solicited = (wr.send_flags & IBV_SEND_SOLICITED) != 0,
      .ending = meaning->ending,
      .immediate = ntohl(wr.imm_data),
      .invalidate = Rkey(wr.invalidate_rkey)};
  SendSlot& slot = NextSlot();
  switch (meaning->operation) {
    case Operation::kSend:
      break;
    case Operation::kWrite:
    case Operation::kRead:
      work.remote_address = wr.wr.rdma.remote_addr;
      work.rkey = Rkey(wr.wr.rdma.rkey);
      break;
    case Operation::kCompareSwap:
    case Operation::kFetchAdd: {
      work.remote_address = wr.wr.atomic.remote_addr;
      work.rkey = Rkey(wr.wr.atomic.rkey);
      const bool swaps = meaning->operation == Operation::kCompareSwap;
      work.compare = wr.wr.atomic.compare_add;
      work.swap_or_add = swaps ? wr.wr.atomic.swap : wr.wr.atomic.compare_add;
      break;
    }
    case Operation::kLocal:
      slot.action.memory = &memory_;
      slot.action.by = accessor();
      slot.action.type1 = false;
      slot.action.invalidate = wr.opcode == IBV_WR_LOCAL_INV;
      if (slot.action.invalidate) {
        slot.action.key = wr.invalidate_rkey;
      } else {
        const ibv_mw_bind_info& bind = wr.bind_mw.bind_info;
        if (wr.bind_mw.mw == nullptr || bind.mr == nullptr) return EINVAL;
        slot.action.key = wr.bind_mw.mw->rkey;
        slot.action.new_key = wr.bind_mw.rkey;
        slot.action.bind = {.region_key = bind.mr->lkey,
                            .address = bind.addr,
                            .length = bind.length,
                            .access = bind.mw_access_flags};
      }
      work.action = &slot.action;
      return PostWork(work);
  }
  if (datagram()) {
    const auto* const ah = reinterpret_cast<const AddressHandle*>(wr.wr.ud.ah);
    if (ah == nullptr) return EINVAL;
    if (ah->pd != options_.pd) work.fault = IBV_WC_LOC_QP_OP_ERR;
    slot.path = ah->path;
    slot.destination = Qpn(wr.wr.ud.remote_qpn & kMax24Bits);
    work.address = {.destination = slot.destination,
                    .qkey = Qkey(wr.wr.ud.remote_qkey),
                    .route = reinterpret_cast<uint64_t>(&slot.path)};
  }
  const bool in_line = (wr.send_flags & IBV_SEND_INLINE) != 0;
  if (in_line && IsAnswered(meaning->operation)) return EINVAL;
  const int error = in_line ? CollectInline(wr, work) : Collect(wr, work);
  return error != 0 ? error : PostWork(work);
}

int QueuePair::PostBind(uint64_t wr_id, unsigned flags, uint32_t window_key,
                        uint32_t new_key, const WindowBind& bind) {
  if (options_.transport == Transport::kUd) return EINVAL;
  if (qp_.sends_queued() >= slots_.size()) return ENOMEM;
  WindowAction& action = NextSlot().action;
  action.memory = &memory_;
  action.by = accessor();
  action.invalidate = false;
  action.type1 = true;
  action.key = window_key;
  action.new_key = new_key;
  action.bind = bind;
  return PostWork(
      {.wr_id = wr_id,
       .operation = Operation::kLocal,
       .wc_opcode = IBV_WC_BIND_MW,
       .signaled = options_.signal_all || (flags & IBV_SEND_SIGNALED) != 0,
       .fence = (flags & IBV_SEND_FENCE) != 0,
       .action = &action});
}

ABSL_ATTRIBUTE_HOT int QueuePair::PostWork(const SendWork& work) {
  switch (qp_.Post(work)) {
    case PostResult::kPosted:
      next_slot_ = next_slot_ + 1 < slots_.size() ? next_slot_ + 1 : 0;
      return 0;
    case PostResult::kWrongState:
      return EINVAL;
    case PostResult::kFull:
      return ENOMEM;
  }
  return EINVAL;
}

ABSL_ATTRIBUTE_HOT int QueuePair::PostReceive(const ibv_recv_wr& wr) {
  if (qp_.state() == QpState::kReset || options_.srq != nullptr) return EINVAL;
  if (wr.num_sge < 0 ||
      static_cast<uint32_t>(wr.num_sge) > options_.cap.max_recv_sge) {
    return EINVAL;
  }
  if (!receives_.Post(wr.wr_id, {wr.sg_list, size_t(wr.num_sge)})) {
    return ENOMEM;
  }
  qp_.OnReceivePosted();
  return 0;
}

void QueuePair::ForgetRegion(uint32_t key) {
  // What a window named that was read through, it does not tell any more.
  bool lent = qp_.HasRead([this, key](Rkey rkey) {
    return ToUint(rkey) == key || !memory_.IsRegion(ToUint(rkey));
  });
  qp_.ForgetMemory([this, key, &lent](Segments segments) {
    if (segments.empty()) return false;
    const std::span<const uint32_t> keys =
        segments.data() == receive_segments_.data()
            ? std::span(receive_keys_)
            : std::span(keys_).subspan(
                  static_cast<size_t>(segments.data() - segments_.data()),
                  segments.size());
    const bool named = std::ranges::find(keys, key) != keys.end();
    lent |= named;
    return named;
  });
  if (lent) EndLoans();
}

// ---- The protocol's ports.

// A connected queue pair takes packets of its peer only (IBA ch. 9, packet
// header validation).
ABSL_ATTRIBUTE_HOT void QueuePair::OnArrival(const Arrival& arrival,
                                             Instant now) {
  if (!datagram() && (!SameGid(arrival.path.source, path_.destination) ||
                      !SameGid(arrival.path.destination, path_.source)))
      [[unlikely]] {
    return;
  }
  heard_ = true;
  if (options_.faults != nullptr && HoldBack(arrival, now)) [[unlikely]]
    return;
  TakeArrival(arrival, now);
}

void QueuePair::TakeArrival(const Arrival& arrival, Instant now) {
  arrival_ = &arrival;
  qp_.OnPacket(arrival.packet, now);
  arrival_ = nullptr;
  SettleFault();
}

bool QueuePair::HoldBack(const Arrival& arrival, Instant now) {
  if (!shuffled_.holding() && !BeginHoldingBack(arrival, now)) return false;
  Segment of_write;
  const Slice place = shuffled_.GoesOn(arrival.packet)
                          ? PlaceOf(arrival.packet, of_write)
                          : Slice();
  if (!shuffled_.Hold(arrival, place, options_.faults->random())) {
    TakeHeldBack(now);
  }
  return true;
}

bool QueuePair::BeginHoldingBack(const Arrival& arrival, Instant now) {
  const Packet& packet = arrival.packet;
  if (!qp_.BeginsPayload(packet) || !options_.faults->ShufflePayload()) {
    return false;
  }
  if (packet.facts().kind == PacketKind::kSend) {
    arrival_ = &arrival;
    ahead_ = true;
    const bool taken = qp_.TakeReceive(packet);
    ahead_ = false;
    arrival_ = nullptr;
    // What is wrong with it is told at once.
    if (!taken) return false;
  }
  shuffled_.Begin(packet, now);
  return true;
}

// Where the payload of a packet that goes on with the message belongs; of a
// WRITE, what the peer may write to now, named by `of_write`.
Slice QueuePair::PlaceOf(const Packet& packet, Segment& of_write) {
  if (packet.facts().kind != PacketKind::kWrite) {
    return qp_.PlaceOf(packet, shuffled_.arrived());
  }
  const Reth& reth = shuffled_.reth();
  const auto memory = Find({.rkey = reth.rkey,
                            .address = reth.address + shuffled_.arrived(),
                            .length = packet.payload.size(),
                            .access = IBV_ACCESS_REMOTE_WRITE});
  if (!memory) return {};
  of_write = *memory;
  return {.segments = {&of_write, 1}, .length = of_write.size()};
}

void QueuePair::TakeHeldBack(Instant now) {
  for (LateArrival& late : shuffled_.Take()) {
    late.packet.payload = late.payload;
    TakeArrival({.path = late.path, .packet = late.packet}, now);
  }
}

void QueuePair::OnTimer(Instant now) {
  if (shuffled_.holding() && now >= *shuffled_.until()) TakeHeldBack(now);
  qp_.OnTimer(now);
  SettleFault();
}

std::optional<Instant> QueuePair::NextDeadline() const {
  const auto next = qp_.NextDeadline();
  if (!shuffled_.holding()) [[likely]]
    return next;
  return std::min(next.value_or(*shuffled_.until()), *shuffled_.until());
}

ABSL_ATTRIBUTE_HOT SendOutcome QueuePair::Transmit(Instant now,
                                                   Network& network) {
  NetOutbox outbox(*this, network);
  sending_ = &network;
  qp_.Transmit(now, outbox);
  SettleFault();
  sending_ = nullptr;
  return outbox.outcome();
}

SendOutcome QueuePair::TransmitRequests(Instant now, Network& network) {
  NetOutbox outbox(*this, network);
  sending_ = &network;
  qp_.TransmitRequests(now, outbox);
  SettleFault();
  sending_ = nullptr;
  return outbox.outcome();
}

std::optional<std::span<std::byte>> QueuePair::Find(const MemoryClaim& claim) {
  return memory_.FindRemote(accessor(), claim);
}

bool QueuePair::Invalidate(Rkey rkey) {
  return memory_.Invalidate(ToUint(rkey), accessor());
}

ABSL_ATTRIBUTE_HOT std::optional<ReceiveWork> QueuePair::Take() {
  const bool for_message = arrival_ != nullptr && qp_.state() != QpState::kErr;
  if (options_.faults != nullptr && for_message &&
      (std::exchange(refused_, false) || options_.faults->RefuseReceive()))
      [[unlikely]] {
    refused_ = ahead_;
    return std::nullopt;
  }
  const auto posted =
      options_.srq != nullptr ? options_.srq->Take() : receives_.Take();
  if (!posted) [[unlikely]]
    return std::nullopt;
  const PdId pd = options_.srq != nullptr ? options_.srq->pd() : options_.pd;
  ReceiveWork work{.wr_id = posted->wr_id};
  receive_segments_.clear();
  receive_keys_.clear();
  for (const ibv_sge& sge : posted->sges) {
    const auto segment = memory_.FindLocal(pd, sge, true);
    if (!segment) [[unlikely]] {
      work.fault = IBV_WC_LOC_PROT_ERR;
      break;
    }
    receive_segments_.push_back(*segment);
    receive_keys_.push_back(KeyOf(sge));
  }
  if (datagram() && !SplitForGrh() && work.fault == IBV_WC_SUCCESS) {
    work.fault = IBV_WC_LOC_LEN_ERR;
  }
  work.segments = receive_segments_;
  return work;
}

// The first 40 bytes of a datagram's receive are for its GRH (IBA ch. 11, UD
// receives).
bool QueuePair::SplitForGrh() {
  grh_segments_.clear();
  size_t left = kGrhBytes;
  auto rest = receive_segments_.begin();
  for (; rest != receive_segments_.end(); ++rest) {
    const size_t part = std::min(left, rest->size());
    grh_segments_.push_back(rest->first(part));
    *rest = rest->subspan(part);
    left -= part;
    if (!rest->empty()) break;
  }
  receive_segments_.erase(receive_segments_.begin(), rest);
  return left == 0;
}

// The memory of what completes is the application's again: what was sent of it,
// and lasts until it is flushed, goes before. That is RC's only, where few
// works complete while something is sent: local ones, and those that are
// flushed.
void QueuePair::SendCompleted(const WorkCompletion& completion) {
  if (sending_ != nullptr && options_.transport == Transport::kRc) {
    sending_->Flush();
  }
  // One that ends well has been taken.
  if (completion.status != IBV_WC_SUCCESS) [[unlikely]]
    EndLoans();
  CqEntry entry;
  entry.wc.wr_id = completion.wr_id;
  entry.wc.status = WithFaults(completion.status);
  entry.wc.opcode = completion.opcode;
  entry.wc.byte_len = completion.byte_len;
  entry.wc.qp_num = ToUint(options_.number);
  Push(*options_.send_cq, entry);
}

ABSL_ATTRIBUTE_HOT void QueuePair::ReceiveCompleted(
    const WorkCompletion& completion) {
  CqEntry entry;
  ibv_wc& wc = entry.wc;
  wc.wr_id = completion.wr_id;
  wc.status = completion.status;
  wc.opcode = completion.opcode;
  wc.byte_len = completion.byte_len;
  wc.qp_num = ToUint(options_.number);
  wc.src_qp = ToUint(datagram() ? completion.source : Qpn(attr_.dest_qp_num));
  entry.solicited = completion.solicited;
  if (completion.ending == Ending::kImmediate) {
    wc.wc_flags |= IBV_WC_WITH_IMM;
    wc.imm_data = htonl(completion.immediate);
  } else if (completion.ending == Ending::kInvalidate) {
    wc.wc_flags |= IBV_WC_WITH_INV;
    wc.invalidated_rkey = ToUint(completion.invalidated);
  }
  if (datagram() && completion.status == IBV_WC_SUCCESS &&
      arrival_ != nullptr) {
    wc.wc_flags |= IBV_WC_GRH;
    wc.byte_len += kGrhBytes;
    Scatter(MakeGrh(arrival_->path, arrival_->packet), grh_segments_, 0);
  }
  Push(*options_.recv_cq, entry);
}

// Works behind the one that fails end as flushed, as after any other error
// (IBA ch. 10, completions with errors).
ibv_wc_status QueuePair::WithFaults(ibv_wc_status status) {
  if (options_.faults == nullptr || status != IBV_WC_SUCCESS ||
      options_.transport != Transport::kRc) [[likely]] {
    return status;
  }
  if (failing_) return IBV_WC_WR_FLUSH_ERR;
  const auto fault = options_.faults->FailCompletion();
  failing_ = fault.has_value();
  return fault.value_or(status);
}

void QueuePair::SettleFault() {
  if (!failing_) [[likely]]
    return;
  (void)qp_.Modify(QpState::kErr, qp_.attributes());
  failing_ = false;
}

void QueuePair::Push(CompletionQueue& cq, const CqEntry& entry) {
  if (cq.Push(entry)) [[likely]]
    return;
  AsyncSource{options_.events.events, cq.owner()}.Raise(IBV_EVENT_CQ_ERR);
}

// ---- Which attributes go with which step.

namespace {

struct Step {
  ibv_qp_state from;
  ibv_qp_state to;
  int rc_required, rc_optional;
  int uc_required, uc_optional;
  int ud_required, ud_optional;
};

constexpr int kCommonOptional = IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS |
                                IBV_QP_ALT_PATH | IBV_QP_PATH_MIG_STATE;
constexpr int kToInit = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
constexpr int kToInitUd = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY;
constexpr int kToRtrUc =
    IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
constexpr int kToRtrRc =
    kToRtrUc | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
constexpr int kToRtrOptional =
    IBV_QP_ALT_PATH | IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX;
constexpr int kToRtsRc = IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                         IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC;
constexpr int kUdOptional = IBV_QP_CUR_STATE | IBV_QP_QKEY;
constexpr int kSqdOptionalUc = IBV_QP_PORT | IBV_QP_AV | IBV_QP_ALT_PATH |
                               IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX |
                               IBV_QP_PATH_MIG_STATE;
constexpr int kSqdOptionalRc =
    kSqdOptionalUc | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
    IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;

constexpr Step kSteps[] = {
    {IBV_QPS_RESET, IBV_QPS_INIT, kToInit, 0, kToInit, 0, kToInitUd, 0},
    {IBV_QPS_INIT, IBV_QPS_INIT, 0, kToInit, 0, kToInit, 0, kToInitUd},
    {IBV_QPS_INIT, IBV_QPS_RTR, kToRtrRc, kToRtrOptional, kToRtrUc,
     kToRtrOptional, 0, IBV_QP_PKEY_INDEX | IBV_QP_QKEY},
    {IBV_QPS_RTR, IBV_QPS_RTS, kToRtsRc, kCommonOptional | IBV_QP_MIN_RNR_TIMER,
     IBV_QP_SQ_PSN, kCommonOptional, IBV_QP_SQ_PSN, kUdOptional},
    {IBV_QPS_RTS, IBV_QPS_RTS, 0, kCommonOptional | IBV_QP_MIN_RNR_TIMER, 0,
     kCommonOptional, 0, kUdOptional},
    {IBV_QPS_RTS, IBV_QPS_SQD, 0, IBV_QP_EN_SQD_ASYNC_NOTIFY, 0,
     IBV_QP_EN_SQD_ASYNC_NOTIFY, 0, IBV_QP_EN_SQD_ASYNC_NOTIFY},
    {IBV_QPS_SQD, IBV_QPS_RTS, 0, kCommonOptional | IBV_QP_MIN_RNR_TIMER, 0,
     kCommonOptional, 0, kUdOptional},
    {IBV_QPS_SQD, IBV_QPS_SQD, 0, kSqdOptionalRc, 0, kSqdOptionalUc, 0,
     IBV_QP_PKEY_INDEX | IBV_QP_QKEY},
    {IBV_QPS_SQE, IBV_QPS_RTS, 0, 0, 0, IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS,
     0, kUdOptional},
};

}  // namespace

bool ModifyAllowed(ibv_qp_type type, ibv_qp_state from, ibv_qp_state to,
                   int mask) {
  mask &= ~IBV_QP_STATE;
  if (to == IBV_QPS_RESET || to == IBV_QPS_ERR) {
    return (mask & ~IBV_QP_CUR_STATE) == 0;
  }
  for (const Step& step : kSteps) {
    if (step.from != from || step.to != to) continue;
    const auto [required, optional] =
        type == IBV_QPT_RC   ? std::pair(step.rc_required, step.rc_optional)
        : type == IBV_QPT_UC ? std::pair(step.uc_required, step.uc_optional)
                             : std::pair(step.ud_required, step.ud_optional);
    return (mask & required) == required &&
           (mask & ~(required | optional)) == 0;
  }
  return false;
}

}  // namespace nd::soft
