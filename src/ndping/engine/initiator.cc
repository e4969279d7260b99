#include "ndping/engine/initiator.h"

#include <algorithm>
#include <atomic>

#include "base/status.h"
#include "ndping/engine/message.h"

namespace nd::ndping {
namespace {

// One doorbell for many messages spares work where messages are small. Large
// ones set out sooner one by one; and where a doorbell is a system call that
// moves the data, as with rxe, what one call leaves over goes to a thread of
// the kernel's, which then competes for a processor with the one that polls.
constexpr uint64_t kBurstBytes = 64 << 10;

}  // namespace

Initiator::Initiator(VerbsPhase& phase, Queue& queue, Verdict& verdict)
    : phase_(&phase),
      queue_(&queue),
      verdict_(&verdict),
      window_({.in_flight = phase.plan.window,
               .uncredited = phase.plan.uncredited}) {}

uint64_t Initiator::Room() {
  const uint64_t left = goal_ - window_.posted();
  if (left == 0) return 0;
  if (phase_->plan.uncredited != 0) {
    // A word that was caught half written says nothing: the next look will.
    const auto credit =
        DecodeCredit(queue_->CreditIn().load(std::memory_order_acquire));
    if (credit.has_value()) window_.OnCredit(*credit);
  }
  return std::min(left, window_.Room());
}

absl::Status Initiator::Post(uint64_t count) {
  const uint64_t most = std::clamp<uint64_t>(
      kBurstBytes / std::max<uint64_t>(phase_->size, 1), 1, kBurst);
  while (count > 0) {
    const uint64_t burst = std::min(count, most);
    ND_RETURN_IF_ERROR(PostBurst(burst));
    count -= burst;
  }
  return absl::OkStatus();
}

absl::Status Initiator::PostBurst(uint64_t count) {
  chained_ = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t sequence = window_.posted() + i;
    sges_[i] = {};
    Add(RequestFor(*phase_, *queue_, sequence, sges_[i]));
    AddMessage(sequence);
  }
  window_.OnPosted(count);
  return queue_->qp().Post(std::span(chain_).first(chained_));
}

// Completes the request of a message, and adds the notice that is due.
void Initiator::AddMessage(uint64_t sequence) {
  const TestPlan& plan = phase_->plan;
  if (plan.verify) MakeMessage(*phase_, *queue_, sequence);
  const uint64_t count = sequence + 1;
  if (count % plan.signal_every == 0 || count == goal_) {
    chain_[chained_ - 1].flags |= IBV_SEND_SIGNALED;
    signaled_ = count;
  }
  if (plan.notify_every != 0 && count % plan.notify_every == 0) {
    Add(Notice(count));
    noticed_ = count;
  }
}

// A SEND that arrives after all WRITEs before it.
verbs::SendRequest Initiator::Notice(uint64_t upto) const {
  const auto count = static_cast<uint32_t>(upto);
  return {
      .opcode = IBV_WR_SEND_WITH_IMM,
      .wr_id =
          Work{.kind = WorkKind::kNotice, .qp = queue_->index(), .value = count}
              .Encode(),
      .imm_data = count};
}

absl::Status Initiator::Close() {
  const bool untold =
      phase_->plan.notify_every != 0 && noticed_ < window_.posted();
  if (!untold && signaled_ == window_.posted()) return absl::OkStatus();
  verbs::SendRequest closing = Notice(window_.posted());
  if (!untold) {
    // An empty WRITE: it takes no receive of the peer's and changes nothing.
    closing.opcode = IBV_WR_RDMA_WRITE;
    closing.remote_addr = queue_->remote().credit_address;
    closing.rkey = queue_->remote().credit_rkey;
  }
  closing.flags = IBV_SEND_SIGNALED;
  noticed_ = signaled_ = window_.posted();
  ++closings_;
  return queue_->qp().Post(closing);
}

void Initiator::OnCompletion(uint32_t upto) {
  const uint64_t before = window_.completed();
  window_.OnCompleted(upto);
  if (!phase_->plan.verify || phase_->plan.op.carries_data) return;
  for (uint64_t i = before; i < window_.completed(); ++i) {
    CheckFetched(*phase_, *queue_, i, *verdict_);
  }
}

void Initiator::OnClosed(uint32_t upto) {
  OnCompletion(upto);
  --closings_;
}

}  // namespace nd::ndping
