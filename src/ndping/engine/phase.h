// What the loops of one phase have in common.
#ifndef ND_NDPING_ENGINE_PHASE_H_
#define ND_NDPING_ENGINE_PHASE_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "ndping/engine/cq_reader.h"
#include "ndping/engine/pattern.h"
#include "ndping/engine/plan.h"
#include "ndping/engine/queue.h"
#include "ndping/engine/test_side.h"

namespace nd::ndping {

// Time and the processor time of this thread over the measured part.
class Meter {
 public:
  explicit Meter(const Clock& clock) : clock_(clock) {}

  void Start(Instant now);
  void Start() { Start(clock_.Now()); }
  void Stop(Instant now);
  void Stop() { Stop(clock_.Now()); }
  bool started() const { return started_; }
  Instant start() const { return start_; }
  void AddTo(v1::PhaseReport& report) const;

 private:
  const Clock& clock_;
  bool started_ = false;
  Instant start_;
  uint64_t cpu_at_start_ = 0;
  uint64_t elapsed_ns_ = 0;
  uint64_t cpu_ns_ = 0;
};

// Whatever carries its messages. Everything is owned by the TestSide and
// outlives the phase.
struct Phase {
  const v1::TestSpec& spec;
  const TestPlan& plan;
  bool client = false;
  uint32_t index = 0;
  uint64_t size = 0;
  PhaseControl& control;
  const Clock& clock = Clock::Monotonic();

  PatternKey Key(bool from_client, uint32_t qp, uint64_t sequence) const {
    return {.phase = index,
            .qp = qp,
            .from_client = from_client,
            .sequence = sequence};
  }
  bool Cancelled() const;
};

// One whose messages are work requests.
struct VerbsPhase : Phase {
  std::span<Queue> queues;
  CqReader& reader;

  bool GoesInline(const Queue& queue) const {
    return plan.op.carries_data && size > 0 && size <= spec.inline_bytes() &&
           size <= queue.qp().max_inline();
  }
};

// Tells the peer what this side initiated, by QP or stream, and of a load, and
// returns what the peer did.
absl::StatusOr<v1::PhaseDone> MeetPeer(const Phase& phase,
                                       std::span<const uint64_t> initiated,
                                       bool interrupted, uint64_t load = 0);

// Whether the counters of the target have gone as far as the peer's atomics
// should have moved them.
void CheckAtomicTargets(const VerbsPhase& phase, const v1::PhaseDone& peer,
                        Verdict& verdict);

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_PHASE_H_
