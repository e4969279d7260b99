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

// What carries the messages of a test.
enum class Over { kVerbs, kMessage };
absl::StatusOr<Over> ParseOver(absl::string_view text);

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

  Over over = Over::kVerbs;
  // Options that were given and mean something to one of the two only.
  std::vector<std::string> of_verbs, of_messages;
  std::vector<std::string> of_load;  // need --under-load
  // Over messages. kRate and kBandwidth have streams of the bulk class unless
  // told otherwise.
  std::optional<uint32_t> streams;
  std::optional<v1::StreamClass> stream_class;
  std::optional<uint32_t> eager_limit;
  uint32_t session_connections = 1;  // of each class
  uint32_t slots = 64;
  bool digest = false;
  bool ring = false;
  bool under_load = false;
  uint64_t load_size = uint64_t{1} << 20;
  uint32_t load_depth = 16;
  v1::StreamClass load_class = v1::STREAM_CLASS_BULK;
};

// Of a session, as SessionLayout of include/nd/session.h has them by default.
inline constexpr uint32_t kDefaultSlotSize = 8192;
inline constexpr uint32_t kDefaultEagerLimit = 8160;
// What a slot has beside its message.
inline constexpr uint32_t kSlotHeader = kDefaultSlotSize - kDefaultEagerLimit;

// Fills in what was not given. INVALID_ARGUMENT names the flags that do not go
// together.
absl::StatusOr<v1::TestSpec> ToSpec(const TestOptions& options);

// The part of it that --over message has.
v1::SessionOptions SessionOf(const TestOptions& options);

// CheckSpec's errors, and the server's, name the field of the TestSpec that is
// wrong ("sizes: ..."); the user knows it by its flag ("--size: ...").
absl::Status NameFlag(const absl::Status& status);

// Which figures --fail-if can name for this test.
Figures FiguresMeasured(const TestOptions& options);

}  // namespace nd::ndping

#endif  // ND_NDPING_CLI_TEST_OPTIONS_H_
