#include "ndping/engine/latency.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "ndping/engine/fetch.h"
#include "ndping/engine/pacer.h"
#include "ndping/engine/ping_pong.h"

namespace nd::ndping {
namespace {

// Rounds between two looks at what others say. A round that waits long looks by
// itself, but one that never does must not keep the test from ending.
constexpr uint64_t kRoundsPerLook = 16;

// A message that is made and checked byte by byte may take long, and nothing is
// measured between two of those.
bool LookIsDue(const Phase& phase, uint64_t rounds) {
  return phase.plan.verify || rounds % kRoundsPerLook == 0;
}

// What both roles count.
struct Outcome {
  explicit Outcome(const Clock& clock) : meter(clock) {}

  Meter meter;
  Verdict verdict;
  uint64_t rounds = 0;  // warm-up included
  bool interrupted = false;
};

// Rounds of the phase, as far as they are known.
uint64_t RoundsOf(const v1::TestSpec& spec) {
  return spec.iterations() > 0 ? spec.warmup() + spec.iterations()
                               : std::numeric_limits<uint64_t>::max();
}

// The pace of a client: when the next round starts.
class Pace {
 public:
  Pace(Phase& phase, Outcome& outcome)
      : phase_(phase),
        outcome_(outcome),
        interval_(static_cast<Duration::rep>(phase.spec.interval_ns())) {}

  bool paced() const { return interval_ > Duration::zero(); }

  // Whether the round that ended at `now` was the last one.
  bool IsOver(Instant now) {
    if (paced() || LookIsDue(phase_, outcome_.rounds)) LookForInterrupt();
    return outcome_.interrupted || outcome_.rounds >= total_ || now >= end_;
  }

  void StartMeasuring(Instant now) {
    outcome_.meter.Start(now);
    if (phase_.spec.duration_ns() > 0 && phase_.spec.iterations() == 0) {
      end_ =
          now + Duration(static_cast<Duration::rep>(phase_.spec.duration_ns()));
    }
  }

  // Sleeps until the round after the one that began at `start` shall begin.
  absl::Status Sleep(Instant start) {
    const Instant at = std::min(start + interval_, end_);
    while (!outcome_.interrupted && phase_.clock.Now() < at) {
      ND_RETURN_IF_ERROR(SleepTowards(at, phase_.control.cancellation()));
      LookForInterrupt();
    }
    return absl::OkStatus();
  }

  bool ended_in_sleep(Instant now) const {
    return outcome_.interrupted || now >= end_;
  }

 private:
  void LookForInterrupt() {
    outcome_.interrupted = outcome_.interrupted || phase_.control.interrupted();
  }

  Phase& phase_;
  Outcome& outcome_;
  const Duration interval_;
  const uint64_t total_ = RoundsOf(phase_.spec);
  Instant end_ = Instant::max();
};

absl::Status LookForCancel(const Phase& phase, const Outcome& outcome) {
  if (LookIsDue(phase, outcome.rounds) && phase.Cancelled()) {
    return absl::CancelledError("");
  }
  return absl::OkStatus();
}

absl::Status NoAnswer(const Turn& turn) {
  return absl::FailedPreconditionError(
      absl::StrCat("qp ", turn.qp, ", message ", turn.sequence,
                   ": the peer says it is done and has not answered"));
}

// The clock is read once a round: the end of one is the start of the next,
// unless there is something to do between the two.
template <typename Exchange>
absl::Status RunClient(Phase& phase, Exchange& exchange, Outcome& outcome,
                       Histogram* latencies) {
  const uint64_t warmup = phase.spec.warmup();
  const bool pauses = phase.plan.verify || phase.spec.interval_ns() > 0;
  Pace pace(phase, outcome);
  Turn turn;
  exchange.Prepare(turn);
  if (warmup == 0) pace.StartMeasuring(phase.clock.Now());
  Instant start = phase.clock.Now();
  for (;;) {
    ND_RETURN_IF_ERROR(exchange.Post(turn));
    ND_ASSIGN_OR_RETURN(const bool answered, exchange.Await(turn));
    if (!answered) return NoAnswer(turn);
    const Instant now = phase.clock.Now();
    if (outcome.rounds >= warmup) {
      const uint64_t latency_ns = static_cast<uint64_t>((now - start).count()) /
                                  Exchange::kMessagesPerRound;
      latencies->Record(latency_ns);
      if (pace.paced()) phase.control.OnMessage(latency_ns);
    }
    phase.control.messages.store(++outcome.rounds, std::memory_order_relaxed);
    exchange.Check(turn);
    turn.Next(phase.plan.qps);
    ND_RETURN_IF_ERROR(LookForCancel(phase, outcome));
    if (pace.IsOver(now)) {
      outcome.meter.Stop(now);
      return exchange.PostReceiveAgain();
    }
    exchange.Prepare(turn);
    if (outcome.rounds == warmup) pace.StartMeasuring(phase.clock.Now());
    if (!pauses && outcome.rounds != warmup) {
      start = now;
      continue;
    }
    if (pace.paced()) ND_RETURN_IF_ERROR(pace.Sleep(start));
    start = phase.clock.Now();
    if (!pace.ended_in_sleep(start)) continue;
    outcome.meter.Stop(start);
    return exchange.PostReceiveAgain();
  }
}

absl::Status RunResponder(Phase& phase, PingPong& exchange, Outcome& outcome) {
  const uint64_t total = RoundsOf(phase.spec);
  Turn turn;
  if (!exchange.one_slot()) exchange.Prepare(turn);
  if (phase.spec.warmup() == 0) outcome.meter.Start();
  while (outcome.rounds < total) {
    ND_ASSIGN_OR_RETURN(const bool asked, exchange.Await(turn));
    if (!asked) break;
    if (exchange.one_slot()) {
      exchange.Check(turn);
      exchange.Prepare(turn);
    }
    ND_RETURN_IF_ERROR(exchange.Post(turn));
    if (!exchange.one_slot()) exchange.Check(turn);
    turn.Next(phase.plan.qps);
    if (!exchange.one_slot()) exchange.Prepare(turn);
    phase.control.messages.store(++outcome.rounds, std::memory_order_relaxed);
    ND_RETURN_IF_ERROR(LookForCancel(phase, outcome));
    if (outcome.rounds == phase.spec.warmup()) outcome.meter.Start();
  }
  outcome.meter.Stop();
  // The word that this side is done must not overtake its last answer.
  return phase.control.AwaitPeerDone();
}

absl::Status RunTarget(Phase& phase, Outcome& outcome) {
  outcome.meter.Start();
  ND_RETURN_IF_ERROR(phase.control.AwaitPeerDone());
  outcome.meter.Stop();
  return absl::OkStatus();
}

absl::Status RunRole(Phase& phase, Outcome& outcome, Histogram* latencies) {
  Fetch fetch(phase, outcome.verdict);
  if (!phase.plan.ping_pong) {
    return phase.client ? RunClient(phase, fetch, outcome, latencies)
                        : RunTarget(phase, outcome);
  }
  PingPong ping_pong(phase, outcome.verdict);
  return phase.client ? RunClient(phase, ping_pong, outcome, latencies)
                      : RunResponder(phase, ping_pong, outcome);
}

v1::PhaseReport ReportOf(const Phase& phase, const Outcome& outcome,
                         const v1::PhaseDone& peer) {
  v1::PhaseReport report;
  if (phase.client) {
    const uint64_t warmup = std::min(phase.spec.warmup(), outcome.rounds);
    report.set_messages(outcome.rounds - warmup);
    report.set_bytes(report.messages() * phase.size);
  }
  uint64_t received = 0;
  for (const uint64_t count : peer.initiated()) received += count;
  report.set_received(received);
  outcome.meter.AddTo(report);
  outcome.verdict.AddTo(report);
  return report;
}

}  // namespace

absl::StatusOr<v1::PhaseReport> RunLatency(Phase& phase, Histogram* latencies) {
  Outcome outcome(phase.clock);
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
