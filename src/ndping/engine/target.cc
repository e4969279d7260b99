#include "ndping/engine/target.h"

#include <atomic>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "ndping/engine/message.h"

namespace nd::ndping {

absl::Status Target::OnReceive(const verbs::Completion& completion,
                               uint32_t slot) {
  if (phase_->plan.op.takes_receive) {
    ND_RETURN_IF_ERROR(TakeMessage(completion, slot));
  } else {
    ND_RETURN_IF_ERROR(TakeNotice(completion.imm_data));
  }
  ND_RETURN_IF_ERROR(queue_->PostReceive(slot));
  return ReturnCredit();
}

absl::Status Target::TakeMessage(const verbs::Completion& completion,
                                 uint32_t slot) {
  const uint64_t sequence = credits_.taken();
  credits_.OnTaken(1);
  if (!phase_->plan.verify) return absl::OkStatus();
  if (phase_->plan.op.has_immediate &&
      completion.imm_data != static_cast<uint32_t>(sequence)) {
    verdict_->Count(absl::StrCat("qp ", queue_->index(), ", message ", sequence,
                                 ": immediate data ", completion.imm_data));
    return absl::OkStatus();
  }
  CheckArrived(
      *phase_, *queue_, sequence, completion.byte_len,
      phase_->plan.op.names_memory ? phase_->plan.SlotOf(sequence) : slot,
      *verdict_);
  return absl::OkStatus();
}

absl::Status Target::TakeNotice(uint32_t upto) {
  const uint64_t count = ExpandCount(credits_.taken(), upto);
  if (count - credits_.taken() > phase_->plan.slots) {
    return absl::DataLossError(absl::StrCat(
        "qp ", queue_->index(), ": told of ", count, " messages after ",
        credits_.taken(), ", more than there are slots"));
  }
  for (uint64_t i = credits_.taken(); i < count; ++i) {
    CheckArrived(*phase_, *queue_, i, phase_->size, phase_->plan.SlotOf(i),
                 *verdict_);
  }
  credits_.OnTaken(count - credits_.taken());
  return absl::OkStatus();
}

absl::Status Target::ReturnCredit() {
  if (!credits_.Due()) return absl::OkStatus();
  // Also the source when it does not go inline: it rests until this credit has
  // arrived.
  queue_->CreditOut().store(EncodeCredit(credits_.Start()),
                            std::memory_order_release);
  const ibv_sge sge = queue_->CreditOutSge();
  const bool fits = queue_->qp().max_inline() >= sge.length;
  return queue_->qp().Post(
      {.opcode = IBV_WR_RDMA_WRITE,
       .flags = IBV_SEND_SIGNALED | (fits ? unsigned{IBV_SEND_INLINE} : 0),
       .wr_id = Work{.kind = WorkKind::kCredit, .qp = queue_->index()}.Encode(),
       .sges = {&sge, 1},
       .remote_addr = queue_->remote().credit_address,
       .rkey = queue_->remote().credit_rkey});
}

absl::Status Target::OnCreditDone() {
  credits_.OnDone();
  return ReturnCredit();
}

}  // namespace nd::ndping
