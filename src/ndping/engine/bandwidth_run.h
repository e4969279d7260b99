// The course of a bandwidth test, whatever carries its messages: warm-up,
// measured part, end.
//
// Traffic is what one side has under way:
//   initiators()  of each QP or stream that it sends on: Begin, Stop, Room,
//                 Post, Close, waits_for_credit, all_posted, over, posted,
//                 completed and index, as initiator.h has them
//   targets()     by index, of those that it receives on: taken()
//   taken()       messages, of all of them
//   Turn(at_most) waits so long, or less, for news, and handles it; whether any
//                 came. In busy mode less than CqReader::kSlice is one look
//   Meet(initiated, interrupted)  tells the peer, and returns its word
//   Settled()     nothing of the phase is under way; asked until it is so
//   CheckTargets(peer)            judges what the peer has left behind
#ifndef ND_NDPING_ENGINE_BANDWIDTH_RUN_H_
#define ND_NDPING_ENGINE_BANDWIDTH_RUN_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "ndping/engine/cq_reader.h"
#include "ndping/engine/pacer.h"
#include "ndping/engine/phase.h"

namespace nd::ndping {

// Turns of a busy loop between two looks at what others say.
inline constexpr uint64_t kTurnsPerLook = 16;

// Messages that are made and checked byte by byte cost time by their size.
// After this much of them, a tenth of a second on the slowest processor that is
// reckoned with, it is looked at what has come, and at what others say.
inline constexpr uint64_t kVerifiedBytesPerLook = 1 << 20;

// A credit comes without an event; who sleeps looks for it this often.
inline constexpr Duration kCreditGlance = std::chrono::milliseconds(1);

// What the peer says it has sent must come in this time.
inline constexpr Duration kStragglers = std::chrono::seconds(10);

// One side of a phase. One thread.
template <typename Traffic>
class BandwidthRun {
 public:
  BandwidthRun(Phase& phase, Traffic& traffic, Verdict& verdict)
      : phase_(phase),
        traffic_(traffic),
        verdict_(verdict),
        meter_(phase.clock),
        pacer_({.bytes_per_second = phase.spec.rate_limit()}, phase.clock) {}

  absl::StatusOr<v1::PhaseReport> Go();

 private:
  absl::Status Initiate();
  absl::Status Part(std::optional<uint64_t> messages, Instant end);
  absl::Status Watch();
  absl::Status Serve();
  absl::Status AwaitStragglers(const v1::PhaseDone& peer);
  absl::Status Settle();

  absl::StatusOr<bool> PostAll();
  absl::Status Turn(Duration at_most);
  Duration Patience() const;
  void LookAround(Instant end);
  bool HasAllThatIsKnown() const;
  v1::PhaseReport ReportOf(const v1::PhaseDone& peer) const;

  uint64_t Completed() const;
  bool serves() const {
    return phase_.plan.target_takes_part && phase_.plan.IsTarget(phase_.client);
  }
  bool initiates() const { return phase_.plan.Initiates(phase_.client); }

  Phase& phase_;
  Traffic& traffic_;
  Verdict& verdict_;
  Meter meter_;
  Pacer pacer_;
  uint64_t warmup_done_ = 0;
  uint64_t measured_ = 0;
  uint64_t turns_ = 0;
  bool curtailed_ = false;  // more could have been posted at once
  bool stopping_ = false;
  bool interrupted_ = false;
};

template <typename Traffic>
absl::StatusOr<v1::PhaseReport> BandwidthRun<Traffic>::Go() {
  if (initiates()) ND_RETURN_IF_ERROR(Initiate());
  ND_RETURN_IF_ERROR(Serve());
  std::vector<uint64_t> initiated(phase_.plan.qps);
  for (const auto& initiator : traffic_.initiators()) {
    initiated[initiator.index()] = initiator.posted();
  }
  ND_ASSIGN_OR_RETURN(const v1::PhaseDone peer,
                      traffic_.Meet(initiated, interrupted_));
  if (serves()) ND_RETURN_IF_ERROR(AwaitStragglers(peer));
  if (!initiates()) meter_.Stop();
  ND_RETURN_IF_ERROR(Settle());
  traffic_.CheckTargets(peer);
  return ReportOf(peer);
}

// The warm-up is over before the measured part begins, so that neither has
// messages of the other under way.
template <typename Traffic>
absl::Status BandwidthRun<Traffic>::Initiate() {
  const v1::TestSpec& spec = phase_.spec;
  if (spec.warmup() > 0) {
    ND_RETURN_IF_ERROR(Part(spec.warmup(), Instant::max()));
  }
  warmup_done_ = Completed();
  if (stopping_) return absl::OkStatus();
  meter_.Start();
  if (spec.iterations() > 0) {
    ND_RETURN_IF_ERROR(Part(spec.iterations(), Instant::max()));
  } else {
    const Duration duration(static_cast<Duration::rep>(spec.duration_ns()));
    ND_RETURN_IF_ERROR(Part(std::nullopt, meter_.start() + duration));
  }
  meter_.Stop();
  measured_ = Completed() - warmup_done_;
  return absl::OkStatus();
}

// Initiates so many messages, dealt to the QPs, or as many as it can until
// `end`.
template <typename Traffic>
absl::Status BandwidthRun<Traffic>::Part(std::optional<uint64_t> messages,
                                         Instant end) {
  // Half of what a count can hold: the goal is added to.
  constexpr uint64_t kEndless = std::numeric_limits<uint64_t>::max() / 2;
  for (auto& initiator : traffic_.initiators()) {
    initiator.Begin(messages.has_value()
                        ? phase_.plan.ShareOf(*messages, initiator.index())
                        : kEndless);
  }
  for (;;) {
    ND_ASSIGN_OR_RETURN(const bool all_posted, PostAll());
    if (all_posted) break;
    ND_RETURN_IF_ERROR(Turn(Patience()));
    if (turns_ % kTurnsPerLook == 0) LookAround(end);
  }
  for (auto& initiator : traffic_.initiators()) {
    ND_RETURN_IF_ERROR(initiator.Close());
  }
  const auto over = [](const auto& each) { return each.over(); };
  while (!std::ranges::all_of(traffic_.initiators(), over)) {
    ND_RETURN_IF_ERROR(Turn(CqReader::kSlice));
  }
  return absl::OkStatus();
}

// Posts what may be posted on each QP in turn, but not too much work at once;
// true when a part is all posted.
template <typename Traffic>
absl::StatusOr<bool> BandwidthRun<Traffic>::PostAll() {
  const uint64_t size = std::max<uint64_t>(phase_.size, 1);
  uint64_t work = phase_.plan.verify ? kVerifiedBytesPerLook
                                     : std::numeric_limits<uint64_t>::max();
  bool all_posted = true;
  curtailed_ = false;
  for (auto& initiator : traffic_.initiators()) {
    uint64_t count = initiator.Room();
    // One at least, so that no QP waits for the others to have nothing to do.
    const uint64_t share = std::max<uint64_t>(work / size, 1);
    curtailed_ = curtailed_ || (count > share && !pacer_.limits());
    count = std::min(count, share);
    if (count > 0 && pacer_.limits()) {
      count = pacer_.Allowed(phase_.size, count);
      pacer_.Spend(count * phase_.size);
    }
    if (count > 0) ND_RETURN_IF_ERROR(initiator.Post(count));
    work -= std::min(work, count * size);
    all_posted = all_posted && initiator.all_posted();
  }
  return all_posted;
}

// How long a sleeper may sleep before it has to look at what makes no
// completion: the rate limit, and credits.
template <typename Traffic>
Duration BandwidthRun<Traffic>::Patience() const {
  if (curtailed_) return Duration::zero();
  Duration patience = CqReader::kSlice;
  if (pacer_.limits()) {
    patience = std::min(patience, pacer_.Wait());
  }
  const auto waits = [](const auto& each) { return each.waits_for_credit(); };
  if (phase_.plan.uncredited != 0 &&
      std::ranges::any_of(traffic_.initiators(), waits)) {
    patience = std::min(patience, kCreditGlance);
  }
  return patience;
}

// Takes what has come, or one batch of it.
template <typename Traffic>
absl::Status BandwidthRun<Traffic>::Turn(Duration at_most) {
  ND_ASSIGN_OR_RETURN(const bool came, traffic_.Turn(at_most));
  // A turn in vain, or with messages to make or to check, has taken its time:
  // the next look is due.
  turns_ = !came || phase_.plan.verify ? 0 : turns_ + 1;
  if (turns_ % kTurnsPerLook == 0) {
    phase_.control.messages.store(Completed() + traffic_.taken(),
                                  std::memory_order_relaxed);
    if (phase_.Cancelled()) return absl::CancelledError("");
  }
  return absl::OkStatus();
}

template <typename Traffic>
void BandwidthRun<Traffic>::LookAround(Instant end) {
  interrupted_ = interrupted_ || phase_.control.interrupted();
  const bool abandoned = serves() && phase_.control.peer_done();
  if (!interrupted_ && !abandoned &&
      (end == Instant::max() || phase_.clock.Now() < end)) {
    return;
  }
  stopping_ = true;
  for (auto& initiator : traffic_.initiators()) initiator.Stop();
}

// Whether all has come that the peer will send, where the spec says how much.
template <typename Traffic>
bool BandwidthRun<Traffic>::HasAllThatIsKnown() const {
  const v1::TestSpec& spec = phase_.spec;
  return spec.iterations() > 0 &&
         traffic_.taken() == spec.warmup() + spec.iterations();
}

template <typename Traffic>
absl::Status BandwidthRun<Traffic>::Watch() {
  meter_.Start();
  return phase_.control.AwaitPeerDone();
}

template <typename Traffic>
absl::Status BandwidthRun<Traffic>::Serve() {
  if (!serves()) return initiates() ? absl::OkStatus() : Watch();
  // An initiator that knows no count stops the peer instead.
  if (initiates() && (stopping_ || phase_.spec.iterations() == 0)) {
    return absl::OkStatus();
  }
  while (!HasAllThatIsKnown() && !phase_.control.peer_done()) {
    if (!initiates() && !meter_.started() &&
        traffic_.taken() >= phase_.spec.warmup()) {
      meter_.Start();
    }
    ND_RETURN_IF_ERROR(Turn(CqReader::kSlice));
    if (initiates() && phase_.control.interrupted()) break;
  }
  return absl::OkStatus();
}

template <typename Traffic>
absl::Status BandwidthRun<Traffic>::AwaitStragglers(const v1::PhaseDone& peer) {
  const Deadline deadline = Deadline::After(kStragglers, phase_.clock);
  for (uint32_t i = 0; i < phase_.plan.qps; ++i) {
    const uint64_t sent = peer.initiated(static_cast<int>(i));
    const auto& target = traffic_.targets()[i];
    while (target.taken() < sent && !deadline.Passed()) {
      ND_RETURN_IF_ERROR(Turn(CqReader::kSlice));
    }
    if (target.taken() != sent) {
      return absl::DataLossError(absl::StrCat("qp ", i, ": the peer says that ",
                                              sent, " messages are complete, ",
                                              target.taken(), " came"));
    }
  }
  return absl::OkStatus();
}

// Nothing of this phase may be under way when the next one begins: a credit
// that came late would count there.
template <typename Traffic>
absl::Status BandwidthRun<Traffic>::Settle() {
  while (!traffic_.Settled()) ND_RETURN_IF_ERROR(Turn(CqReader::kSlice));
  return absl::OkStatus();
}

template <typename Traffic>
uint64_t BandwidthRun<Traffic>::Completed() const {
  uint64_t completed = 0;
  for (const auto& each : traffic_.initiators()) completed += each.completed();
  return completed;
}

template <typename Traffic>
v1::PhaseReport BandwidthRun<Traffic>::ReportOf(
    const v1::PhaseDone& peer) const {
  v1::PhaseReport report;
  report.set_messages(measured_);
  report.set_bytes(measured_ * phase_.size);
  uint64_t received = 0;
  for (const uint64_t count : peer.initiated()) received += count;
  report.set_received(received);
  meter_.AddTo(report);
  verdict_.AddTo(report);
  return report;
}

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_BANDWIDTH_RUN_H_
