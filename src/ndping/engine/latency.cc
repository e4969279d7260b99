#include "ndping/engine/latency.h"

#include <vector>

#include "base/status.h"
#include "ndping/engine/fetch.h"
#include "ndping/engine/ping_pong.h"
#include "ndping/engine/rounds.h"

namespace nd::ndping {
namespace {

absl::Status RunTarget(VerbsPhase& phase, RoundsOutcome& outcome) {
  outcome.meter.Start();
  ND_RETURN_IF_ERROR(phase.control.AwaitPeerDone());
  outcome.meter.Stop();
  return absl::OkStatus();
}

absl::Status RunRole(VerbsPhase& phase, RoundsOutcome& outcome,
                     Histogram* latencies) {
  Fetch fetch(phase, outcome.verdict);
  if (!phase.plan.ping_pong) {
    return phase.client ? RunClient(phase, fetch, outcome, latencies)
                        : RunTarget(phase, outcome);
  }
  PingPong ping_pong(phase, outcome.verdict);
  if (phase.client) return RunClient(phase, ping_pong, outcome, latencies);
  ND_RETURN_IF_ERROR(RunResponder(phase, ping_pong, outcome));
  // The word that this side is done must not overtake its last answer.
  return phase.control.AwaitPeerDone();
}

}  // namespace

absl::StatusOr<v1::PhaseReport> RunLatency(VerbsPhase& phase,
                                           Histogram* latencies) {
  RoundsOutcome outcome(phase.clock);
  Histogram unused;
  if (latencies == nullptr) latencies = &unused;
  ND_RETURN_IF_ERROR(RunRole(phase, outcome, latencies));
  // A responder's answers are messages of its own.
  const bool sent = phase.client || phase.plan.ping_pong;
  std::vector<uint64_t> initiated;
  for (uint32_t i = 0; i < phase.plan.qps; ++i) {
    initiated.push_back(sent ? phase.plan.ShareOf(outcome.rounds, i) : 0);
  }
  ND_ASSIGN_OR_RETURN(const v1::PhaseDone peer,
                      MeetPeer(phase, initiated, outcome.interrupted));
  if (!phase.client && phase.plan.op.is_atomic && phase.plan.verify) {
    CheckAtomicTargets(phase, peer, outcome.verdict);
  }
  return ReportOf(phase, outcome, peer);
}

}  // namespace nd::ndping
