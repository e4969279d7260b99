#include "ndping/message/phases.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "ndping/engine/bandwidth_run.h"
#include "ndping/engine/rounds.h"
#include "ndping/message/flows.h"
#include "ndping/message/stream_ping_pong.h"

namespace nd::ndping {
namespace {

// Tells the peer, and waits for its word. Meanwhile the session lives on.
absl::StatusOr<v1::PhaseDone> Meet(const Phase& phase, Progress& progress,
                                   std::span<const uint64_t> initiated,
                                   bool interrupted, uint64_t load = 0) {
  ND_RETURN_IF_ERROR(progress.Release());
  absl::StatusOr<v1::PhaseDone> peer =
      MeetPeer(phase, initiated, interrupted, load);
  progress.Take();
  return peer;
}

// All streams of a bandwidth test.
class StreamTraffic {
 public:
  StreamTraffic(const Phase& phase, const StreamSide& side, Verdict& verdict)
      : phase_(phase), side_(side) {
    const TestPlan& plan = phase.plan;
    for (uint32_t i = 0; i < plan.qps; ++i) {
      const FlowOptions flow{.phase = &phase_,
                             .stream = &side.streams[i],
                             .index = i,
                             .size = phase.size,
                             .failure = &failure_};
      if (plan.IsTarget(phase.client)) {
        Receiver::Options options{flow};
        options.receives = std::min(plan.window, kReceives);
        options.verdict = &verdict;
        options.taken = &taken_;
        receivers_.emplace_back(options);
      }
      if (plan.Initiates(phase.client)) {
        Sender::Options options{flow};
        options.window = plan.window;
        options.memory = &side.memory;
        options.begin = i * plan.area_bytes();
        options.end = options.begin + plan.area_bytes();
        options.stride = plan.stride;
        senders_.emplace_back(options);
      }
    }
  }

  std::deque<Sender>& initiators() { return senders_; }
  const std::deque<Sender>& initiators() const { return senders_; }
  const std::deque<Receiver>& targets() const { return receivers_; }
  uint64_t taken() const { return taken_; }

  absl::StatusOr<bool> Turn(Duration at_most) {
    ND_ASSIGN_OR_RETURN(
        const bool came,
        side_.progress.Turn(at_most, phase_.control.cancellation()));
    ND_RETURN_IF_ERROR(failure_);
    return came;
  }
  absl::StatusOr<v1::PhaseDone> Meet(std::span<const uint64_t> initiated,
                                     bool interrupted) {
    return ndping::Meet(phase_, side_.progress, initiated, interrupted);
  }
  bool Settled() {
    bool all = true;
    for (Receiver& receiver : receivers_) all = receiver.Settled() && all;
    return all;
  }
  void CheckTargets(const v1::PhaseDone&) {}
  bool Quiet() const {
    const auto quiet = [](const auto& each) { return each.Quiet(); };
    return std::ranges::all_of(senders_, quiet) &&
           std::ranges::all_of(receivers_, quiet);
  }

 private:
  const Phase& phase_;
  const StreamSide& side_;
  absl::Status failure_;
  std::deque<Sender> senders_;
  std::deque<Receiver> receivers_;
  uint64_t taken_ = 0;
};

class BandwidthPhase final : public StreamPhase {
 public:
  BandwidthPhase(const Phase& phase, const StreamSide& side)
      : phase_(phase), side_(side), traffic_(phase_, side_, verdict_) {}

  absl::StatusOr<v1::PhaseReport> Run(Histogram*) override {
    return BandwidthRun<StreamTraffic>(phase_, traffic_, verdict_).Go();
  }
  bool Quiet() override { return traffic_.Quiet(); }

 private:
  Phase phase_;
  const StreamSide side_;
  Verdict verdict_;
  StreamTraffic traffic_;
};

// One end of the load: the client's sends as much as goes through.
class LoadEnd {
 public:
  LoadEnd(const Phase& phase, const StreamSide& side, Verdict& verdict,
          absl::Status& failure)
      : phase_(phase) {
    const FlowOptions flow{.phase = &phase_,
                           .stream = side.load,
                           .index = phase.plan.qps,
                           .size = phase.spec.session().load().size(),
                           .failure = &failure};
    if (phase.client) {
      Sender::Options options{flow};
      options.window = side.plan.load_window;
      options.memory = &side.load_memory;
      options.end = side.load_memory.bytes().size();
      options.stride = side.plan.load_stride;
      options.by_itself = true;
      sender_ = std::make_unique<Sender>(options);
    } else {
      Receiver::Options options{flow};
      options.receives = kReceives;
      options.verdict = &verdict;
      options.faults_only = true;
      receiver_ = std::make_unique<Receiver>(options);
    }
  }

  absl::Status Start() {
    if (sender_ == nullptr) return absl::OkStatus();
    start_ = phase_.clock.Now();
    sender_->Begin(std::numeric_limits<uint64_t>::max() / 2);
    return sender_->Post(sender_->Room());
  }
  // What is under way is awaited; whether it has ended.
  bool Stopped() {
    if (sender_ == nullptr) return true;
    sender_->Stop();
    if (!sender_->over()) return false;
    elapsed_ = phase_.clock.Now() - start_;
    return true;
  }
  uint64_t sent() const { return sender_ == nullptr ? 0 : sender_->posted(); }
  uint64_t taken() const {
    return receiver_ == nullptr ? 0 : receiver_->taken();
  }
  bool Settled() { return receiver_ == nullptr || receiver_->Settled(); }
  bool Quiet() const {
    return sender_ != nullptr ? sender_->Quiet() : receiver_->Quiet();
  }

  void AddTo(v1::PhaseReport& report) const {
    if (sender_ == nullptr) return;
    v1::LoadReport& load = *report.mutable_load();
    load.set_messages(sender_->completed());
    load.set_bytes(sender_->completed() * phase_.spec.session().load().size());
    load.set_elapsed_ns(static_cast<uint64_t>(elapsed_.count()));
  }

 private:
  const Phase& phase_;
  std::unique_ptr<Sender> sender_;
  std::unique_ptr<Receiver> receiver_;
  Instant start_{};
  Duration elapsed_{};
};

class LatencyPhase final : public StreamPhase {
 public:
  LatencyPhase(const Phase& phase, const StreamSide& side)
      : phase_(phase),
        side_(side),
        outcome_(phase.clock),
        ping_pong_(phase_, side_, outcome_.verdict, failure_) {
    if (side.load != nullptr) {
      load_ =
          std::make_unique<LoadEnd>(phase_, side_, outcome_.verdict, failure_);
    }
  }

  absl::StatusOr<v1::PhaseReport> Run(Histogram* latencies) override {
    Histogram unused;
    if (latencies == nullptr) latencies = &unused;
    if (load_ != nullptr) ND_RETURN_IF_ERROR(load_->Start());
    if (phase_.client) {
      ND_RETURN_IF_ERROR(RunClient(phase_, ping_pong_, outcome_, latencies));
    } else {
      ND_RETURN_IF_ERROR(RunResponder(phase_, ping_pong_, outcome_));
      // The word that this side is done must not overtake its last answer.
      ND_RETURN_IF_ERROR(AwaitPeerDone());
    }
    if (load_ != nullptr) {
      ND_RETURN_IF_ERROR(TurnUntil([this] { return load_->Stopped(); }));
    }
    return End();
  }
  bool Quiet() override {
    return ping_pong_.Quiet() && (load_ == nullptr || load_->Quiet());
  }

 private:
  template <typename Done>
  absl::Status TurnUntil(Done done) {
    while (!done()) {
      ND_RETURN_IF_ERROR(
          side_.progress.Turn(CqReader::kSlice, phase_.control.cancellation()));
      ND_RETURN_IF_ERROR(failure_);
      if (phase_.Cancelled()) return absl::CancelledError("");
    }
    return absl::OkStatus();
  }

  absl::Status AwaitPeerDone() {
    ND_RETURN_IF_ERROR(side_.progress.Release());
    absl::Status done = phase_.control.AwaitPeerDone();
    side_.progress.Take();
    return done;
  }

  absl::StatusOr<v1::PhaseReport> End() {
    std::vector<uint64_t> initiated;
    for (uint32_t i = 0; i < phase_.plan.qps; ++i) {
      initiated.push_back(phase_.plan.ShareOf(outcome_.rounds, i));
    }
    ND_RETURN_IF_ERROR(ping_pong_.AwaitSent());
    ND_ASSIGN_OR_RETURN(
        const v1::PhaseDone peer,
        Meet(phase_, side_.progress, initiated, outcome_.interrupted,
             load_ == nullptr ? 0 : load_->sent()));
    if (load_ != nullptr) ND_RETURN_IF_ERROR(AwaitLoad(peer.load()));
    ND_RETURN_IF_ERROR(TurnUntil([this] {
      const bool settled = ping_pong_.Settled();
      return (load_ == nullptr || load_->Settled()) && settled;
    }));
    v1::PhaseReport report = ReportOf(phase_, outcome_, peer);
    if (load_ != nullptr) load_->AddTo(report);
    return report;
  }

  absl::Status AwaitLoad(uint64_t sent) {
    if (phase_.client) return absl::OkStatus();
    const Deadline deadline = Deadline::After(kStragglers, phase_.clock);
    ND_RETURN_IF_ERROR(
        TurnUntil([&] { return load_->taken() >= sent || deadline.Passed(); }));
    if (load_->taken() == sent) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("load: the peer says that ", sent,
                                            " messages are complete, ",
                                            load_->taken(), " came"));
  }

  Phase phase_;
  const StreamSide side_;
  absl::Status failure_;
  RoundsOutcome outcome_;
  StreamPingPong ping_pong_;
  std::unique_ptr<LoadEnd> load_;
};

}  // namespace

std::unique_ptr<StreamPhase> StreamPhase::Create(const Phase& phase,
                                                 const StreamSide& side) {
  if (phase.plan.latency) return std::make_unique<LatencyPhase>(phase, side);
  return std::make_unique<BandwidthPhase>(phase, side);
}

}  // namespace nd::ndping
