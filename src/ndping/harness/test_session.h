// One side of a Run call: its messages, its deadlines, and why it ended.
#ifndef ND_NDPING_HARNESS_TEST_SESSION_H_
#define ND_NDPING_HARNESS_TEST_SESSION_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "base/histogram.h"
#include "base/wait.h"
#include "ndping/engine/test_side.h"
#include "ndping/harness/findings.h"
#include "ndping/harness/peer_message.h"

namespace nd::ndping {

// How long each side waits for what.
struct Timing {
  Duration message = std::chrono::seconds(10);  // the peer's next message
  Duration connect = std::chrono::seconds(30);  // all connections of a test
  Duration prepare = std::chrono::seconds(60);  // buffers filled
  Duration silence = std::chrono::seconds(10);  // between messages of a phase
  // How long a symptom waits for its cause: for what the other threads of this
  // side find, for what the peer found, and for a peer that may be about to
  // end the test in good order.
  Duration local_grace = std::chrono::milliseconds(100);
  Duration peer_grace = std::chrono::milliseconds(500);
  Duration idle_grace = std::chrono::seconds(2);
  Duration end = std::chrono::seconds(3);  // the peer's answer to a Failure
  Duration tick = std::chrono::milliseconds(250);
};

// The way to the peer. Thread-safe. CANCELLED when the call has ended; why, the
// session then hears.
class PeerLink {
 public:
  virtual ~PeerLink() = default;
  virtual absl::Status Send(PeerMessage message) = 0;
};

// What the threads of one side of a test share. One of them, the test's
// thread, makes all decisions; it runs blocking work on a thread of its own
// that it joins, so that it can watch. The first word of each source counts
// (findings.h).
class TestSession {
 public:
  static absl::StatusOr<std::unique_ptr<TestSession>> Create(
      std::string peer, const Timing& timing);

  // From any thread. All but OnMessage end what runs: cancellation() fires.
  void OnMessage(PeerMessage message);
  void OnClosed();  // the peer will send no more
  void OnVanished(absl::string_view detail);
  void OnEnded(const absl::Status& status);  // by the peer, with an error
  void OnConnectionLost(const absl::Status& status);
  void Stop(const absl::Status& why);

  // The rest is for the test's thread. An error is told once all is known:
  // by Cause(), with what the failed call returned.

  // The peer's next message, which has to be a T.
  template <typename T>
  absl::StatusOr<T> Receive(Duration limit);
  // The peer's next phase; nothing when it closed instead.
  absl::StatusOr<std::optional<v1::StartPhase>> NextPhase();
  // Waits until the peer has closed, as it has to now.
  absl::Status AwaitClose(Duration limit);

  // Runs `job` on a thread. Asks `check` now and then, if it is set; an error
  // of its ends the job. `may_close`: the peer may close meanwhile.
  struct Work {
    std::string doing;  // "connecting"
    Duration limit;
    std::function<absl::Status()> check;
    bool may_close = false;
  };
  absl::Status Perform(const Work& work, std::function<absl::Status()> job);

  // From here on the peer's PhaseDone is welcome; to be called before the peer
  // is told to start.
  void ArmPhase();

  struct PhaseOptions {
    PeerLink* link = nullptr;
    uint32_t index = 0;
    uint64_t size = 0;
    bool initiates = false;  // this side sees messages go
    Duration silence;        // the longest time without a message
    Duration longest;        // of the phase
    const Cancellation* interrupt = nullptr;
    std::function<void(uint64_t messages, Duration elapsed)> on_tick;
    // Each measured message of a paced test, on the data thread.
    std::function<void(uint64_t latency_ns)> on_message = nullptr;
  };
  struct PhaseOutcome {
    v1::PhaseReport report;
    bool interrupted = false;  // by either side
  };
  absl::StatusOr<PhaseOutcome> RunPhase(TestSide& side,
                                        const PhaseOptions& options,
                                        Histogram* latencies);

  // After a call that failed with `error`: waits for more findings, until
  // nothing that comes could matter.
  void Settle(const absl::Status& error, Duration grace);
  // Whether the peer has ended the call, one way or another.
  bool ended();
  // Waits for that after the peer was told to; if it does not, that is a
  // finding.
  void AwaitEnd();
  // What this side found, for the peer; nothing when the peer's word is all
  // there is. What this side finds from now on is a consequence and not
  // counted.
  std::optional<absl::Status> LocalCause();
  // Why the test ends; `error` is what the failed call returned.
  absl::Status Cause(const absl::Status& error);

  const Cancellation* cancellation() const { return &cancel_; }
  const std::string& peer() const { return peer_; }
  const Timing& timing() const { return timing_; }

 private:
  class Phase;

  TestSession(std::string peer, const Timing& timing, Cancellation cancel);

  template <typename Ready>
  bool WaitFor(Ready ready, const Deadline& deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Records the verdict, ends what runs, and returns it.
  absl::Status Fail(absl::Status verdict) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<PeerMessage> Take(absl::string_view name, Duration limit);
  absl::Status Unexpected(const PeerMessage& message, absl::string_view wanted);
  absl::Status ClosedEarly(absl::string_view doing)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Watch(const Work& work,
                     const std::optional<absl::Status>& result);
  absl::StatusOr<v1::PhaseDone> AwaitPeerDone(const Deadline& deadline);

  const std::string peer_;
  const Timing timing_;
  Cancellation cancel_;

  absl::Mutex mutex_;
  absl::CondVar changed_;
  PeerOrder order_ ABSL_GUARDED_BY(mutex_);
  std::deque<PeerMessage> inbox_ ABSL_GUARDED_BY(mutex_);  // bounded by order_
  Findings findings_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool armed_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<v1::PhaseDone> peer_done_ ABSL_GUARDED_BY(mutex_);
  // The same for the data thread, which asks between messages.
  std::atomic<bool> peer_is_done_{false};
  std::atomic<bool> peer_was_interrupted_{false};
};

template <typename T>
absl::StatusOr<T> TestSession::Receive(Duration limit) {
  const absl::string_view wanted = MessageName(PeerMessage(T()));
  absl::StatusOr<PeerMessage> message = Take(wanted, limit);
  if (!message.ok()) return message.status();
  if (T* found = std::get_if<T>(&*message)) return std::move(*found);
  return Unexpected(*message, wanted);
}

// Tells the session when a connection of `side` breaks, for as long as it
// lives.
class ConnectionWatch {
 public:
  static absl::StatusOr<std::unique_ptr<ConnectionWatch>> Start(
      TestSide& side, TestSession& session);
  ~ConnectionWatch();

 private:
  explicit ConnectionWatch(Cancellation stop) : stop_(std::move(stop)) {}

  Cancellation stop_;
  std::thread thread_;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_HARNESS_TEST_SESSION_H_
