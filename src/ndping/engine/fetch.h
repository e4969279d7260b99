// The exchange of a latency test of READ, COMPARE_SWAP or FETCH_ADD: this side
// asks, the peer's device answers.
#ifndef ND_NDPING_ENGINE_FETCH_H_
#define ND_NDPING_ENGINE_FETCH_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ndping/engine/message.h"
#include "ndping/engine/phase.h"
#include "ndping/engine/ping_pong.h"

namespace nd::ndping {

// One thread. The same calls as of PingPong.
class Fetch {
 public:
  static constexpr unsigned kMessagesPerRound = 1;

  Fetch(VerbsPhase& phase, Verdict& verdict)
      : phase_(phase),
        verdict_(verdict),
        cancel_(phase.control.cancellation()) {}

  void Prepare(const Turn& turn) {
    if (phase_.plan.verify) {
      MakeMessage(phase_, phase_.queues[turn.qp], turn.sequence);
    }
  }

  absl::Status Post(const Turn& turn) {
    Queue& queue = phase_.queues[turn.qp];
    ibv_sge sge;
    verbs::SendRequest request = RequestFor(phase_, queue, turn.sequence, sge);
    request.flags |= IBV_SEND_SIGNALED;
    return queue.qp().Post(request);
  }

  // Never false: the peer's program takes no part.
  absl::StatusOr<bool> Await(const Turn&) {
    for (;;) {
      absl::StatusOr<CqReader::Batch> batch =
          phase_.reader.Wait(CqReader::kSlice, cancel_);
      if (!batch.ok()) return batch.status();
      if (!batch->empty()) return true;
    }
  }

  void Check(const Turn& turn) {
    if (!phase_.plan.verify) return;
    CheckFetched(phase_, phase_.queues[turn.qp], turn.sequence, verdict_);
  }

  absl::Status PostReceiveAgain() { return absl::OkStatus(); }

 private:
  VerbsPhase& phase_;
  Verdict& verdict_;
  const Cancellation* const cancel_;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_FETCH_H_
