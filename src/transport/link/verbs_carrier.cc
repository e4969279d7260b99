#include "transport/link/verbs_carrier.h"

#include <cassert>

namespace nd::transport {
namespace {

// A device that has not flushed a QP by then is asked no more: destroying the
// QP ends what it does.
constexpr Duration kFlushTime = std::chrono::seconds(5);

unsigned FlagsOf(bool signal) {
  return signal ? static_cast<unsigned>(IBV_SEND_SIGNALED) : 0;
}

}  // namespace

VerbsCarrier::VerbsCarrier(const Options& options,
                           std::unique_ptr<verbs::QueuePair> qp,
                           Buffer send_slots, SessionCore& core)
    : options_(options),
      qp_(std::move(qp)),
      send_slots_(std::move(send_slots)),
      core_(core) {
  assert(send_slots_.size() >= size_t{options.depth} * options.slot_size);
}

VerbsCarrier::~VerbsCarrier() = default;

std::span<std::byte> VerbsCarrier::SendSlot(uint64_t number) {
  return send_slots_.bytes().subspan(
      static_cast<size_t>(number % options_.depth) * options_.slot_size,
      options_.slot_size);
}

void VerbsCarrier::Add(verbs::SendRequest request, const Pieces& pieces,
                       size_t count) {
  if (shut_ || !refused_.ok()) return;
  pieces_[chained_] = pieces;
  request.sges = std::span(pieces_[chained_]).first(count);
  chain_[chained_++] = request;
  if (chained_ == kChain) Flush();
}

void VerbsCarrier::Send(uint64_t serial, uint64_t slot, size_t bytes,
                        std::span<const LocalPiece> more, bool signal) {
  Pieces pieces{};
  pieces[0] = {.addr = reinterpret_cast<uintptr_t>(SendSlot(slot).data()),
               .length = static_cast<uint32_t>(bytes),
               .lkey = send_slots_.lkey()};
  assert(more.size() < pieces.size());
  if (!more.empty()) {
    pieces[1] = {.addr = reinterpret_cast<uintptr_t>(more[0].data),
                 .length = static_cast<uint32_t>(more[0].length),
                 .lkey = more[0].lkey};
  }
  unsigned flags = FlagsOf(signal);
  if (more.empty() && bytes <= qp_->max_inline()) flags |= IBV_SEND_INLINE;
  Add({.opcode = IBV_WR_SEND, .flags = flags, .wr_id = serial}, pieces,
      1 + more.size());
}

void VerbsCarrier::Write(uint64_t serial, const LocalPiece& from,
                         const RemotePlace& to,
                         std::optional<uint32_t> immediate, bool signal) {
  Pieces pieces{};
  pieces[0] = {.addr = reinterpret_cast<uintptr_t>(from.data),
               .length = static_cast<uint32_t>(from.length),
               .lkey = from.lkey};
  Add({.opcode = immediate ? IBV_WR_RDMA_WRITE_WITH_IMM : IBV_WR_RDMA_WRITE,
       .flags = FlagsOf(signal),
       .wr_id = serial,
       .remote_addr = to.address,
       .rkey = to.rkey,
       .imm_data = immediate.value_or(0)},
      pieces, from.length == 0 ? 0 : 1);
}

void VerbsCarrier::PostReceive(ReceiveSlot& slot) {
  if (shut_) return;
  const ibv_sge sge{.addr = reinterpret_cast<uintptr_t>(slot.memory.data),
                    .length = options_.slot_size,
                    .lkey = slot.memory.lkey};
  const absl::Status posted = qp_->PostReceive(0, {&sge, 1});
  if (!posted.ok() && refused_.ok()) refused_ = posted;
}

void VerbsCarrier::Flush() {
  if (chained_ == 0) return;
  const absl::Status posted =
      qp_->Post(std::span(chain_).first(std::exchange(chained_, 0)));
  if (!posted.ok() && refused_.ok()) refused_ = posted;
}

void VerbsCarrier::Shut() {
  shut_ = true;
  chained_ = 0;
  flushes_ = qp_->StartDrain().ok();  // else its device is gone
}

bool VerbsCarrier::Advance(Instant now) {
  if (finished_) return false;
  if (!shut_) {
    if (refused_.ok()) return false;
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

void VerbsCarrier::OnCompletion(const verbs::Completion& completion,
                                Instant now) {
  if (!completion.ok()) {
    // The flush is not the cause, and what it follows is reported, too.
    if (completion.status != IBV_WC_WR_FLUSH_ERR || !shut_) {
      core_.LoseLink(options_.link, completion.ToStatus());
    }
    return;
  }
  if (!completion.is_receive()) {
    core_.OnCompleted(options_.link, completion.wr_id);
  } else if (completion.opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
    core_.OnImmediate(options_.link, completion.imm_data, now);
  } else {
    core_.OnPacket(options_.link, completion.byte_len, now);
  }
}

}  // namespace nd::transport
