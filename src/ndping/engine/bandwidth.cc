#include "ndping/engine/bandwidth.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "ndping/engine/initiator.h"
#include "ndping/engine/pacer.h"
#include "ndping/engine/target.h"

namespace nd::ndping {
namespace {

// Turns of a busy loop between two looks at what others say.
constexpr uint64_t kTurnsPerLook = 16;

// Messages that are made and checked byte by byte cost time by their size.
// After this much of them, a tenth of a second on the slowest processor that is
// reckoned with, it is looked at what has come, and at what others say.
constexpr uint64_t kVerifiedBytesPerLook = 1 << 20;

// A credit comes without an event; who sleeps looks for it this often.
constexpr Duration kCreditGlance = std::chrono::milliseconds(1);

// What the peer says it has sent must come in this time.
constexpr Duration kStragglers = std::chrono::seconds(10);

class Run {
 public:
  explicit Run(Phase& phase);

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
  absl::Status Handle(const verbs::Completion& completion);
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
  Verdict verdict_;
  Meter meter_;
  Pacer pacer_;
  std::vector<Initiator> initiators_;  // by QP; empty if this side has none
  std::vector<Target> targets_;
  uint64_t taken_ = 0;
  uint64_t warmup_done_ = 0;
  uint64_t measured_ = 0;
  uint64_t turns_ = 0;
  bool curtailed_ = false;  // more could have been posted at once
  bool stopping_ = false;
  bool interrupted_ = false;
};

Run::Run(Phase& phase)
    : phase_(phase),
      meter_(phase.clock),
      pacer_({.bytes_per_second = phase.spec.rate_limit()}, phase.clock) {
  for (Queue& queue : phase.queues) {
    if (initiates()) initiators_.emplace_back(phase, queue, verdict_);
    if (serves()) targets_.emplace_back(phase, queue, verdict_);
  }
}

absl::StatusOr<v1::PhaseReport> Run::Go() {
  if (initiates()) ND_RETURN_IF_ERROR(Initiate());
  ND_RETURN_IF_ERROR(Serve());
  std::vector<uint64_t> initiated(phase_.plan.qps);
  for (const Initiator& initiator : initiators_) {
    initiated[initiator.queue().index()] = initiator.posted();
  }
  ND_ASSIGN_OR_RETURN(const v1::PhaseDone peer,
                      MeetPeer(phase_, initiated, interrupted_));
  if (serves()) ND_RETURN_IF_ERROR(AwaitStragglers(peer));
  if (!initiates()) meter_.Stop();
  ND_RETURN_IF_ERROR(Settle());
  if (phase_.plan.op.is_atomic && phase_.plan.verify &&
      phase_.plan.IsTarget(phase_.client)) {
    CheckAtomicTargets(phase_, peer, verdict_);
  }
  return ReportOf(peer);
}

// The warm-up is over before the measured part begins, so that neither has
// messages of the other under way.
absl::Status Run::Initiate() {
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
absl::Status Run::Part(std::optional<uint64_t> messages, Instant end) {
  // Half of what a count can hold: the goal is added to.
  constexpr uint64_t kEndless = std::numeric_limits<uint64_t>::max() / 2;
  for (Initiator& initiator : initiators_) {
    initiator.Begin(
        messages.has_value()
            ? phase_.plan.ShareOf(*messages, initiator.queue().index())
            : kEndless);
  }
  for (;;) {
    ND_ASSIGN_OR_RETURN(const bool all_posted, PostAll());
    if (all_posted) break;
    ND_RETURN_IF_ERROR(Turn(Patience()));
    if (turns_ % kTurnsPerLook == 0) LookAround(end);
  }
  for (Initiator& initiator : initiators_) {
    ND_RETURN_IF_ERROR(initiator.Close());
  }
  const auto over = [](const Initiator& each) { return each.over(); };
  while (!std::ranges::all_of(initiators_, over)) {
    ND_RETURN_IF_ERROR(Turn(CqReader::kSlice));
  }
  return absl::OkStatus();
}

// Posts what may be posted on each QP in turn, but not too much work at once;
// true when a part is all posted.
absl::StatusOr<bool> Run::PostAll() {
  const uint64_t size = std::max<uint64_t>(phase_.size, 1);
  uint64_t work = phase_.plan.verify ? kVerifiedBytesPerLook
                                     : std::numeric_limits<uint64_t>::max();
  bool all_posted = true;
  curtailed_ = false;
  for (Initiator& initiator : initiators_) {
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
Duration Run::Patience() const {
  if (curtailed_) return Duration::zero();
  Duration patience = CqReader::kSlice;
  if (pacer_.limits()) {
    patience = std::min(patience, pacer_.Wait());
  }
  const auto waits = [](const Initiator& each) {
    return each.waits_for_credit();
  };
  if (phase_.plan.uncredited != 0 && std::ranges::any_of(initiators_, waits)) {
    patience = std::min(patience, kCreditGlance);
  }
  return patience;
}

// Takes one batch of completions.
absl::Status Run::Turn(Duration at_most) {
  ND_ASSIGN_OR_RETURN(
      const CqReader::Batch batch,
      phase_.reader.Wait(at_most, phase_.control.cancellation()));
  for (const verbs::Completion& completion : batch) {
    ND_RETURN_IF_ERROR(Handle(completion));
  }
  // A turn in vain, or with messages to make or to check, has taken its time:
  // the next look is due.
  turns_ = batch.empty() || phase_.plan.verify ? 0 : turns_ + 1;
  if (turns_ % kTurnsPerLook == 0) {
    phase_.control.messages.store(Completed() + taken_,
                                  std::memory_order_relaxed);
    if (phase_.Cancelled()) return absl::CancelledError("");
  }
  return absl::OkStatus();
}

absl::Status Run::Handle(const verbs::Completion& completion) {
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

void Run::LookAround(Instant end) {
  interrupted_ = interrupted_ || phase_.control.interrupted();
  const bool abandoned = serves() && phase_.control.peer_done();
  if (!interrupted_ && !abandoned &&
      (end == Instant::max() || phase_.clock.Now() < end)) {
    return;
  }
  stopping_ = true;
  for (Initiator& initiator : initiators_) initiator.Stop();
}

// Whether all has come that the peer will send, where the spec says how much.
bool Run::HasAllThatIsKnown() const {
  const v1::TestSpec& spec = phase_.spec;
  return spec.iterations() > 0 && taken_ == spec.warmup() + spec.iterations();
}

absl::Status Run::Watch() {
  meter_.Start();
  return phase_.control.AwaitPeerDone();
}

absl::Status Run::Serve() {
  if (!serves()) return initiates() ? absl::OkStatus() : Watch();
  // An initiator that knows no count stops the peer instead.
  if (initiates() && (stopping_ || phase_.spec.iterations() == 0)) {
    return absl::OkStatus();
  }
  while (!HasAllThatIsKnown() && !phase_.control.peer_done()) {
    if (!initiates() && !meter_.started() && taken_ >= phase_.spec.warmup()) {
      meter_.Start();
    }
    ND_RETURN_IF_ERROR(Turn(CqReader::kSlice));
    if (initiates() && phase_.control.interrupted()) break;
  }
  return absl::OkStatus();
}

absl::Status Run::AwaitStragglers(const v1::PhaseDone& peer) {
  const Deadline deadline = Deadline::After(kStragglers, phase_.clock);
  for (uint32_t i = 0; i < phase_.plan.qps; ++i) {
    const uint64_t sent = peer.initiated(static_cast<int>(i));
    while (targets_[i].taken() < sent && !deadline.Passed()) {
      ND_RETURN_IF_ERROR(Turn(CqReader::kSlice));
    }
    if (targets_[i].taken() != sent) {
      return absl::DataLossError(absl::StrCat("qp ", i, ": the peer says that ",
                                              sent, " messages are complete, ",
                                              targets_[i].taken(), " came"));
    }
  }
  return absl::OkStatus();
}

// Nothing of this phase may be under way when the next one begins: a credit
// that came late would count there.
absl::Status Run::Settle() {
  const auto returns = [](const Target& each) {
    return each.credit_under_way();
  };
  while (std::ranges::any_of(targets_, returns)) {
    ND_RETURN_IF_ERROR(Turn(CqReader::kSlice));
  }
  return absl::OkStatus();
}

uint64_t Run::Completed() const {
  uint64_t completed = 0;
  for (const Initiator& each : initiators_) completed += each.completed();
  return completed;
}

v1::PhaseReport Run::ReportOf(const v1::PhaseDone& peer) const {
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

}  // namespace

absl::StatusOr<v1::PhaseReport> RunBandwidth(Phase& phase) {
  return Run(phase).Go();
}

}  // namespace nd::ndping
