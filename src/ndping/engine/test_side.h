// One side of a test: its device, its connections, its buffers, and the loops
// that move data. Client and server are the same class; what differs is who
// initiates.
#ifndef ND_NDPING_ENGINE_TEST_SIDE_H_
#define ND_NDPING_ENGINE_TEST_SIDE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/histogram.h"
#include "base/wait.h"
#include "control/connection_broker.h"
#include "control/token.h"
#include "nd/v1/harness.pb.h"
#include "verbs/address.h"

namespace nd::ndping {

// What the threads of one phase tell each other. The data thread runs the
// phase; the control thread brings the peer's word.
class PhaseControl {
 public:
  virtual ~PhaseControl() = default;

  // The data thread has initiated all it will: tell the peer, and return what
  // the peer initiated, by QP, once it says so. Called once per phase.
  virtual absl::StatusOr<v1::PhaseDone> ExchangeDone(
      const v1::PhaseDone& mine) = 0;

  // Waits until the peer has said that it is done; CANCELLED when the test has
  // ended. Sleeps all the while: who waits here disturbs no measurement.
  virtual absl::Status AwaitPeerDone() = 0;

  // The user wants the phase to end early, cleanly.
  virtual bool interrupted() const = 0;

  // The peer said that it is done before this side asked (a responder of a
  // latency test without a count waits for this). Cheap.
  virtual bool peer_done() const = 0;

  // The test has failed or was cancelled elsewhere; waits end with CANCELLED.
  virtual const Cancellation* cancellation() const = 0;

  // A message of a paced latency test (TestSpec.interval_ns > 0) was measured;
  // called by the client's data thread, once per message.
  virtual void OnMessage(uint64_t latency_ns) { (void)latency_ns; }

  // For the progress line: messages so far.
  std::atomic<uint64_t> messages{0};
};

class TestSide {
 public:
  struct Options {
    v1::TestSpec spec;
    bool client = false;
    uint64_t max_memory = 0;  // bytes of buffers
  };

  // Connects spec.qps() connections that show `token`.
  static absl::StatusOr<std::unique_ptr<TestSide>> Connect(
      const Options& options, const verbs::SocketAddress& server,
      const std::optional<verbs::SocketAddress>& from,
      const control::Token& token, const Deadline& deadline,
      const Cancellation* cancel);

  // Accepts them.
  static absl::StatusOr<std::unique_ptr<TestSide>> Accept(
      const Options& options, control::Invitation& invitation,
      const Deadline& deadline, const Cancellation* cancel);

  virtual ~TestSide() = default;

  virtual v1::Layout layout() const = 0;
  virtual absl::Status SetPeerLayout(const v1::Layout& layout) = 0;

  // Fills the buffers and posts the receives of phase `index`.
  virtual absl::Status Prepare(uint32_t index) = 0;

  // Runs the phase. `latencies` gets nanoseconds: half the round trip for send
  // and write, all of it for read and atomics, as perftest does; used by the
  // client of a latency test only.
  virtual absl::StatusOr<v1::PhaseReport> Run(uint32_t index,
                                              PhaseControl& control,
                                              Histogram* latencies) = 0;

  // Waits until a connection is lost or the device goes; the Status says which
  // and why. CANCELLED or DEADLINE_EXCEEDED otherwise. From another thread than
  // Run's.
  virtual absl::Status WatchConnections(const Deadline& deadline,
                                        const Cancellation* cancel) = 0;

  // Disconnects and waits a bounded time for the peer to follow.
  virtual void Disconnect() = 0;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_TEST_SIDE_H_
