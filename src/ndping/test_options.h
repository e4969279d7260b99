// The options of a test as the command line gives them, and the TestSpec that
// the server is sent.
#ifndef ND_NDPING_TEST_OPTIONS_H_
#define ND_NDPING_TEST_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "nd/v1/harness.pb.h"
#include "ndping/harness_client.h"
#include "ndping/threshold.h"

namespace nd::ndping {

// What the user calls a test. A rate test is a bandwidth test of small messages
// that is reported in messages a second.
enum class TestName { kLatency, kBandwidth, kRate, kConnect };

absl::string_view CommandName(TestName test);  // "lat", "bw", "rate", "connect"

// "send", "send-imm", "write", "write-imm", "read", "cas", "fetch-add".
absl::string_view OperationName(v1::Operation operation);
absl::StatusOr<v1::Operation> ParseOperation(absl::string_view text);
bool IsAtomic(v1::Operation operation);

// "busy", "event", "adaptive".
absl::string_view CqModeName(v1::CqMode mode);
absl::StatusOr<v1::CqMode> ParseCqMode(absl::string_view text);

// "wrong-rkey", "no-receives"; "nothing" when nothing is provoked.
absl::string_view ProvokeName(v1::Provoke provoke);
absl::StatusOr<v1::Provoke> ParseProvoke(absl::string_view text);

// How a result is printed.
enum class Format { kText, kJson, kCsv };

struct OutputOptions {
  Format format = Format::kText;
  std::vector<Threshold> thresholds;
};

// What has no value was not given; ToSpec decides, by the test.
struct TestOptions {
  TestName test = TestName::kLatency;
  HarnessClient::Options server;
  OutputOptions output;

  v1::Operation operation = v1::OPERATION_SEND;
  std::vector<uint64_t> sizes;
  std::optional<uint64_t> iterations;
  std::optional<Duration> duration;
  std::optional<uint64_t> warmup;
  std::optional<uint32_t> qps;
  std::optional<uint32_t> depth;
  std::optional<uint32_t> signal_every;
  std::optional<uint32_t> inline_bytes;  // none: auto
  v1::CqMode cq_mode = v1::CQ_MODE_BUSY;
  bool bidirectional = false;
  bool verify = false;
  uint32_t mtu = 0;
  uint32_t service_level = 0;
  uint32_t type_of_service = 0;
  uint64_t rate_limit = 0;
  Duration interval{0};
  uint32_t retry_count = 7;
  uint32_t rnr_retry_count = 7;
  uint32_t ack_timeout = 0;
  v1::Provoke provoke = v1::PROVOKE_NOTHING;
  uint64_t connections = 100;  // of kConnect
  bool hold = false;
};

// Fills in what was not given. INVALID_ARGUMENT names the flags that do not go
// together.
absl::StatusOr<v1::TestSpec> ToSpec(const TestOptions& options);

// CheckSpec's errors, and the server's, name the field of the TestSpec that is
// wrong ("sizes: ..."); the user knows it by its flag ("--size: ...").
absl::Status NameFlag(const absl::Status& status);

// Which figures --fail-if can name for this test.
Figures FiguresMeasured(const TestOptions& options);

}  // namespace nd::ndping

#endif  // ND_NDPING_TEST_OPTIONS_H_
