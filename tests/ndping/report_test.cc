#include "ndping/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "ndping/report/ping_report.h"

namespace nd::ndping {
namespace {

using ::testing::EndsWith;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

v1::TestSpec LatencySpec() {
  v1::TestSpec spec;
  spec.set_kind(v1::TEST_KIND_LATENCY);
  spec.set_operation(v1::OPERATION_SEND);
  spec.add_sizes(64);
  spec.set_iterations(1000);
  spec.set_qps(1);
  spec.set_depth(1);
  spec.set_cq_mode(v1::CQ_MODE_BUSY);
  return spec;
}

// 1000 messages of 64 bytes: 990 took 12.345 us, 9 took 100 us, 1 took 2 ms.
PhaseResult LatencyPhase() {
  PhaseResult phase;
  phase.size = 64;
  phase.latencies.RecordMany(12'345, 990);
  phase.latencies.RecordMany(100'000, 9);
  phase.latencies.RecordMany(2'000'000, 1);
  phase.client.set_messages(1000);
  phase.client.set_bytes(64'000);
  phase.client.set_elapsed_ns(30'000'000);
  phase.client.set_cpu_ns(29'700'000);
  phase.client.set_received(1000);
  phase.server.set_elapsed_ns(30'000'000);
  phase.server.set_cpu_ns(15'000'000);
  phase.server.set_received(1000);
  return phase;
}

TestResult LatencyResult() {
  TestResult result;
  result.spec = LatencySpec();
  result.server = "10.98.0.2:7470";
  result.server_version = "0.1.0";
  result.phases = {LatencyPhase()};
  return result;
}

TestResult BandwidthResult() {
  TestResult result;
  result.spec = LatencySpec();
  result.spec.set_kind(v1::TEST_KIND_BANDWIDTH);
  result.spec.set_operation(v1::OPERATION_WRITE);
  result.spec.set_qps(2);
  result.spec.set_depth(128);
  result.server = "10.98.0.2:7470";
  for (const uint64_t size : {8, 1 << 20}) {
    PhaseResult phase;
    phase.size = size;
    phase.client.set_messages(5000);
    phase.client.set_bytes(5000 * size);
    phase.client.set_elapsed_ns(2'000'000'000);
    phase.client.set_cpu_ns(2'000'000'000);
    phase.server.set_elapsed_ns(2'000'000'000);
    phase.server.set_cpu_ns(13'000'000);
    result.phases.push_back(phase);
  }
  return result;
}

void Verify(TestResult& result, uint64_t mismatched) {
  result.spec.set_verify(true);
  for (PhaseResult& phase : result.phases) {
    const bool answers = result.spec.kind() == v1::TEST_KIND_LATENCY;
    phase.client.set_verified(answers ? phase.client.messages() : 0);
    phase.server.set_verified(phase.client.messages());
    phase.server.set_mismatched(mismatched);
    if (mismatched > 0) {
      phase.server.set_first_mismatch(
          "qp 0, message 17, byte 5: 0x12, not 0x55");
    }
  }
}

TEST(TextReport, Latency) {
  EXPECT_EQ(
      TextReport(TestName::kLatency, LatencyResult()),
      "send latency (half the round trip) to 10.98.0.2:7470: 1 QP, cq busy\n"
      " size  messages      min     mean      p50      p90      p99    p99.9"
      "   p99.99      max\n"
      "   64      1000  12.3 us  15.1 us  12.4 us  12.4 us  12.4 us   100 us"
      "  2.00 ms  2.00 ms\n");
}

TEST(TextReport, LatencyVerified) {
  TestResult result = LatencyResult();
  Verify(result, 0);
  EXPECT_EQ(
      TextReport(TestName::kLatency, result),
      "send latency (half the round trip) to 10.98.0.2:7470: 1 QP, cq busy\n"
      " size  messages      min     mean      p50      p90      p99    p99.9"
      "   p99.99      max  verified\n"
      "   64      1000  12.3 us  15.1 us  12.4 us  12.4 us  12.4 us   100 us"
      "  2.00 ms  2.00 ms     100 %\n");
}

TEST(TextReport, Bandwidth) {
  EXPECT_EQ(TextReport(TestName::kBandwidth, BandwidthResult()),
            "write bandwidth to 10.98.0.2:7470: 2 QPs, depth 128, cq busy\n"
            " size   messages      GB/s  messages/s  client CPU  server CPU\n"
            "    8       5000  0.000020      2.50 K       100 %       0.7 %\n"
            "   1M       5000      2.62      2.50 K       100 %       0.7 %\n");
}

TEST(TextReport, RateAddsBothDirections) {
  TestResult result = BandwidthResult();
  result.spec.set_bidirectional(true);
  result.phases.pop_back();
  result.phases[0].server.set_messages(3'000'000);
  result.phases[0].server.set_bytes(24'000'000);
  EXPECT_EQ(TextReport(TestName::kRate, result),
            "write message rate to 10.98.0.2:7470: 2 QPs, depth 128, cq busy, "
            "both directions added\n"
            " size   messages  messages/s      GB/s  client CPU  server CPU\n"
            "    8    3005000      1.50 M    0.0120       100 %       0.7 %\n");
}

TEST(TextReport, SaysWrongDataPlainly) {
  TestResult result = BandwidthResult();
  result.phases.erase(result.phases.begin());
  Verify(result, 3);
  EXPECT_EQ(
      TextReport(TestName::kBandwidth, result),
      "write bandwidth to 10.98.0.2:7470: 2 QPs, depth 128, cq busy\n"
      " size   messages      GB/s  messages/s  client CPU  server CPU  "
      "verified\n"
      "   1M       5000      2.62      2.50 K       100 %       0.7 %   "
      "99.94 %\n"
      "size 1M: the server got wrong data in 3 of 5000 messages; the first: "
      "qp 0, message 17, byte 5: 0x12, not 0x55\n");
  EXPECT_FALSE(DataIsRight(result));
}

TEST(TextReport, SaysInterruptionPlainly) {
  TestResult result = LatencyResult();
  result.phases[0].interrupted = true;
  EXPECT_EQ(TextNotes(result),
            "size 64: interrupted; the figures are of the 1000 messages until "
            "then\n");
  result.phases[0] = PhaseResult();
  result.phases[0].size = 64;
  result.phases[0].interrupted = true;
  EXPECT_EQ(
      TextReport(TestName::kLatency, result),
      "send latency (half the round trip) to 10.98.0.2:7470: 1 QP, cq busy\n"
      " size  messages      min     mean      p50      p90      p99    p99.9"
      "   p99.99      max\n"
      "   64         0        -        -        -        -        -        -"
      "        -        -\n"
      "size 64: interrupted; the figures are of the 0 messages until then\n");
}

TEST(TextReport, Connect) {
  ConnectResult result;
  result.spec.set_connections(300);
  result.server = "10.98.0.2:7470";
  result.connections = 200;
  result.elapsed_ns = 1'600'000'000;
  result.latencies.RecordMany(8'000'000, 200);
  result.interrupted = true;
  EXPECT_EQ(TextReport(result),
            "connections to 10.98.0.2:7470: one after another\n"
            "connections     time  per second      min     mean      p50      "
            "p90      p99      max\n"
            "        200   1.60 s         125  8.00 ms  8.00 ms  8.00 ms  8.00 "
            "ms  8.00 ms  8.00 ms\n"
            "interrupted after 200 of 300 connections\n");
}

TEST(TextReport, SaysWhenWhatIsWrongIsNoMessage) {
  TestResult result = BandwidthResult();
  result.phases.pop_back();
  result.spec.set_operation(v1::OPERATION_FETCH_ADD);
  result.spec.set_verify(true);
  result.phases[0].client.set_verified(5000);
  result.phases[0].server.set_mismatched(1);
  result.phases[0].server.set_first_mismatch("qp 0, after 5000: 1, not 2");
  EXPECT_EQ(TextNotes(result),
            "size 8: the server got wrong data; the first: qp 0, after 5000: "
            "1, not 2\n");
  EXPECT_FALSE(DataIsRight(result));
}

TEST(DataIsRight, UncheckedDataIsNotRight) {
  TestResult result = LatencyResult();
  EXPECT_TRUE(DataIsRight(result));  // nobody asked
  result.spec.set_verify(true);
  EXPECT_FALSE(DataIsRight(result));
  EXPECT_EQ(TextNotes(result),
            "size 64: only 0 of 2000 messages could be verified\n");
  Verify(result, 0);
  EXPECT_TRUE(DataIsRight(result));
}

TEST(MeasuredOf, HasTheFiguresOfTheTest) {
  TestResult latency = LatencyResult();
  const auto phases = MeasuredOf(TestName::kLatency, latency);
  ASSERT_THAT(phases, SizeIs(1));
  EXPECT_EQ(phases[0].phase, "size 64");
  EXPECT_EQ(phases[0].latencies->count(), 1000u);
  EXPECT_EQ(phases[0].bandwidth, std::nullopt);

  const TestResult bandwidth = BandwidthResult();
  const auto sizes = MeasuredOf(TestName::kBandwidth, bandwidth);
  ASSERT_THAT(sizes, SizeIs(2));
  EXPECT_EQ(sizes[1].bandwidth, 5000.0 * (1 << 20) / 2);
  EXPECT_EQ(sizes[1].rate, 2500.0);

  latency.phases[0] = PhaseResult();
  EXPECT_THAT(MeasuredOf(TestName::kLatency, latency), IsEmpty());
}

TEST(Csv, Latency) {
  EXPECT_EQ(
      CsvHeader(),
      "test,op,size,qps,depth,cq,bidirectional,messages,elapsed_ns,"
      "bytes_per_second,messages_per_second,min_ns,mean_ns,stddev_ns,p50_ns,"
      "p90_ns,p99_ns,p99_9_ns,p99_99_ns,p99_999_ns,max_ns,client_cpu_percent,"
      "server_cpu_percent,verified,mismatched,interrupted,stream_class,"
      "load_bytes_per_second\n");
  EXPECT_EQ(CsvRow(TestName::kLatency, LatencySpec(), LatencyPhase()),
            "lat,send,64,1,1,busy,0,1000,30000000,2133333,33333.3,12345,"
            "15124.4,63353.9,12351,12351,12351,100031,2000000,2000000,2000000,"
            "99.0,50.0,0,0,0,,\n");
}

TEST(Csv, BandwidthLeavesLatenciesEmpty) {
  const TestResult result = BandwidthResult();
  EXPECT_EQ(CsvRow(TestName::kBandwidth, result.spec, result.phases[0]),
            "bw,write,8,2,128,busy,0,5000,2000000000,20000,2500.0,,,,,,,,,,,"
            "100.0,0.7,0,0,0,,\n");
}

// A latency test over a session, with a load of 500 MB in a second.
TestResult LoadResult() {
  TestResult result = LatencyResult();
  result.spec.clear_operation();
  v1::SessionOptions& session = *result.spec.mutable_session();
  session.set_stream_class(v1::STREAM_CLASS_LATENCY);
  session.set_connections(1);
  session.set_slots(64);
  session.set_slot_size(8192);
  session.set_eager_limit(8160);
  session.mutable_load()->set_size(1 << 20);
  session.mutable_load()->set_depth(16);
  session.mutable_load()->set_stream_class(v1::STREAM_CLASS_BULK);
  v1::LoadReport& load = *result.phases[0].client.mutable_load();
  load.set_messages(500);
  load.set_bytes(500'000'000);
  load.set_elapsed_ns(1'000'000'000);
  return result;
}

TEST(TextReport, MessagesUnderLoad) {
  EXPECT_EQ(
      TextReport(TestName::kLatency, LoadResult()),
      "message latency (half the round trip) to 10.98.0.2:7470: 1 latency "
      "stream, cq busy, under a load of bulk messages of 1M, depth 16\n"
      " size  messages      min     mean      p50      p90      p99    p99.9   "
      "p99.99      max  load GB/s\n"
      "   64      1000  12.3 us  15.1 us  12.4 us  12.4 us  12.4 us   100 us  "
      "2.00 ms  2.00 ms      0.500\n");
}

TEST(TextReport, TheRateOfMessagesIsNoMessageMessageRate) {
  TestResult result = LoadResult();
  result.spec.mutable_session()->clear_load();
  EXPECT_THAT(TextHeading(TestName::kRate, result.spec, result.server),
              StartsWith("message rate to 10.98.0.2:7470: 1 latency stream, "));
}

TEST(Csv, MessagesUnderLoad) {
  const TestResult result = LoadResult();
  const std::string row =
      CsvRow(TestName::kLatency, result.spec, result.phases[0]);
  EXPECT_THAT(row, StartsWith("lat,message,64,1,1,busy,0,1000,"));
  EXPECT_THAT(row, EndsWith(",0,0,0,latency,500000000\n"));
}

TEST(Json, MessagesUnderLoad) {
  const Json json = ToJson(TestName::kLatency, LoadResult(),
                           {.status{}, .hits{}, .passed = true});
  EXPECT_EQ(json["options"]["over"], "message");
  EXPECT_FALSE(json["options"].contains("op"));
  EXPECT_EQ(json["options"]["streams"], 1);
  EXPECT_EQ(json["options"]["stream_class"], "latency");
  EXPECT_EQ(json["options"]["eager_limit"], 8160);
  EXPECT_EQ(json["options"]["load"]["stream_class"], "bulk");
  EXPECT_EQ(json["phases"][0]["load"]["bytes_per_second"], 5e8);
  EXPECT_EQ(json["phases"][0]["load"]["messages"], 500);
}

TEST(MeasuredOf, TheBandwidthOfALatencyTestIsItsLoads) {
  const TestResult result = LoadResult();
  const auto measured = MeasuredOf(TestName::kLatency, result);
  ASSERT_EQ(measured.size(), 1u);
  EXPECT_EQ(measured[0].bandwidth, 5e8);
  EXPECT_EQ(measured[0].latencies->count(), 1000u);
}

TEST(Json, LatencyReadsBack) {
  TestResult result = LatencyResult();
  Verify(result, 0);
  const Json json = Json::parse(
      ToJson(TestName::kLatency, result, {.status{}, .hits{}, .passed = true})
          .dump());
  EXPECT_EQ(json["schema"], "nd.ndping/1");
  EXPECT_EQ(json["test"], "lat");
  EXPECT_EQ(json["server"]["address"], "10.98.0.2:7470");
  EXPECT_EQ(json["server"]["version"], "0.1.0");
  EXPECT_EQ(json["options"]["over"], "verbs");
  EXPECT_EQ(json["options"]["op"], "send");
  EXPECT_EQ(json["options"]["sizes"], Json::array({64}));
  EXPECT_EQ(json["interrupted"], false);
  EXPECT_EQ(json["error"], nullptr);
  EXPECT_EQ(json["passed"], true);
  ASSERT_EQ(json["phases"].size(), 1u);
  const Json& phase = json["phases"][0];
  EXPECT_EQ(phase["size"], 64);
  EXPECT_EQ(phase["messages"], 1000);
  EXPECT_EQ(phase["verified_percent"], 100.0);
  EXPECT_EQ(phase["client"]["cpu_percent"], 99.0);
  EXPECT_EQ(phase["server"]["received"], 1000);
  EXPECT_EQ(phase["latency"]["count"], 1000);
  EXPECT_EQ(phase["latency"]["min_ns"], 12345);
  EXPECT_EQ(phase["latency"]["p99_99_ns"], 2000000);
  EXPECT_EQ(phase["latency"]["max_ns"], 2000000);
  EXPECT_EQ(phase["latency"]["buckets"], Json::array({{12344, 12351, 990},
                                                      {99968, 100031, 9},
                                                      {1999872, 2000895, 1}}));
  EXPECT_FALSE(phase.contains("bytes_per_second"));
}

TEST(Json, BandwidthHasRatesAndHitsAndTheError) {
  const Json json =
      ToJson(TestName::kBandwidth, BandwidthResult(),
             {.status = absl::UnavailableError("the server is shutting down"),
              .hits = {{"bandwidth<1GB/s", "size 8", "0.000020 GB/s"}},
              .passed = false});
  EXPECT_EQ(json["phases"][0]["bytes_per_second"], 20000.0);
  EXPECT_EQ(json["phases"][0]["messages_per_second"], 2500.0);
  EXPECT_FALSE(json["phases"][0].contains("latency"));
  EXPECT_EQ(json["threshold_hits"][0]["condition"], "bandwidth<1GB/s");
  EXPECT_EQ(json["threshold_hits"][0]["value"], "0.000020 GB/s");
  EXPECT_EQ(json["error"]["code"], "UNAVAILABLE");
  EXPECT_EQ(json["error"]["message"], "the server is shutting down");
  EXPECT_EQ(json["passed"], false);
}

TEST(Json, IsLaidOutForReaders) {
  EXPECT_EQ(Dump({{"a", 1},
                  {"b", {{"c", Json::array({{1, 2}, {3, 4}})}}},
                  {"d", Json::array({{{"e", "x\"y"}}})},
                  {"f", Json::array()},
                  {"g", Json::object()}}),
            "{\n"
            "  \"a\": 1,\n"
            "  \"b\": {\n"
            "    \"c\": [[1,2],[3,4]]\n"
            "  },\n"
            "  \"d\": [\n"
            "    {\n"
            "      \"e\": \"x\\\"y\"\n"
            "    }\n"
            "  ],\n"
            "  \"f\": [],\n"
            "  \"g\": {}\n"
            "}\n");
}

TEST(Json, BytesThatAreNoTextDoNotBreakIt) {
  TestResult result = LatencyResult();
  result.server_version = "\xff\x01";
  EXPECT_TRUE(Json::accept(Dump(ToJson(TestName::kLatency, result, {}))));
}

PingSummary Pings() {
  PingSummary summary;
  summary.protocol = "rping";
  summary.host = "10.98.0.2";
  summary.size = 64;
  summary.transmitted = 4;
  summary.received = 3;
  summary.elapsed_ns = 3'000'000'000;
  summary.round_trips.RecordMany(12'300, 2);
  summary.round_trips.Record(24'600);
  return summary;
}

TEST(PingReport, LineIsLikePings) {
  EXPECT_EQ(PingLine("10.98.0.2", 64, 1, 12'345),
            "64 bytes from 10.98.0.2: seq=1 time=12.3 us\n");
}

TEST(PingReport, SummaryIsLikePings) {
  EXPECT_EQ(TextReport(Pings()),
            "\n--- 10.98.0.2 ndping statistics ---\n"
            "4 transmitted, 3 received, 25.0 % loss, time 3.00 s\n"
            "rtt min/avg/max/mdev = 12.3 us / 16.4 us / 24.6 us / 5.80 us\n"
            "rtt p50/p90/p99/p99.9 = 12.3 us / 24.6 us / 24.6 us / 24.6 us\n");
}

TEST(PingReport, SummarySaysWrongData) {
  PingSummary summary = Pings();
  summary.validated = true;
  summary.mismatched = 1;
  summary.round_trips.Reset();
  EXPECT_EQ(TextReport(summary),
            "\n--- 10.98.0.2 ndping statistics ---\n"
            "4 transmitted, 3 received, 25.0 % loss, time 3.00 s\n"
            "1 of 3 came back with wrong data\n");
}

TEST(PingReport, CsvAndJson) {
  EXPECT_EQ(CsvReport(Pings()),
            "test,protocol,size,transmitted,received,elapsed_ns,min_ns,mean_ns,"
            "stddev_ns,p50_ns,p90_ns,p99_ns,p99_9_ns,p99_99_ns,p99_999_ns,"
            "max_ns,mismatched,interrupted\n"
            "ping,rping,64,4,3,3000000000,12300,16399.5,5798.3,12303,24600,"
            "24600,24600,24600,24600,24600,0,0\n");
  const Json json = ToJson(Pings(), {.status{}, .hits{}, .passed = false});
  EXPECT_EQ(json["test"], "ping");
  EXPECT_EQ(json["transmitted"], 4);
  EXPECT_EQ(json["loss_percent"], 25.0);
  EXPECT_EQ(json["latency"]["count"], 3);
  EXPECT_EQ(json["options"]["protocol"], "rping");
  EXPECT_EQ(json["options"]["over"], "verbs");
}

}  // namespace
}  // namespace nd::ndping
