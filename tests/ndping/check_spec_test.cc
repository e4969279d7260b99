#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "ndping/cli/test_options.h"
#include "ndping/harness/harness_server.h"

namespace nd::ndping {
namespace {

using ::testing::HasSubstr;

v1::Limits SomeLimits() {
  v1::Limits limits;
  limits.set_max_size(1 << 20);
  limits.set_max_depth(64);
  limits.set_max_qps(8);
  limits.set_max_duration_ns(60'000'000'000);
  limits.set_max_tests(1);
  limits.set_max_memory(4 << 20);
  return limits;
}

v1::TestSpec Bandwidth() {
  v1::TestSpec spec;
  spec.set_kind(v1::TEST_KIND_BANDWIDTH);
  spec.set_operation(v1::OPERATION_SEND);
  spec.add_sizes(4096);
  spec.set_iterations(1000);
  spec.set_qps(2);
  spec.set_depth(16);
  spec.set_signal_every(4);
  spec.set_cq_mode(v1::CQ_MODE_BUSY);
  return spec;
}

v1::TestSpec Latency() {
  v1::TestSpec spec = Bandwidth();
  spec.set_kind(v1::TEST_KIND_LATENCY);
  return spec;
}

v1::TestSpec Messages() {
  v1::TestSpec spec = Latency();
  spec.clear_operation();
  spec.clear_signal_every();
  *spec.mutable_session() = SessionOf(TestOptions());
  return spec;
}

v1::TestSpec UnderLoad() {
  v1::TestSpec spec = Messages();
  v1::Load& load = *spec.mutable_session()->mutable_load();
  load.set_size(4096);
  load.set_depth(16);
  load.set_stream_class(v1::STREAM_CLASS_BULK);
  return spec;
}

v1::TestSpec Connect() {
  v1::TestSpec spec;
  spec.set_kind(v1::TEST_KIND_CONNECT);
  spec.set_connections(200);
  return spec;
}

// A change to a good spec, and what the answer then is.
struct Case {
  const char* name;
  v1::TestSpec (*base)();
  std::function<void(v1::TestSpec&)> change;
  absl::StatusCode code;
  const char* message;
};

constexpr auto kOk = absl::StatusCode::kOk;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kTooMuch = absl::StatusCode::kResourceExhausted;

class CheckSpecTest : public ::testing::TestWithParam<Case> {};

TEST_P(CheckSpecTest, Answers) {
  v1::TestSpec spec = GetParam().base();
  GetParam().change(spec);
  const absl::Status status = CheckSpec(spec, SomeLimits());
  EXPECT_EQ(status.code(), GetParam().code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

#define CHANGE(...) [](v1::TestSpec& s) { __VA_ARGS__; }

const Case kCases[] = {
    {"GoodBandwidth", Bandwidth, CHANGE((void)s), kOk, ""},
    {"GoodLatency", Latency, CHANGE((void)s), kOk, ""},
    {"GoodConnect", Connect, CHANGE((void)s), kOk, ""},

    {"NoKind", Bandwidth, CHANGE(s.set_kind(v1::TEST_KIND_UNSPECIFIED)),
     kInvalid, "kind: 0"},
    {"UnknownKind", Bandwidth, CHANGE(s.set_kind(v1::TestKind(99))), kInvalid,
     "kind: 99"},
    {"NoOperation", Bandwidth,
     CHANGE(s.set_operation(v1::OPERATION_UNSPECIFIED)), kInvalid,
     "operation: 0"},
    {"UnknownOperation", Bandwidth, CHANGE(s.set_operation(v1::Operation(99))),
     kInvalid, "operation: 99"},
    {"NoCqMode", Bandwidth, CHANGE(s.set_cq_mode(v1::CQ_MODE_UNSPECIFIED)),
     kInvalid, "cq_mode: 0"},
    {"UnknownCqMode", Bandwidth, CHANGE(s.set_cq_mode(v1::CqMode(99))),
     kInvalid, "cq_mode: 99"},
    {"UnknownProvoke", Bandwidth, CHANGE(s.set_provoke(v1::Provoke(99))),
     kInvalid, "provoke: 99"},

    {"NoSizes", Bandwidth, CHANGE(s.clear_sizes()), kInvalid, "sizes: 0"},
    {"SixtyFourSizes", Bandwidth,
     CHANGE(for (int i = 1; i < 64; ++i) s.add_sizes(1)), kOk, ""},
    {"SixtyFiveSizes", Bandwidth,
     CHANGE(for (int i = 1; i < 65; ++i) s.add_sizes(1)), kInvalid,
     "sizes: 65"},
    {"LargestSize", Bandwidth, CHANGE(s.set_sizes(0, 1 << 20); s.set_qps(1)),
     kOk, ""},
    {"SizeOverTheLimit", Bandwidth, CHANGE(s.add_sizes((1 << 20) + 1)),
     kTooMuch, "sizes: a message of 1048577 bytes is larger than 1M"},
    {"SizeThatNoMessageHas", Bandwidth, CHANGE(s.add_sizes((1ull << 31) + 1)),
     kInvalid, "2G of one message"},
    {"EmptySends", Latency, CHANGE(s.set_sizes(0, 0)), kOk, ""},
    {"EmptyReads", Latency,
     CHANGE(s.set_operation(v1::OPERATION_READ); s.set_sizes(0, 0)), kOk, ""},
    {"EmptyWritesWithImm", Latency,
     CHANGE(s.set_operation(v1::OPERATION_WRITE_WITH_IMM); s.set_sizes(0, 0)),
     kOk, ""},
    {"EmptyWritesInBandwidth", Bandwidth,
     CHANGE(s.set_operation(v1::OPERATION_WRITE); s.set_sizes(0, 0)), kOk, ""},
    {"EmptyWritesInLatency", Latency,
     CHANGE(s.set_operation(v1::OPERATION_WRITE); s.add_sizes(0)), kInvalid,
     "use write-imm"},
    {"AtomicOfEight", Latency,
     CHANGE(s.set_operation(v1::OPERATION_FETCH_ADD); s.set_sizes(0, 8)), kOk,
     ""},
    {"AtomicOfFour", Latency,
     CHANGE(s.set_operation(v1::OPERATION_COMPARE_SWAP); s.set_sizes(0, 4)),
     kInvalid, "exactly 8 bytes"},

    {"NeitherIterationsNorDuration", Bandwidth, CHANGE(s.set_iterations(0)),
     kInvalid, "iterations: neither"},
    {"BothIterationsAndDuration", Bandwidth, CHANGE(s.set_duration_ns(1)),
     kInvalid, "iterations: not together"},
    {"LongestDuration", Bandwidth,
     CHANGE(s.set_iterations(0); s.set_duration_ns(60'000'000'000)), kOk, ""},
    {"DurationOverTheLimit", Bandwidth,
     CHANGE(s.set_iterations(0); s.set_duration_ns(60'000'000'001)), kTooMuch,
     "duration_ns"},

    {"NoQps", Bandwidth, CHANGE(s.set_qps(0)), kInvalid, "qps"},
    {"MostQps", Bandwidth, CHANGE(s.set_qps(8)), kOk, ""},
    {"QpsOverTheLimit", Bandwidth, CHANGE(s.set_qps(9)), kTooMuch,
     "qps: 9 are more than 8"},
    {"NoDepth", Bandwidth, CHANGE(s.set_depth(0)), kInvalid,
     "depth: at least 1"},
    {"DepthOverTheLimit", Bandwidth, CHANGE(s.set_depth(65)), kTooMuch,
     "depth: 65 is more than 64"},
    {"NothingSignalled", Bandwidth, CHANGE(s.set_signal_every(0)), kInvalid,
     "signal_every: 0"},
    {"SignalsBeyondTheDepth", Bandwidth, CHANGE(s.set_signal_every(17)),
     kInvalid, "signal_every: 17"},

    {"BidirectionalBandwidth", Bandwidth, CHANGE(s.set_bidirectional(true)),
     kOk, ""},
    {"BidirectionalLatency", Latency, CHANGE(s.set_bidirectional(true)),
     kInvalid, "bidirectional"},
    {"RateLimitOfBandwidth", Bandwidth, CHANGE(s.set_rate_limit(1000)), kOk,
     ""},
    {"RateLimitOfLatency", Latency, CHANGE(s.set_rate_limit(1000)), kInvalid,
     "rate_limit"},
    {"IntervalOfLatency", Latency, CHANGE(s.set_interval_ns(1000)), kOk, ""},
    {"IntervalOfBandwidth", Bandwidth, CHANGE(s.set_interval_ns(1000)),
     kInvalid, "interval_ns"},
    {"IntervalOverAPhase", Latency, CHANGE(s.set_interval_ns(60'000'000'001)),
     kTooMuch, "interval_ns"},

    {"GoodMtu", Bandwidth, CHANGE(s.set_mtu(1024)), kOk, ""},
    {"OddMtu", Bandwidth, CHANGE(s.set_mtu(1500)), kInvalid, "mtu: 1500"},
    {"ServiceLevel", Bandwidth, CHANGE(s.set_service_level(16)), kInvalid,
     "service_level: 16"},
    {"TypeOfService", Bandwidth, CHANGE(s.set_type_of_service(256)), kInvalid,
     "type_of_service: 256"},
    {"RetryCount", Bandwidth, CHANGE(s.set_retry_count(8)), kInvalid,
     "retry_count: 8"},
    {"RnrRetryCount", Bandwidth, CHANGE(s.set_rnr_retry_count(8)), kInvalid,
     "rnr_retry_count: 8"},
    {"AckTimeout", Bandwidth, CHANGE(s.set_ack_timeout(32)), kInvalid,
     "ack_timeout: 32"},

    {"WrongRkeyOfWrite", Bandwidth,
     CHANGE(s.set_operation(v1::OPERATION_WRITE);
            s.set_provoke(v1::PROVOKE_WRONG_RKEY)),
     kOk, ""},
    {"WrongRkeyOfWriteWithImm", Bandwidth,
     CHANGE(s.set_operation(v1::OPERATION_WRITE_WITH_IMM);
            s.set_provoke(v1::PROVOKE_WRONG_RKEY)),
     kOk, ""},
    {"WrongRkeyOfSend", Bandwidth,
     CHANGE(s.set_provoke(v1::PROVOKE_WRONG_RKEY)), kInvalid, "R_Key"},
    {"NoReceivesOfSend", Bandwidth,
     CHANGE(s.set_provoke(v1::PROVOKE_NO_RECEIVES)), kOk, ""},
    {"NoReceivesOfRead", Bandwidth,
     CHANGE(s.set_operation(v1::OPERATION_READ);
            s.set_provoke(v1::PROVOKE_NO_RECEIVES)),
     kInvalid, "receives"},

    {"MostMemory", Bandwidth, CHANGE(s.set_sizes(0, 1 << 20); s.set_qps(4)),
     kOk, ""},
    {"MemoryOverTheLimit", Bandwidth,
     CHANGE(s.set_sizes(0, 1 << 20); s.set_qps(5)), kTooMuch,
     "memory: 5 QPs with messages of 1M bytes need at least 5M"},
    {"MemoryOfBothDirections", Bandwidth,
     CHANGE(s.set_sizes(0, 1 << 20); s.set_qps(4); s.set_bidirectional(true)),
     kTooMuch, "need at least 8M"},

    {"GoodMessages", Messages, CHANGE((void)s), kOk, ""},
    {"GoodLoad", UnderLoad, CHANGE((void)s), kOk, ""},
    {"MessagesWithAnOperation", Messages,
     CHANGE(s.set_operation(v1::OPERATION_SEND)), kInvalid,
     "operation: not of a test over a session"},
    {"MessagesWithAnMtu", Messages, CHANGE(s.set_mtu(1024)), kInvalid, "mtu: "},
    {"MessagesOfNoClass", Messages,
     CHANGE(s.mutable_session()->clear_stream_class()), kInvalid,
     "stream_class: 0"},
    {"TooFewSlots", Messages, CHANGE(s.mutable_session()->set_slots(3)),
     kInvalid, "slots: 3 is below 4"},
    {"EagerLimitBeyondTheSlot", Messages,
     CHANGE(s.mutable_session()->set_eager_limit(8161)), kInvalid,
     "eager_limit: 8161 is above"},
    {"TooManyConnectionsOfAClass", Messages,
     CHANGE(s.mutable_session()->set_connections(17)), kInvalid,
     "latency_connections: 17 is above 16"},
    {"MoreStreamsThanTheLimit", Messages, CHANGE(s.set_qps(9)), kTooMuch,
     "qps: 9 are more than 8"},
    {"MoreThanTheMemoryForWhatArrives", Messages,
     CHANGE(s.set_kind(v1::TEST_KIND_BANDWIDTH); s.set_sizes(0, 1 << 20);
            s.set_qps(4)),
     kTooMuch, "memory: 6 streams with messages of up to 1048576 bytes"},
    {"LoadOfABandwidthTest", UnderLoad,
     CHANGE(s.set_kind(v1::TEST_KIND_BANDWIDTH)), kInvalid,
     "load: only a latency test has one"},
    {"LoadOfNothing", UnderLoad,
     CHANGE(s.mutable_session()->mutable_load()->set_size(0)), kInvalid,
     "load.size: at least 1 byte"},
    {"LoadOverTheLimit", UnderLoad,
     CHANGE(s.mutable_session()->mutable_load()->set_size(2 << 20)), kTooMuch,
     "load.size: 2M bytes are more than 1M"},
    {"LoadDeeperThanTheLimit", UnderLoad,
     CHANGE(s.mutable_session()->mutable_load()->set_depth(65)), kTooMuch,
     "load.depth: 65 is more than 64"},
    {"ConnectOverASession", Connect, CHANGE(s.mutable_session()), kInvalid,
     "session: a connect test moves no messages"},

    {"NoConnections", Connect, CHANGE(s.set_connections(0)), kInvalid,
     "connections: 0"},
    {"TooManyConnections", Connect, CHANGE(s.set_connections(1'000'001)),
     kInvalid, "connections: 1000001"},
    {"MostHeld", Connect, CHANGE(s.set_hold(true); s.set_connections(8)), kOk,
     ""},
    {"HeldOverTheLimit", Connect,
     CHANGE(s.set_hold(true); s.set_connections(9)), kTooMuch,
     "connections: 9 open at once are more than 8"},
    {"ConnectHasARetryCountToo", Connect, CHANGE(s.set_retry_count(8)),
     kInvalid, "retry_count: 8"},
};

INSTANTIATE_TEST_SUITE_P(CheckSpec, CheckSpecTest, ::testing::ValuesIn(kCases),
                         [](const ::testing::TestParamInfo<Case>& info) {
                           return info.param.name;
                         });

TEST(DefaultLimits, AllowTheTestsThatPeopleRun) {
  v1::TestSpec spec = Bandwidth();
  spec.set_qps(64);
  spec.set_sizes(0, 8 << 20);
  spec.set_depth(128);
  spec.set_bidirectional(true);
  EXPECT_TRUE(CheckSpec(spec, HarnessServer::DefaultLimits()).ok());
}

}  // namespace
}  // namespace nd::ndping
