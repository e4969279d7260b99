#include "ndping/engine/bandwidth.h"

#include <algorithm>
#include <span>
#include <vector>

#include "base/status.h"
#include "ndping/engine/bandwidth_run.h"
#include "ndping/engine/initiator.h"
#include "ndping/engine/target.h"

namespace nd::ndping {
namespace {

// Work requests of all QPs, and their completions.
class VerbsTraffic {
 public:
  VerbsTraffic(VerbsPhase& phase, Verdict& verdict)
      : phase_(phase), verdict_(verdict) {
    const TestPlan& plan = phase.plan;
    const bool serves = plan.target_takes_part && plan.IsTarget(phase.client);
    for (Queue& queue : phase.queues) {
      if (plan.Initiates(phase.client)) {
        initiators_.emplace_back(phase, queue, verdict);
      }
      if (serves) targets_.emplace_back(phase, queue, verdict);
    }
  }

  std::vector<Initiator>& initiators() { return initiators_; }
  const std::vector<Initiator>& initiators() const { return initiators_; }
  const std::vector<Target>& targets() const { return targets_; }
  uint64_t taken() const { return taken_; }

  absl::StatusOr<bool> Turn(Duration at_most) {
    ND_ASSIGN_OR_RETURN(
        const CqReader::Batch batch,
        phase_.reader.Wait(at_most, phase_.control.cancellation()));
    for (const verbs::Completion& completion : batch) {
      ND_RETURN_IF_ERROR(Handle(completion));
    }
    return !batch.empty();
  }

  absl::StatusOr<v1::PhaseDone> Meet(std::span<const uint64_t> initiated,
                                     bool interrupted) {
    return MeetPeer(phase_, initiated, interrupted);
  }

  bool Settled() const {
    return std::ranges::none_of(
        targets_, [](const Target& each) { return each.credit_under_way(); });
  }

  void CheckTargets(const v1::PhaseDone& peer) {
    const TestPlan& plan = phase_.plan;
    if (plan.op.is_atomic && plan.verify && plan.IsTarget(phase_.client)) {
      CheckAtomicTargets(phase_, peer, verdict_);
    }
  }

 private:
  absl::Status Handle(const verbs::Completion& completion);

  VerbsPhase& phase_;
  Verdict& verdict_;
  std::vector<Initiator> initiators_;
  std::vector<Target> targets_;
  uint64_t taken_ = 0;
};

absl::Status VerbsTraffic::Handle(const verbs::Completion& completion) {
  const Work work = Work::Decode(completion.wr_id);
  switch (work.kind) {
    case WorkKind::kMessage:
      initiators_[work.qp].OnCompletion(work.value);
      return absl::OkStatus();
    case WorkKind::kNotice:
      initiators_[work.qp].OnClosed(work.value);
      return absl::OkStatus();
    case WorkKind::kCredit:
      return targets_[work.qp].OnCreditDone();
    case WorkKind::kReceive: {
      Target& target = targets_[work.qp];
      const uint64_t before = target.taken();
      ND_RETURN_IF_ERROR(target.OnReceive(completion, work.value));
      taken_ += target.taken() - before;
      return absl::OkStatus();
    }
  }
  return absl::InternalError("a completion of unknown work");
}

}  // namespace

absl::StatusOr<v1::PhaseReport> RunBandwidth(VerbsPhase& phase) {
  Verdict verdict;
  VerbsTraffic traffic(phase, verdict);
  return BandwidthRun<VerbsTraffic>(phase, traffic, verdict).Go();
}

}  // namespace nd::ndping
