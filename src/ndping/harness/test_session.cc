#include "ndping/harness/test_session.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/status.h"
#include "ndping/text/units.h"

namespace nd::ndping {
namespace {

constexpr Duration kWatchAtATime = std::chrono::minutes(1);

std::string Text(Duration duration) {
  return FormatTime(static_cast<double>(duration.count()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TestSession>> TestSession::Create(
    std::string peer, const Timing& timing) {
  ND_ASSIGN_OR_RETURN(Cancellation cancel, Cancellation::Create());
  return std::unique_ptr<TestSession>(
      new TestSession(std::move(peer), timing, std::move(cancel)));
}

TestSession::TestSession(std::string peer, const Timing& timing,
                         Cancellation cancel)
    : peer_(std::move(peer)),
      timing_(timing),
      cancel_(std::move(cancel)),
      findings_(peer_) {}

void TestSession::OnMessage(PeerMessage message) {
  MutexLock lock(&mutex_);
  const absl::string_view last = order_.last();
  if (!order_.Accept(message)) {
    Fail(absl::FailedPreconditionError(
             absl::StrCat(peer_, " sent ", MessageName(message), " after ",
                          last, ", which is out of order")))
        .IgnoreError();
  } else if (auto* failure = std::get_if<v1::Failure>(&message)) {
    findings_.PeerSaid(absl::Status(
        static_cast<absl::StatusCode>(failure->code()), failure->message()));
    cancel_.Cancel();
  } else if (auto* done = std::get_if<v1::PhaseDone>(&message)) {
    if (armed_ && !peer_done_.has_value()) {
      peer_was_interrupted_ = done->interrupted();
      peer_done_ = std::move(*done);
      peer_is_done_ = true;
    } else {
      Fail(absl::FailedPreconditionError(absl::StrCat(
               peer_, " sent PhaseDone before the phase was ready")))
          .IgnoreError();
    }
  } else {
    inbox_.push_back(std::move(message));
  }
  changed_.SignalAll();
}

void TestSession::OnClosed() {
  MutexLock lock(&mutex_);
  closed_ = true;
  cancel_.Cancel();
  changed_.SignalAll();
}

void TestSession::OnVanished(absl::string_view detail) {
  MutexLock lock(&mutex_);
  findings_.PeerVanished(detail);
  cancel_.Cancel();
  changed_.SignalAll();
}

void TestSession::OnEnded(const absl::Status& status) {
  MutexLock lock(&mutex_);
  findings_.PeerEnded(status);
  cancel_.Cancel();
  changed_.SignalAll();
}

void TestSession::OnConnectionLost(const absl::Status& status) {
  MutexLock lock(&mutex_);
  findings_.ConnectionLost(status);
  cancel_.Cancel();
  changed_.SignalAll();
}

void TestSession::Stop(const absl::Status& why) {
  MutexLock lock(&mutex_);
  Fail(why).IgnoreError();
}

absl::Status TestSession::Fail(absl::Status verdict) {
  findings_.Decide(verdict);
  cancel_.Cancel();
  changed_.SignalAll();
  return verdict;
}

template <typename Ready>
bool TestSession::WaitFor(Ready ready, const Deadline& deadline) {
  while (!ready()) {
    if (deadline.Passed()) return false;
    changed_.WaitWithTimeout(&mutex_, absl::FromChrono(deadline.Remaining()));
  }
  return true;
}

// A peer that was killed closes first and is known to be gone a moment later.
absl::Status TestSession::ClosedEarly(absl::string_view doing) {
  WaitFor([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return findings_.final(); },
          Deadline::After(timing_.local_grace));
  if (findings_.final()) return findings_.Cause();
  return Fail(absl::FailedPreconditionError(absl::StrCat(
      peer_, " closed the call too early: while this side was ", doing)));
}

absl::StatusOr<PeerMessage> TestSession::Take(absl::string_view name,
                                              Duration limit) {
  MutexLock lock(&mutex_);
  const bool came = WaitFor(
      [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return !inbox_.empty() || closed_ || findings_.any();
      },
      Deadline::After(limit));
  if (findings_.any()) return findings_.Cause();
  if (!came) {
    return Fail(absl::DeadlineExceededError(absl::StrCat(
        peer_, " is silent: no ", name, " came within ", Text(limit))));
  }
  if (inbox_.empty()) return ClosedEarly(absl::StrCat("waiting for ", name));
  PeerMessage message = std::move(inbox_.front());
  inbox_.pop_front();
  return message;
}

absl::Status TestSession::Unexpected(const PeerMessage& message,
                                     absl::string_view wanted) {
  MutexLock lock(&mutex_);
  return Fail(absl::FailedPreconditionError(
      absl::StrCat(peer_, " sent ", MessageName(message), " where ", wanted,
                   " was expected")));
}

absl::StatusOr<std::optional<v1::StartPhase>> TestSession::NextPhase() {
  // The peer fills its buffers first.
  const Duration limit = timing_.prepare + timing_.message;
  {
    MutexLock lock(&mutex_);
    const auto ended = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return (closed_ && inbox_.empty()) || findings_.final();
    };
    WaitFor(
        [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
          return !inbox_.empty() || ended() || findings_.any();
        },
        Deadline::After(limit));
    // A peer that closes the call then disconnects; either may be seen first.
    if (findings_.only_connection()) {
      WaitFor(ended, Deadline::After(timing_.idle_grace));
    }
    const bool good = !findings_.any() || findings_.only_connection();
    if (good && closed_ && inbox_.empty()) return std::nullopt;
    if (findings_.any()) return findings_.Cause();
    if (inbox_.empty()) {
      return Fail(absl::DeadlineExceededError(absl::StrCat(
          peer_, " is silent: no StartPhase came within ", Text(limit))));
    }
  }
  // It is there: this does not wait.
  ND_ASSIGN_OR_RETURN(v1::StartPhase start, Receive<v1::StartPhase>(limit));
  return start;
}

absl::Status TestSession::AwaitClose(Duration limit) {
  MutexLock lock(&mutex_);
  WaitFor(
      [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return closed_ || !inbox_.empty() || findings_.any();
      },
      Deadline::After(limit));
  if (findings_.any()) return findings_.Cause();
  if (!inbox_.empty()) {
    return Fail(absl::FailedPreconditionError(
        absl::StrCat(peer_, " sent ", MessageName(inbox_.front()),
                     " where the end of the call was expected")));
  }
  if (closed_) return absl::OkStatus();
  return Fail(absl::DeadlineExceededError(absl::StrCat(
      peer_, " is silent: it did not end the call within ", Text(limit))));
}

// Until the job has a result, the peer ends it, or a deadline or check fails.
absl::Status TestSession::Watch(const Work& work,
                                const std::optional<absl::Status>& result) {
  const Deadline deadline = Deadline::After(work.limit);
  for (;;) {
    {
      MutexLock lock(&mutex_);
      WaitFor(
          [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
            return result.has_value() || findings_.any() || closed_;
          },
          Deadline::After(std::min(timing_.tick, deadline.Remaining())));
      if (findings_.any()) return findings_.Cause();
      if (closed_ && work.may_close) return absl::OkStatus();
      // A peer that closes cancels the job, which may end before this looks.
      if (result.has_value() && (result->ok() || !closed_)) return *result;
      if (closed_) return ClosedEarly(work.doing);
      if (deadline.Passed()) {
        return Fail(absl::DeadlineExceededError(
            absl::StrCat(work.doing, " took longer than ", Text(work.limit))));
      }
    }
    if (!work.check) continue;
    if (absl::Status checked = work.check(); !checked.ok()) {
      MutexLock lock(&mutex_);
      return Fail(checked);
    }
  }
}

absl::Status TestSession::Perform(const Work& work,
                                  std::function<absl::Status()> job) {
  std::optional<absl::Status> result;  // guarded by mutex_
  std::thread worker([&] {
    absl::Status status = job();
    MutexLock lock(&mutex_);
    result = std::move(status);
    changed_.SignalAll();
  });
  absl::Status watched = Watch(work, result);
  // Whatever it was that ended the wait, it has cancelled the job as well.
  worker.join();
  if (result->ok() || (watched.ok() && work.may_close)) return watched;
  MutexLock lock(&mutex_);
  // A job that was cancelled is not a finding, what cancelled it is.
  if (!absl::IsCancelled(*result)) findings_.DataFailed(*result);
  return *result;
}

// The two threads of a phase: the data thread calls the overrides, the test's
// thread calls Check.
class TestSession::Phase final : public PhaseControl {
 public:
  Phase(TestSession& session, const PhaseOptions& options)
      : session_(session), options_(options) {}

  absl::StatusOr<v1::PhaseDone> ExchangeDone(
      const v1::PhaseDone& mine) override {
    v1::PhaseDone told = mine;
    told.set_interrupted(mine.interrupted() || interrupted());
    was_interrupted_ = told.interrupted();
    ND_RETURN_IF_ERROR(options_.link->Send(std::move(told)));
    told_peer_ = true;
    return session_.AwaitPeerDone(Deadline::After(options_.longest));
  }

  absl::Status AwaitPeerDone() override {
    return session_.AwaitPeerDone(Deadline::After(options_.longest)).status();
  }

  bool interrupted() const override {
    return (options_.interrupt != nullptr && options_.interrupt->cancelled()) ||
           session_.peer_was_interrupted_;
  }
  bool peer_done() const override { return session_.peer_is_done_; }
  const Cancellation* cancellation() const override {
    return session_.cancellation();
  }
  void OnMessage(uint64_t latency_ns) override {
    if (options_.on_message) options_.on_message(latency_ns);
  }

  bool was_interrupted() const {
    return was_interrupted_ || session_.peer_was_interrupted_;
  }

  absl::Status Check();

 private:
  TestSession& session_;
  const PhaseOptions& options_;
  const Instant start_ = Clock::Monotonic().Now();
  std::atomic<bool> told_peer_{false};
  std::atomic<bool> was_interrupted_{false};

  // What Check saw last, and since when nothing has changed.
  struct Seen {
    uint64_t messages = 0;
    bool told_peer = false;
    bool peer_done = false;
    bool operator==(const Seen&) const = default;
  };
  Seen seen_;
  Instant changed_at_ = start_;
};

absl::Status TestSession::Phase::Check() {
  const Instant now = Clock::Monotonic().Now();
  const Seen seen{.messages = messages.load(std::memory_order_relaxed),
                  .told_peer = told_peer_,
                  .peer_done = peer_done()};
  if (options_.on_tick) options_.on_tick(seen.messages, now - start_);
  if (seen != seen_) {
    seen_ = seen;
    changed_at_ = now;
  }
  // The target of one-sided operations sees nothing until the peer is done.
  const bool sees = options_.initiates || seen != Seen();
  if (!sees || now - changed_at_ < options_.silence) return absl::OkStatus();
  const std::string& peer = session_.peer();
  const std::string silent =
      absl::StrCat("phase ", options_.index, " (", FormatSize(options_.size),
                   " bytes): ", peer, " is silent: ");
  const std::string within = Text(options_.silence);
  if (seen.told_peer && !seen.peer_done) {
    return absl::DeadlineExceededError(
        absl::StrCat(silent, "it did not say that it is done within ", within));
  }
  return absl::DeadlineExceededError(absl::StrCat(
      silent, "no message in ", within, ", ", seen.messages, " before",
      seen.peer_done ? ", though it says it is done" : ""));
}

void TestSession::ArmPhase() {
  MutexLock lock(&mutex_);
  armed_ = true;
  peer_done_.reset();
  peer_is_done_ = false;
  peer_was_interrupted_ = false;
}

absl::StatusOr<v1::PhaseDone> TestSession::AwaitPeerDone(
    const Deadline& deadline) {
  MutexLock lock(&mutex_);
  WaitFor(
      [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return peer_done_.has_value() || findings_.any() || closed_;
      },
      deadline);
  if (findings_.any() || !peer_done_.has_value()) {
    return absl::CancelledError("the test has ended");
  }
  return *peer_done_;
}

absl::StatusOr<TestSession::PhaseOutcome> TestSession::RunPhase(
    TestSide& side, const PhaseOptions& options, Histogram* latencies) {
  Phase phase(*this, options);
  v1::PhaseReport report;
  const absl::Status status = Perform(
      {.doing = absl::StrCat("phase ", options.index, " (",
                             FormatSize(options.size), " bytes)"),
       .limit = options.longest,
       .check = [&phase] { return phase.Check(); }},
      [&]() -> absl::Status {
        ND_ASSIGN_OR_RETURN(report, side.Run(options.index, phase, latencies));
        return absl::OkStatus();
      });
  MutexLock lock(&mutex_);
  armed_ = false;
  if (!status.ok()) return status;
  return PhaseOutcome{.report = std::move(report),
                      .interrupted = phase.was_interrupted()};
}

void TestSession::Settle(const absl::Status& error, Duration grace) {
  MutexLock lock(&mutex_);
  // A Send that found the call ended is a moment ahead of the news.
  if (absl::IsCancelled(error)) {
    WaitFor([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return findings_.any(); },
            Deadline::After(timing_.end));
  }
  WaitFor(
      [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return findings_.final() || findings_.both();
      },
      Deadline::After(grace));
}

bool TestSession::ended() {
  MutexLock lock(&mutex_);
  return closed_ || findings_.peer_gone();
}

void TestSession::AwaitEnd() {
  MutexLock lock(&mutex_);
  const bool ended = WaitFor(
      [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return closed_ || findings_.peer_gone();
      },
      Deadline::After(timing_.end));
  if (!ended) findings_.PeerMute();
}

std::optional<absl::Status> TestSession::LocalCause() {
  MutexLock lock(&mutex_);
  findings_.Freeze();
  return findings_.Local();
}

absl::Status TestSession::Cause(const absl::Status& error) {
  MutexLock lock(&mutex_);
  if (!findings_.any()) findings_.Decide(error);
  return findings_.Cause();
}

absl::StatusOr<std::unique_ptr<ConnectionWatch>> ConnectionWatch::Start(
    TestSide& side, TestSession& session) {
  ND_ASSIGN_OR_RETURN(Cancellation stop, Cancellation::Create());
  std::unique_ptr<ConnectionWatch> watch(new ConnectionWatch(std::move(stop)));
  watch->thread_ = std::thread([&side, &session, &stop = watch->stop_] {
    while (!stop.cancelled()) {
      const absl::Status found =
          side.WatchConnections(Deadline::After(kWatchAtATime), &stop);
      if (absl::IsDeadlineExceeded(found)) continue;
      if (!absl::IsCancelled(found)) session.OnConnectionLost(found);
      return;
    }
  });
  return watch;
}

ConnectionWatch::~ConnectionWatch() {
  stop_.Cancel();
  thread_.join();
}

}  // namespace nd::ndping
