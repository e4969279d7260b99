// Runs a test against an ndping server.
#ifndef ND_NDPING_HARNESS_HARNESS_CLIENT_H_
#define ND_NDPING_HARNESS_HARNESS_CLIENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/histogram.h"
#include "base/wait.h"
#include "nd/v1/harness.pb.h"
#include "verbs/address.h"

namespace nd::ndping {

struct PhaseResult {
  uint64_t size = 0;    // bytes of a message
  Histogram latencies;  // nanoseconds; empty for a bandwidth test
  v1::PhaseReport client;
  v1::PhaseReport server;
  bool interrupted = false;
};

struct TestResult {
  v1::TestSpec spec;
  std::string server;  // "10.98.0.2:7470"
  std::string server_version;
  std::vector<PhaseResult> phases;
};

// Of TEST_KIND_CONNECT.
struct ConnectResult {
  v1::TestSpec spec;
  std::string server;
  uint64_t connections = 0;
  uint64_t elapsed_ns = 0;
  Histogram latencies;  // nanoseconds from resolving to established, each
  bool interrupted = false;
};

// Told of a running test, from the thread that runs it.
class TestObserver {
 public:
  virtual ~TestObserver() = default;
  virtual void OnPhaseStart(const v1::TestSpec& spec, uint32_t index) {
    (void)spec, (void)index;
  }
  // About four times a second.
  virtual void OnProgress(uint32_t index, uint64_t messages, Duration elapsed) {
    (void)index, (void)messages, (void)elapsed;
  }
  // Each measured message of a paced latency test (TestSpec.interval_ns > 0) as
  // it comes, counted from 0; `latency` is what goes into the histogram. From a
  // thread of its own, perhaps during OnProgress, never after OnPhaseEnd.
  virtual void OnMessage(uint64_t number, Duration latency) {
    (void)number, (void)latency;
  }
  virtual void OnPhaseEnd(const PhaseResult& result) { (void)result; }
};

class HarnessClient {
 public:
  struct Options {
    std::string host;  // of the server's gRPC port
    uint16_t port = 7470;
    // The local address, and so the device, for RDMA; empty: by the route.
    std::string from;
    Duration connect_timeout = std::chrono::seconds(10);
  };

  static absl::StatusOr<std::unique_ptr<HarnessClient>> Create(
      const Options& options);
  virtual ~HarnessClient() = default;

  virtual absl::StatusOr<v1::ServerInfo> GetServerInfo() = 0;

  // `interrupt` ends the test early but cleanly on both sides (Ctrl-C): what
  // was measured so far is returned, or CANCELLED when no phase had begun. Any
  // other error names the server and tells what both sides found.
  virtual absl::StatusOr<TestResult> Run(const v1::TestSpec& spec,
                                         const Cancellation& interrupt,
                                         TestObserver& observer) = 0;
  virtual absl::StatusOr<ConnectResult> RunConnect(
      const v1::TestSpec& spec, const Cancellation& interrupt,
      TestObserver& observer) = 0;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_HARNESS_HARNESS_CLIENT_H_
