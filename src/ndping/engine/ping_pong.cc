#include "ndping/engine/ping_pong.h"

#include <sched.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "ndping/engine/message.h"

namespace nd::ndping {
namespace {

// Looks at memory between two looks at everything else.
constexpr int kLooks = 8;

// Looks after which the processor is offered to the thread that is waited for,
// in case there are not enough of them. Far above what an answer takes.
constexpr int kPatience = 4 * 1024;

}  // namespace

PingPong::PingPong(VerbsPhase& phase, Verdict& verdict)
    : phase_(phase),
      verdict_(verdict),
      cancel_(phase.control.cancellation()),
      in_memory_(!phase.plan.op.takes_receive) {}

void PingPong::Prepare(const Turn& turn) {
  const Queue& queue = phase_.queues[turn.qp];
  if (phase_.plan.verify) {
    MakeMessage(phase_, queue, turn.sequence);
  } else if (in_memory_) {
    const uint32_t slot = phase_.plan.SlotOf(turn.sequence);
    queue.LocalSlot(slot, phase_.size).back() =
        LastByteOf(phase_.Key(phase_.client, turn.qp, turn.sequence));
  }
}

absl::Status PingPong::Post(const Turn& turn) {
  Queue& queue = phase_.queues[turn.qp];
  if (in_memory_ && queue.qp().send_room() == 0) {
    ND_RETURN_IF_ERROR(MakeRoom(queue));
  }
  ibv_sge sge;
  ND_RETURN_IF_ERROR(
      queue.qp().Post(RequestFor(phase_, queue, turn.sequence, sge)));
  return PostReceiveAgain();
}

absl::Status PingPong::PostReceiveAgain() {
  if (!receive_.has_value()) return absl::OkStatus();
  const Work work = *receive_;
  receive_.reset();
  return phase_.queues[work.qp].PostReceive(work.value);
}

// nd signals some requests by itself; their completions make room. Where
// messages are seen in memory, nothing else polls in good times.
absl::Status PingPong::MakeRoom(const Queue& queue) {
  while (queue.qp().send_room() == 0) {
    ND_RETURN_IF_ERROR(phase_.reader.Poll());
    if (phase_.Cancelled()) return absl::CancelledError("");
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> PingPong::Await(const Turn& turn) {
  return in_memory_ ? AwaitMemory(turn) : AwaitReceive(turn);
}

absl::StatusOr<bool> PingPong::AwaitReceive(const Turn& turn) {
  for (;;) {
    ND_ASSIGN_OR_RETURN(const CqReader::Batch batch,
                        phase_.reader.Wait(CqReader::kSlice, cancel_));
    if (!batch.empty()) {
      ND_RETURN_IF_ERROR(Take(turn, batch));
      return true;
    }
    if (phase_.control.peer_done()) return false;
  }
}

absl::Status PingPong::Take(const Turn& turn, CqReader::Batch batch) {
  const verbs::Completion& completion = batch.front();
  const Work work = Work::Decode(completion.wr_id);
  if (batch.size() > 1 || work.kind != WorkKind::kReceive ||
      work.qp != turn.qp) {
    return absl::InternalError(absl::StrCat(
        "the peer does not keep the turns: waiting for message ", turn.sequence,
        " on QP ", turn.qp, ", something came on QP ", work.qp));
  }
  receive_ = work;
  last_slot_ = work.value;
  byte_len_ = completion.byte_len;
  if (phase_.plan.op.has_immediate &&
      completion.imm_data != static_cast<uint32_t>(turn.sequence)) {
    return absl::DataLossError(absl::StrCat(
        "qp ", turn.qp, ", message ", turn.sequence, ": immediate data ",
        completion.imm_data, " on ", completion.qp->ToString()));
  }
  return absl::OkStatus();
}

// IBA lets the last byte arrive before others; a check allows for that. There
// is no event for a WRITE, so this spins in every CQ mode.
absl::StatusOr<bool> PingPong::AwaitMemory(const Turn& turn) {
  const uint32_t slot = phase_.plan.SlotOf(turn.sequence);
  const std::atomic_ref<std::byte> last(
      phase_.queues[turn.qp].TargetSlot(slot, phase_.size).back());
  const std::byte wanted =
      LastByteOf(phase_.Key(!phase_.client, turn.qp, turn.sequence));
  for (int looks = 0;;) {
    for (int i = 0; i < kLooks; ++i) {
      if (last.load(std::memory_order_acquire) == wanted) return true;
    }
    ND_RETURN_IF_ERROR(phase_.reader.Poll());  // only errors come
    if (phase_.Cancelled()) return absl::CancelledError("");
    if (phase_.control.peer_done()) return false;
    looks += kLooks;
    if (looks < kPatience) continue;
    sched_yield();
    looks = kPatience;
  }
}

void PingPong::Check(const Turn& turn) {
  if (!phase_.plan.verify) return;
  const Queue& queue = phase_.queues[turn.qp];
  const uint32_t slot = phase_.plan.SlotOf(turn.sequence);
  if (in_memory_) {
    return verdict_.CheckSettling(
        phase_.Key(!phase_.client, turn.qp, turn.sequence),
        queue.TargetSlot(slot, phase_.size));
  }
  // A SEND lies where its receive was posted.
  const uint32_t found = phase_.plan.op.names_memory ? slot : last_slot_;
  CheckArrived(phase_, queue, turn.sequence, byte_len_, found, verdict_);
}

}  // namespace nd::ndping
