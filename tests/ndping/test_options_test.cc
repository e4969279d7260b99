#include "ndping/cli/test_options.h"

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <string>

namespace nd::ndping {
namespace {

TestOptions OptionsOf(TestName test) {
  TestOptions options;
  options.test = test;
  return options;
}

std::string ErrorOf(const TestOptions& options) {
  return std::string(ToSpec(options).status().message());
}

// The fields that every test with data has unless told otherwise.
v1::TestSpec Common() {
  v1::TestSpec spec;
  spec.set_operation(v1::OPERATION_SEND);
  spec.set_cq_mode(v1::CQ_MODE_BUSY);
  spec.set_retry_count(7);
  spec.set_rnr_retry_count(7);
  return spec;
}

void ExpectSpec(const TestOptions& options, const v1::TestSpec& expected) {
  const auto spec = ToSpec(options);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_TRUE(
      google::protobuf::util::MessageDifferencer::Equals(*spec, expected))
      << spec->DebugString();
}

TEST(ToSpec, LatencyDefaults) {
  v1::TestSpec expected = Common();
  expected.set_kind(v1::TEST_KIND_LATENCY);
  expected.add_sizes(64);
  expected.set_iterations(1000);
  expected.set_warmup(100);
  expected.set_qps(1);
  expected.set_depth(1);
  expected.set_signal_every(1);
  expected.set_inline_bytes(220);
  ExpectSpec(OptionsOf(TestName::kLatency), expected);
}

TEST(ToSpec, BandwidthDefaults) {
  v1::TestSpec expected = Common();
  expected.set_kind(v1::TEST_KIND_BANDWIDTH);
  expected.add_sizes(65536);
  expected.set_iterations(5000);
  expected.set_warmup(100);
  expected.set_qps(1);
  expected.set_depth(128);
  expected.set_signal_every(96);
  ExpectSpec(OptionsOf(TestName::kBandwidth), expected);
}

TEST(ToSpec, RateDefaults) {
  v1::TestSpec expected = Common();
  expected.set_kind(v1::TEST_KIND_BANDWIDTH);
  expected.add_sizes(8);
  expected.set_duration_ns(5'000'000'000);
  expected.set_warmup(1000);
  expected.set_qps(8);
  expected.set_depth(128);
  expected.set_signal_every(96);
  expected.set_inline_bytes(64);
  ExpectSpec(OptionsOf(TestName::kRate), expected);
}

TEST(ToSpec, ConnectHasConnectionsAndNoMessages) {
  TestOptions options = OptionsOf(TestName::kConnect);
  options.connections = 200;
  options.hold = true;
  options.type_of_service = 32;
  v1::TestSpec expected;
  expected.set_kind(v1::TEST_KIND_CONNECT);
  expected.set_connections(200);
  expected.set_hold(true);
  expected.set_qps(1);
  expected.set_type_of_service(32);
  expected.set_retry_count(7);
  expected.set_rnr_retry_count(7);
  ExpectSpec(options, expected);
}

TEST(ToSpec, EveryOptionHasItsField) {
  TestOptions options = OptionsOf(TestName::kBandwidth);
  options.operation = v1::OPERATION_WRITE_WITH_IMM;
  options.sizes = {1, 4096};
  options.duration = std::chrono::seconds(2);
  options.warmup = 0;
  options.qps = 4;
  options.depth = 16;
  options.signal_every = 16;
  options.inline_bytes = 32;
  options.cq_mode = v1::CQ_MODE_ADAPTIVE;
  options.bidirectional = true;
  options.verify = true;
  options.mtu = 2048;
  options.service_level = 3;
  options.type_of_service = 32;
  options.rate_limit = 1'000'000;
  options.retry_count = 1;
  options.rnr_retry_count = 2;
  options.ack_timeout = 14;
  options.provoke = v1::PROVOKE_WRONG_RKEY;
  v1::TestSpec expected;
  expected.set_kind(v1::TEST_KIND_BANDWIDTH);
  expected.set_operation(v1::OPERATION_WRITE_WITH_IMM);
  expected.add_sizes(1);
  expected.add_sizes(4096);
  expected.set_duration_ns(2'000'000'000);
  expected.set_qps(4);
  expected.set_depth(16);
  expected.set_signal_every(16);
  expected.set_inline_bytes(32);
  expected.set_cq_mode(v1::CQ_MODE_ADAPTIVE);
  expected.set_bidirectional(true);
  expected.set_verify(true);
  expected.set_mtu(2048);
  expected.set_service_level(3);
  expected.set_type_of_service(32);
  expected.set_rate_limit(1'000'000);
  expected.set_retry_count(1);
  expected.set_rnr_retry_count(2);
  expected.set_ack_timeout(14);
  expected.set_provoke(v1::PROVOKE_WRONG_RKEY);
  ExpectSpec(options, expected);
}

TEST(ToSpec, AtomicsHaveEightBytesAndNothingInline) {
  TestOptions options = OptionsOf(TestName::kLatency);
  options.operation = v1::OPERATION_FETCH_ADD;
  const auto spec = ToSpec(options);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->sizes(0), 8u);
  EXPECT_EQ(spec->inline_bytes(), 0u);

  options.sizes = {8, 16};
  EXPECT_EQ(ErrorOf(options),
            "--size: --op fetch-add always has 8 bytes; leave --size out");
}

TEST(ToSpec, LargeMessagesHaveFewerOnTheirWay) {
  TestOptions options = OptionsOf(TestName::kBandwidth);
  options.sizes = {8, 8 << 20};
  EXPECT_EQ(ToSpec(options)->depth(), 8u);
  EXPECT_EQ(ToSpec(options)->signal_every(), 6u);
  options.sizes = {1 << 30};
  EXPECT_EQ(ToSpec(options)->depth(), 2u);
  options.depth = 64;
  EXPECT_EQ(ToSpec(options)->depth(), 64u);
}

TEST(ToSpec, RefusesOptionsThatDoNotGoTogether) {
  TestOptions both = OptionsOf(TestName::kLatency);
  both.iterations = 10;
  both.duration = std::chrono::seconds(1);
  EXPECT_EQ(ErrorOf(both), "--iterations and --duration: give one of the two");

  TestOptions late = OptionsOf(TestName::kBandwidth);
  late.depth = 4;
  late.signal_every = 5;
  EXPECT_EQ(ErrorOf(late),
            "--signal-every: 5 is more than --depth, which is 4: the queue "
            "would be full before a request is signalled");

  TestOptions inlined = OptionsOf(TestName::kLatency);
  inlined.operation = v1::OPERATION_READ;
  inlined.inline_bytes = 8;
  EXPECT_EQ(ErrorOf(inlined),
            "--inline: --op read sends no data that could go inline");

  TestOptions no_rkey = OptionsOf(TestName::kLatency);
  no_rkey.provoke = v1::PROVOKE_WRONG_RKEY;
  EXPECT_EQ(ErrorOf(no_rkey),
            "--provoke wrong-rkey: --op send uses no R_Key; use write, "
            "write-imm, read, cas or fetch-add");

  TestOptions no_receives = OptionsOf(TestName::kLatency);
  no_receives.operation = v1::OPERATION_WRITE;
  no_receives.provoke = v1::PROVOKE_NO_RECEIVES;
  EXPECT_EQ(ErrorOf(no_receives),
            "--provoke no-receives: --op write needs no receives; use send, "
            "send-imm or write-imm");
}

TestOptions OverMessages(TestName test) {
  TestOptions options = OptionsOf(test);
  options.over = Over::kMessage;
  return options;
}

TEST(ToSpec, OverMessagesNothingOfVerbsIsAskedFor) {
  v1::TestSpec expected;
  expected.set_kind(v1::TEST_KIND_LATENCY);
  expected.add_sizes(64);
  expected.set_iterations(1000);
  expected.set_warmup(100);
  expected.set_qps(1);
  expected.set_depth(1);
  expected.set_cq_mode(v1::CQ_MODE_BUSY);
  v1::SessionOptions& session = *expected.mutable_session();
  session.set_stream_class(v1::STREAM_CLASS_LATENCY);
  session.set_connections(1);
  session.set_slots(64);
  session.set_slot_size(8192);
  session.set_eager_limit(8160);
  ExpectSpec(OverMessages(TestName::kLatency), expected);
}

TEST(ToSpec, BandwidthAndRateOverMessagesAreOfTheBulkClass) {
  const auto bandwidth = ToSpec(OverMessages(TestName::kBandwidth));
  ASSERT_TRUE(bandwidth.ok()) << bandwidth.status();
  EXPECT_EQ(bandwidth->session().stream_class(), v1::STREAM_CLASS_BULK);
  const auto rate = ToSpec(OverMessages(TestName::kRate));
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_EQ(rate->qps(), 8u);
}

TEST(ToSpec, EveryOptionOfMessagesHasItsField) {
  TestOptions options = OverMessages(TestName::kLatency);
  options.streams = 3;
  options.stream_class = v1::STREAM_CLASS_BULK;
  options.session_connections = 2;
  options.slots = 8;
  options.eager_limit = 10'000;
  options.digest = true;
  options.ring = true;
  options.under_load = true;
  options.load_size = 4096;
  options.load_depth = 5;
  options.load_class = v1::STREAM_CLASS_LATENCY;
  const auto spec = ToSpec(options);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->qps(), 3u);
  const v1::SessionOptions& session = spec->session();
  EXPECT_EQ(session.stream_class(), v1::STREAM_CLASS_BULK);
  EXPECT_EQ(session.connections(), 2u);
  EXPECT_EQ(session.slots(), 8u);
  EXPECT_EQ(session.eager_limit(), 10'000u);
  EXPECT_EQ(session.slot_size(), 10'048u);  // 64 * 157
  EXPECT_TRUE(session.digest());
  EXPECT_TRUE(session.ring());
  EXPECT_EQ(session.load().size(), 4096u);
  EXPECT_EQ(session.load().depth(), 5u);
  EXPECT_EQ(session.load().stream_class(), v1::STREAM_CLASS_LATENCY);
}

TEST(ToSpec, RefusesWhatTheCarrierDoesNotHave) {
  TestOptions verbs = OptionsOf(TestName::kLatency);
  verbs.of_messages = {"--streams"};
  EXPECT_EQ(ErrorOf(verbs), "--streams: only with --over message");

  TestOptions messages = OverMessages(TestName::kLatency);
  messages.of_verbs = {"--mtu"};
  EXPECT_EQ(ErrorOf(messages),
            "--mtu: not with --over message: the session sees to that itself");

  TestOptions idle = OverMessages(TestName::kLatency);
  idle.of_load = {"--load-size"};
  EXPECT_EQ(ErrorOf(idle), "--load-size: only with --under-load");
}

TEST(NameFlag, TellsTheFlagInsteadOfTheField) {
  EXPECT_EQ(NameFlag(absl::InvalidArgumentError("sizes: 65 sizes")),
            absl::InvalidArgumentError("--size: 65 sizes"));
  EXPECT_EQ(NameFlag(absl::ResourceExhaustedError("duration_ns: too much")),
            absl::ResourceExhaustedError("--duration: too much"));
  EXPECT_EQ(NameFlag(absl::UnavailableError("the server: sizes: x")),
            absl::UnavailableError("the server: sizes: x"));
  EXPECT_EQ(NameFlag(absl::OkStatus()), absl::OkStatus());
}

TEST(Names, ReadBackAndListWhatIsAllowed) {
  EXPECT_EQ(*ParseOperation(OperationName(v1::OPERATION_COMPARE_SWAP)),
            v1::OPERATION_COMPARE_SWAP);
  EXPECT_EQ(ParseOperation("sned").status().message(),
            "'sned' is not one of send, send-imm, write, write-imm, read, cas, "
            "fetch-add");
  EXPECT_EQ(ParseCqMode("fast").status().message(),
            "'fast' is not one of busy, event, adaptive");
  EXPECT_EQ(ParseProvoke("x").status().message(),
            "'x' is not one of nothing, wrong-rkey, no-receives");
}

}  // namespace
}  // namespace nd::ndping
