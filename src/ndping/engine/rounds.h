// Rounds of question and answer, whatever carries them: how a latency test is
// paced, measured and ended.
//
// An Exchange has kMessagesPerRound, and, of each turn (ping_pong.h has one):
//   Prepare(turn)      makes the message that this side sends
//   Post(turn)         sends it
//   Await(turn)        waits for the peer's; false: the peer is done instead
//   Check(turn)        judges that
//   PostReceiveAgain() at the end, what the peer's last message took
//   one_slot()         of a responder: says in what order these are called
#ifndef ND_NDPING_ENGINE_ROUNDS_H_
#define ND_NDPING_ENGINE_ROUNDS_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/histogram.h"
#include "base/status.h"
#include "ndping/engine/pacer.h"
#include "ndping/engine/phase.h"
#include "ndping/engine/turn.h"

namespace nd::ndping {

// Rounds between two looks at what others say. A round that waits long looks by
// itself, but one that never does must not keep the test from ending.
inline constexpr uint64_t kRoundsPerLook = 16;

// A message that is made and checked byte by byte may take long, and nothing is
// measured between two of those.
inline bool LookIsDue(const Phase& phase, uint64_t rounds) {
  return phase.plan.verify || rounds % kRoundsPerLook == 0;
}

// What both roles count.
struct RoundsOutcome {
  explicit RoundsOutcome(const Clock& clock) : meter(clock) {}

  Meter meter;
  Verdict verdict;
  uint64_t rounds = 0;  // warm-up included
  bool interrupted = false;
};

// Rounds of the phase, as far as they are known.
inline uint64_t RoundsOf(const v1::TestSpec& spec) {
  return spec.iterations() > 0 ? spec.warmup() + spec.iterations()
                               : std::numeric_limits<uint64_t>::max();
}

// The pace of a client: when the next round starts.
class Pace {
 public:
  Pace(Phase& phase, RoundsOutcome& outcome)
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
  RoundsOutcome& outcome_;
  const Duration interval_;
  const uint64_t total_ = RoundsOf(phase_.spec);
  Instant end_ = Instant::max();
};

inline absl::Status LookForCancel(const Phase& phase,
                                  const RoundsOutcome& outcome) {
  if (LookIsDue(phase, outcome.rounds) && phase.Cancelled()) {
    return absl::CancelledError("");
  }
  return absl::OkStatus();
}

inline absl::Status NoAnswer(const Turn& turn) {
  return absl::FailedPreconditionError(
      absl::StrCat("qp ", turn.qp, ", message ", turn.sequence,
                   ": the peer says it is done and has not answered"));
}

// The clock is read once a round: the end of one is the start of the next,
// unless there is something to do between the two.
template <typename Exchange>
absl::Status RunClient(Phase& phase, Exchange& exchange, RoundsOutcome& outcome,
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

// Ends when the client does; its word of that is not awaited.
template <typename Exchange>
absl::Status RunResponder(Phase& phase, Exchange& exchange,
                          RoundsOutcome& outcome) {
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
  return absl::OkStatus();
}

inline v1::PhaseReport ReportOf(const Phase& phase,
                                const RoundsOutcome& outcome,
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

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_ROUNDS_H_
