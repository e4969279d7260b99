#include "transport/link/verbs_carrier.h"

#include <cassert>

#include "absl/base/attributes.h"

namespace nd::transport {
namespace {

// A device that has not flushed a QP by then is asked no more: destroying the
// QP ends what it does.
constexpr Duration kFlushTime = std::chrono::seconds(5);

// Whether it is the request's own fault that it failed: the connection would
// have carried another one.
bool IsRefusal(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_REM_OP_ERR:
    case IBV_WC_LOC_PROT_ERR:
    case IBV_WC_LOC_LEN_ERR:
    case IBV_WC_LOC_QP_OP_ERR:
      return true;
    default:
      return false;
  }
}

ibv_sge ElementOf(const LocalPiece& piece) {
  return {.addr = reinterpret_cast<uintptr_t>(piece.data),
          .length = static_cast<uint32_t>(piece.length),
          .lkey = piece.lkey};
}

}  // namespace

VerbsCarrier::VerbsCarrier(const Options& options,
                           std::unique_ptr<verbs::QueuePair> qp,
                           Buffer send_slots, Buffer ring, SessionCore& core)
    : options_(options),
      qp_(std::move(qp)),
      send_slots_(std::move(send_slots)),
      ring_(std::move(ring)),
      core_(core) {
  assert(send_slots_.size() >= size_t{options.depth} * options.slot_size);
}

VerbsCarrier::~VerbsCarrier() = default;

std::span<std::byte> VerbsCarrier::SendSlot(uint64_t number) {
  return send_slots_.bytes().subspan(
      static_cast<size_t>(number % options_.depth) * options_.slot_size,
      options_.slot_size);
}

// The request that Chain adds next, whose elements are pieces_[chained_]. What
// its opcode does not read may be of another one (verbs::SendRequest).
verbs::SendRequest& VerbsCarrier::Next(ibv_wr_opcode opcode, uint64_t serial,
                                       bool signal) {
  verbs::SendRequest& request = chain_[chained_];
  request.opcode = opcode;
  request.flags = signal ? static_cast<unsigned>(IBV_SEND_SIGNALED) : 0;
  request.wr_id = serial;
  return request;
}

void VerbsCarrier::Chain(size_t elements) {
  chain_[chained_].sges = std::span(pieces_[chained_]).first(elements);
  if (++chained_ == kChain) Flush();
}

ABSL_ATTRIBUTE_HOT void VerbsCarrier::Send(uint64_t serial,
                                           std::span<std::byte> bytes,
                                           std::span<const LocalPiece> more,
                                           bool signal) {
  if (!takes()) [[unlikely]]
    return;
  verbs::SendRequest& request = Next(IBV_WR_SEND, serial, signal);
  Pieces& pieces = pieces_[chained_];
  pieces[0] = ElementOf({bytes.data(), bytes.size(), send_slots_.lkey()});
  assert(more.size() < pieces.size());
  if (!more.empty()) {
    pieces[1] = ElementOf(more[0]);
  } else if (bytes.size() <= qp_->max_inline()) {
    request.flags |= IBV_SEND_INLINE;
  }
  if (options_.ring_places != 0) {
    const uint64_t place = taken_ % options_.ring_places;
    request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
    request.remote_addr = peer_ring_.address + place * options_.slot_size;
    request.rkey = peer_ring_.rkey;
    request.imm_data = static_cast<uint32_t>(place) << 16 | kRingSlot;
  }
  ++taken_;
  Chain(1 + more.size());
}

void VerbsCarrier::Write(uint64_t serial, const LocalPiece& from,
                         const RemotePlace& to,
                         std::optional<uint32_t> immediate, bool signal) {
  if (!takes()) return;
  verbs::SendRequest& request =
      Next(immediate ? IBV_WR_RDMA_WRITE_WITH_IMM : IBV_WR_RDMA_WRITE, serial,
           signal);
  if (from.length != 0 && from.length <= qp_->max_inline()) {
    request.flags |= IBV_SEND_INLINE;
  }
  request.remote_addr = to.address;
  request.rkey = to.rkey;
  request.imm_data = immediate.value_or(0);
  pieces_[chained_][0] = ElementOf(from);
  if (immediate) ++taken_;
  Chain(from.length == 0 ? 0 : 1);
}

void VerbsCarrier::Read(uint64_t serial, const LocalPiece& into,
                        const RemotePlace& from) {
  if (!takes()) return;
  verbs::SendRequest& request = Next(IBV_WR_RDMA_READ, serial, true);
  request.remote_addr = from.address;
  request.rkey = from.rkey;
  pieces_[chained_][0] = ElementOf(into);
  Chain(1);
}

void VerbsCarrier::Atomic(uint64_t serial, const LocalPiece& into,
                          const RemotePlace& at, const AtomicRequest& what) {
  if (!takes()) return;
  verbs::SendRequest& request = Next(
      what.compare ? IBV_WR_ATOMIC_CMP_AND_SWP : IBV_WR_ATOMIC_FETCH_AND_ADD,
      serial, true);
  request.remote_addr = at.address;
  request.rkey = at.rkey;
  request.compare_add = what.compare_add;
  request.swap = what.swap;
  pieces_[chained_][0] = ElementOf(into);
  Chain(1);
}

ABSL_ATTRIBUTE_HOT void VerbsCarrier::PostReceive(ReceiveSlot& slot) {
  if (shut_) [[unlikely]]
    return;
  const ibv_sge sge{.addr = reinterpret_cast<uintptr_t>(slot.memory.data),
                    .length = options_.slot_size,
                    .lkey = slot.memory.lkey};
  const size_t elements = options_.ring_places == 0 ? 1 : 0;
  const absl::Status posted = qp_->PostReceive(0, {&sge, elements});
  if (!posted.ok() && refused_.ok()) [[unlikely]]
    refused_ = posted;
}

ABSL_ATTRIBUTE_HOT void VerbsCarrier::Flush() {
  if (chained_ == 0) return;
  const absl::Status posted =
      qp_->Post(std::span(chain_).first(std::exchange(chained_, 0)));
  if (!posted.ok() && refused_.ok()) [[unlikely]]
    refused_ = posted;
}

void VerbsCarrier::Shut() {
  shut_ = true;
  chained_ = 0;
  flushes_ = qp_->StartDrain().ok();  // else its device is gone
}

bool VerbsCarrier::Advance(Instant now) {
  if (finished_) return false;
  if (!shut_) [[likely]] {
    if (refused_.ok()) [[likely]]
      return false;
    core_.LoseLink(options_.link, refused_);
    return true;
  }
  if (!shut_by_) shut_by_ = now + kFlushTime;
  if (qp_ != nullptr && !qp_->drained()) {
    if (flushes_ && now < *shut_by_) return false;
    qp_.reset();
  }
  finished_ = true;
  core_.OnDrained(options_.link);
  return true;
}

ABSL_ATTRIBUTE_HOT void VerbsCarrier::OnCompletion(
    const verbs::Completion& completion, Instant now) {
  if (!completion.ok()) [[unlikely]] {
    // The flush is not the cause, and what it follows is reported, too.
    if (completion.status != IBV_WC_WR_FLUSH_ERR || !shut_) {
      const absl::Status why = completion.ToStatus();
      if (IsRefusal(completion.status) && !completion.is_receive()) {
        core_.OnRefused(options_.link, completion.wr_id, why);
      }
      core_.LoseLink(options_.link, why);
    }
    return;
  }
  if (!completion.is_receive()) {
    core_.OnCompleted(options_.link, completion.wr_id, now);
  } else if (completion.opcode == IBV_WC_RECV_RDMA_WITH_IMM &&
             options_.ring_places != 0 &&
             static_cast<uint16_t>(completion.imm_data) == kRingSlot) {
    core_.OnRing(options_.link, completion.imm_data, completion.byte_len,
                 ring_.bytes(), now);
  } else if (completion.opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
    core_.OnImmediate(options_.link, completion.imm_data, now);
  } else {
    core_.OnPacket(options_.link, completion.byte_len, now);
  }
}

}  // namespace nd::transport
