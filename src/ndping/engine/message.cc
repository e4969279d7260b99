#include "ndping/engine/message.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/byte_order.h"
#include "ndping/engine/flow.h"

namespace nd::ndping {
namespace {

uint64_t LocalWord(const Queue& queue, uint32_t slot) {
  return LoadUint<std::endian::native>(
      std::span<const std::byte>(queue.LocalSlot(slot, sizeof(uint64_t)))
          .first<sizeof(uint64_t)>());
}

}  // namespace

verbs::SendRequest RequestFor(const VerbsPhase& phase, const Queue& queue,
                              uint64_t sequence, ibv_sge& sge) {
  const uint32_t slot = phase.plan.SlotOf(sequence);
  sge = queue.LocalSge(slot, phase.size);
  verbs::SendRequest request{
      .opcode = phase.plan.op.opcode,
      .flags = phase.GoesInline(queue) ? unsigned{IBV_SEND_INLINE} : 0,
      .wr_id = Work{.kind = WorkKind::kMessage,
                    .qp = queue.index(),
                    .value = static_cast<uint32_t>(sequence + 1)}
                   .Encode(),
      .rkey = queue.remote().rkey,
      .imm_data = static_cast<uint32_t>(sequence)};
  if (phase.size > 0) request.sges = {&sge, 1};
  if (!phase.plan.op.is_atomic) {
    request.remote_addr = queue.RemoteSlot(slot);
    return request;
  }
  request.remote_addr = queue.remote().address;
  const bool swaps = phase.plan.op.opcode == IBV_WR_ATOMIC_CMP_AND_SWP;
  request.compare_add =
      swaps ? AtomicValue(queue.index(), sequence) : kAtomicStep;
  request.swap = AtomicValue(queue.index(), sequence + 1);
  return request;
}

// What is fetched is spoiled with a pattern of this side's own, which differs
// from the peer's in every message.
void MakeMessage(const Phase& phase, const Queue& queue, uint64_t sequence) {
  FillPattern(phase.Key(phase.client, queue.index(), sequence),
              queue.LocalSlot(phase.plan.SlotOf(sequence), phase.size));
}

void CheckArrived(const Phase& phase, const Queue& queue, uint64_t sequence,
                  uint64_t byte_len, uint32_t slot, Verdict& verdict) {
  const PatternKey key = phase.Key(!phase.client, queue.index(), sequence);
  if (byte_len != phase.size) {
    return verdict.Count(absl::StrCat(DescribeMessage(key), ": ", byte_len,
                                      " bytes, not ", phase.size));
  }
  verdict.Check(key, queue.TargetSlot(slot, phase.size));
}

void CheckFetched(const Phase& phase, const Queue& queue, uint64_t sequence,
                  Verdict& verdict) {
  const uint32_t slot = phase.plan.SlotOf(sequence);
  if (!phase.plan.op.is_atomic) {
    return verdict.Check(phase.Key(!phase.client, queue.index(), slot),
                         queue.LocalSlot(slot, phase.size));
  }
  const uint64_t fetched = LocalWord(queue, slot);
  const uint64_t expected = AtomicValue(queue.index(), sequence);
  if (fetched == expected) return verdict.Count("");
  verdict.Count(absl::StrCat(
      DescribeMessage(phase.Key(phase.client, queue.index(), sequence)),
      ": fetched 0x", absl::Hex(fetched), ", not 0x", absl::Hex(expected)));
}

void PrepareQueue(const v1::TestSpec& spec, const TestPlan& plan, bool client,
                  uint32_t phase, const Queue& queue) {
  const uint64_t size = spec.sizes(static_cast<int>(phase));
  queue.CreditIn().store(EncodeCredit(0));
  PatternKey key{.phase = phase, .qp = queue.index(), .from_client = client};
  for (uint32_t slot = 0; slot < plan.slots; ++slot) {
    key.sequence = slot;
    if (plan.HasLocal(client)) FillPattern(key, queue.LocalSlot(slot, size));
    // What a READ fetches; or else what no message of the peer's looks like.
    if (plan.HasTarget(client)) FillPattern(key, queue.TargetSlot(slot, size));
  }
  if (plan.op.is_atomic && plan.HasTarget(client)) {
    queue.AtomicTarget().store(AtomicValue(queue.index(), 0));
  }
}

}  // namespace nd::ndping
