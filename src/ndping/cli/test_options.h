// The options of a test as the command line gives them, and the TestSpec that
// the server is sent.
#ifndef ND_NDPING_CLI_TEST_OPTIONS_H_
#define ND_NDPING_CLI_TEST_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "nd/v1/harness.pb.h"
#include "ndping/harness/harness_client.h"
#include "ndping/report/threshold.h"
#include "ndping/text/spec_names.h"

namespace nd::ndping {

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

#endif  // ND_NDPING_CLI_TEST_OPTIONS_H_
