#include "ndping/cli/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "ndping/cli/commands.h"
#include "ndping/cli/exit_status.h"

namespace nd::ndping {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using Words = std::vector<std::string>;

std::string ErrorOf(const Words& words) {
  const auto command = ParseCommandLine(words);
  EXPECT_EQ(command.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(command.status().message());
}

// The first line of the error, the cause.
std::string CauseOf(const Words& words) {
  const std::string error = ErrorOf(words);
  return error.substr(0, error.find('\n'));
}

template <typename T>
T Parsed(const Words& words) {
  const auto command = ParseCommandLine(words);
  if (!command.ok()) {
    ADD_FAILURE() << command.status();
    return T();
  }
  return std::get<T>(*command);
}

TEST(ParseCommandLine, ReadsATest) {
  const auto lat = Parsed<TestOptions>(
      {"lat", "10.98.0.2", "--op", "write", "--size", "8..32", "--cq=event",
       "--duration", "10s", "--inline", "auto", "--verify", "--interval", "1ms",
       "--port", "9000", "--from", "10.98.0.1", "--json"});
  EXPECT_EQ(lat.test, TestName::kLatency);
  EXPECT_EQ(lat.server.host, "10.98.0.2");
  EXPECT_EQ(lat.server.port, 9000);
  EXPECT_EQ(lat.server.from, "10.98.0.1");
  EXPECT_EQ(lat.operation, v1::OPERATION_WRITE);
  EXPECT_THAT(lat.sizes, ElementsAre(8, 16, 32));
  EXPECT_EQ(lat.cq_mode, v1::CQ_MODE_EVENT);
  EXPECT_EQ(lat.duration, std::chrono::seconds(10));
  EXPECT_EQ(lat.inline_bytes, std::nullopt);
  EXPECT_EQ(lat.interval, std::chrono::milliseconds(1));
  EXPECT_TRUE(lat.verify);
  EXPECT_EQ(lat.output.format, Format::kJson);
}

TEST(ParseCommandLine, ReadsATestOverMessages) {
  const auto lat = Parsed<TestOptions>({"lat",
                                        "host",
                                        "--over",
                                        "message",
                                        "--stream-class",
                                        "bulk",
                                        "--streams",
                                        "2",
                                        "--connections",
                                        "3",
                                        "--slots",
                                        "8",
                                        "--eager-limit",
                                        "100",
                                        "--digest",
                                        "--ring",
                                        "--under-load",
                                        "--load-size",
                                        "64K",
                                        "--load-depth",
                                        "4",
                                        "--load-class",
                                        "latency"});
  EXPECT_EQ(lat.over, Over::kMessage);
  EXPECT_EQ(lat.stream_class, v1::STREAM_CLASS_BULK);
  EXPECT_EQ(lat.streams, 2u);
  EXPECT_EQ(lat.session_connections, 3u);
  EXPECT_EQ(lat.slots, 8u);
  EXPECT_EQ(lat.eager_limit, 100u);
  EXPECT_TRUE(lat.digest);
  EXPECT_TRUE(lat.ring);
  EXPECT_TRUE(lat.under_load);
  EXPECT_EQ(lat.load_size, 64u << 10);
  EXPECT_EQ(lat.load_depth, 4u);
  EXPECT_EQ(lat.load_class, v1::STREAM_CLASS_LATENCY);
}

TEST(ParseCommandLine, RefusesWhatTheCarrierDoesNotHave) {
  EXPECT_EQ(CauseOf({"lat", "host", "--over", "message", "--op", "write"}),
            "--op: not with --over message: messages are sent and received, "
            "there is no other operation");
  EXPECT_EQ(CauseOf({"bw", "host", "--over", "message", "--qps", "2"}),
            "--qps: not with --over message: a session has --streams, and "
            "--connections that carry them");
  EXPECT_EQ(CauseOf({"rate", "host", "--streams", "2"}),
            "--streams: only with --over message");
  EXPECT_EQ(CauseOf({"lat", "host", "--digest"}),
            "--digest: only with --over message");
  EXPECT_EQ(CauseOf({"ping", "host", "--stream-class", "bulk"}),
            "--stream-class: only with --over message");
  EXPECT_THAT(
      CauseOf({"ping", "host", "--over", "message", "--protocol", "rping"}),
      StartsWith("--over message: rping's protocol has no messages"));
  EXPECT_EQ(CauseOf({"lat", "host", "--over", "wires"}),
            "--over: 'wires' is not one of verbs, message");
}

TEST(ParseCommandLine, ReadsABandwidthTest) {
  const auto bw = Parsed<TestOptions>({"bw",
                                       "host",
                                       "--bidirectional",
                                       "--rate-limit",
                                       "1.5G",
                                       "--depth",
                                       "16",
                                       "--signal-every",
                                       "4",
                                       "--qps",
                                       "2",
                                       "--mtu",
                                       "1024",
                                       "--sl",
                                       "1",
                                       "--tos",
                                       "32",
                                       "--retry",
                                       "1",
                                       "--rnr-retry",
                                       "0",
                                       "--ack-timeout",
                                       "14",
                                       "--iterations",
                                       "7",
                                       "--warmup",
                                       "0",
                                       "--csv"});
  EXPECT_EQ(bw.test, TestName::kBandwidth);
  EXPECT_TRUE(bw.bidirectional);
  EXPECT_EQ(bw.rate_limit, 1'500'000'000u);
  EXPECT_EQ(bw.depth, 16u);
  EXPECT_EQ(bw.signal_every, 4u);
  EXPECT_EQ(bw.qps, 2u);
  EXPECT_EQ(bw.mtu, 1024u);
  EXPECT_EQ(bw.service_level, 1u);
  EXPECT_EQ(bw.type_of_service, 32u);
  EXPECT_EQ(bw.retry_count, 1u);
  EXPECT_EQ(bw.rnr_retry_count, 0u);
  EXPECT_EQ(bw.ack_timeout, 14u);
  EXPECT_EQ(bw.iterations, 7u);
  EXPECT_EQ(bw.warmup, 0u);
  EXPECT_EQ(bw.output.format, Format::kCsv);
}

TEST(ParseCommandLine, KeepsEveryThreshold) {
  const auto lat = Parsed<TestOptions>(
      {"lat", "host", "--fail-if", "p99>50us", "--fail-if", "max>1ms"});
  ASSERT_EQ(lat.output.thresholds.size(), 2u);
  EXPECT_EQ(lat.output.thresholds[0].text(), "p99>50us");
  EXPECT_EQ(lat.output.thresholds[1].text(), "max>1ms");
}

TEST(ParseCommandLine, TheLastOfTwoValuesCounts) {
  EXPECT_EQ(Parsed<TestOptions>({"bw", "h", "--qps", "2", "--qps", "4"}).qps,
            4u);
}

TEST(ParseCommandLine, ReadsTheServersLimits) {
  const auto server = Parsed<ServerCommand>(
      {"server", "--address", "::", "--max-size", "1M", "--max-duration", "10s",
       "--max-tests", "2", "--rdma-port", "9999"});
  EXPECT_EQ(server.address, "::");
  EXPECT_EQ(server.port, std::nullopt);
  EXPECT_EQ(server.rdma_port, 9999);
  EXPECT_EQ(server.limits.max_size(), 1u << 20);
  EXPECT_EQ(server.limits.max_duration_ns(), 10'000'000'000u);
  EXPECT_EQ(server.limits.max_tests(), 2u);
  EXPECT_EQ(server.limits.max_qps(), HarnessServer::DefaultLimits().max_qps());
}

TEST(ParseCommandLine, ReadsPing) {
  const auto ping =
      Parsed<PingCommand>({"ping", "host", "--protocol", "rping", "--count",
                           "3", "--size", "64M", "--interval", "10ms"});
  EXPECT_EQ(ping.protocol, Protocol::kRping);
  EXPECT_EQ(ping.count, 3u);
  EXPECT_EQ(ping.size, 64u << 20);
  EXPECT_EQ(ping.interval, std::chrono::milliseconds(10));
  EXPECT_EQ(ping.port, std::nullopt);
}

TEST(ParseCommandLine, PutsTheWordsToExplainTogether) {
  EXPECT_EQ(Parsed<ExplainCommand>({"explain", "reject", "8"}).text,
            "reject 8");
  EXPECT_EQ(Parsed<ExplainCommand>({"explain"}).text, "");
}

TEST(ParseCommandLine, NamesAnUnknownOptionAndListsTheOthers) {
  EXPECT_THAT(ErrorOf({"lat", "host", "--sise", "8"}),
              StartsWith("lat has no option --sise; did you mean --size?\n"
                         "lat has --help --port --from --op --size "));
  EXPECT_EQ(CauseOf({"lat", "host", "--depth=4"}),
            "lat has no option --depth; it is one of bw, rate");
  EXPECT_EQ(CauseOf({"bw", "host", "--interval", "1s"}),
            "bw has no option --interval; it is one of ping, lat");
  EXPECT_EQ(CauseOf({"bw", "host", "-x"}), "bw has no option -x");
}

TEST(ParseCommandLine, NamesAnUnknownCommand) {
  EXPECT_THAT(ErrorOf({"latt", "host"}),
              StartsWith("command latt does not exist; did you mean lat?\n"
                         "commands: server ping lat bw rate "));
  EXPECT_EQ(CauseOf({"--frob"}), "option --frob does not exist");
  EXPECT_THAT(ErrorOf({}), StartsWith("expected a command: server ping"));
}

TEST(ParseCommandLine, NamesAWrongValueAndWhatIsAllowed) {
  EXPECT_EQ(CauseOf({"lat", "host", "--op", "sned"}),
            "--op: 'sned' is not one of send, send-imm, write, write-imm, "
            "read, cas, fetch-add");
  EXPECT_EQ(CauseOf({"lat", "host", "--size", "8Q"}),
            "--size: '8Q' is not a size; expected bytes, with K, M or G for "
            "powers of 1024: 64, 8K, 4M, 1G");
  EXPECT_EQ(CauseOf({"lat", "host", "--mtu", "1500"}),
            "--mtu: '1500' is not a path MTU: 256, 512, 1024, 2048 or 4096");
  EXPECT_EQ(CauseOf({"lat", "host", "--retry", "8"}),
            "--retry: '8' is not a whole number from 0 to 7");
  EXPECT_EQ(CauseOf({"lat", "host", "--retry", "-1"}),
            "--retry: '-1' is not a whole number from 0 to 7");
  EXPECT_EQ(CauseOf({"lat", "host", "--inline", "some"}),
            "--inline: 'some' is not a whole number from 0 to 4096, nor auto");
  EXPECT_EQ(CauseOf({"lat", "host", "--duration", "0"}),
            "--duration: '0' is no time at all; expected more than 0");
  EXPECT_EQ(CauseOf({"lat", "host", "--fail-if", "p99"}),
            "--fail-if: 'p99' has no comparison; expected a figure, one of < "
            "<= > >= and a value: 'p99>50us'");
  EXPECT_EQ(CauseOf({"server", "--port", "0"}),
            "--port: '0' is not a whole number from 1 to 65535");
  EXPECT_EQ(CauseOf({"ping", "host", "--protocol", "icmp"}),
            "--protocol: 'icmp' is not one of nd, rping");
}

TEST(ParseCommandLine, NamesWhatIsMissing) {
  EXPECT_EQ(CauseOf({"lat"}), "lat: ADDR is required");
  EXPECT_EQ(CauseOf({"lat", "host", "--size"}), "--size needs a value: SIZE");
  EXPECT_EQ(CauseOf({"lat", "host", "more"}),
            "lat takes no further argument 'more'");
  EXPECT_EQ(CauseOf({"lat", "host", "--json", "--csv"}),
            "--json: not together with --csv");
}

TEST(ParseCommandLine, RefusesThresholdsThatTheTestDoesNotMeasure) {
  EXPECT_EQ(CauseOf({"bw", "host", "--fail-if", "p99>50us"}),
            "--fail-if: 'p99>50us': this test does not measure that; it has "
            "bandwidth, rate");
  EXPECT_EQ(CauseOf({"lat", "host", "--fail-if", "verified<100%"}),
            "--fail-if: 'verified<100%' needs --verify: nothing is verified "
            "without it");
}

TEST(ParseCommandLine, ChecksOptionsTogether) {
  EXPECT_EQ(CauseOf({"lat", "h", "--iterations", "5", "--duration", "1s"}),
            "--iterations and --duration: give one of the two");
  EXPECT_EQ(CauseOf({"ping", "h", "--size", "65M"}),
            "--size: a ping has 1 byte to 64M, not 65M");
}

TEST(RunNdping, SaysUsageErrorsOnStderrWithStatusTwo) {
  std::ostringstream out, err;
  EXPECT_EQ(RunNdping({"lat", "h", "--op", "x"}, {.out = out, .err = err}),
            kExitUsage);
  EXPECT_EQ(out.str(), "");
  EXPECT_EQ(err.str(),
            "ndping: --op: 'x' is not one of send, send-imm, write, write-imm, "
            "read, cas, fetch-add\n"
            "ndping: 'ndping lat --help' says what it takes\n");
}

TEST(RunNdping, HelpAndVersionSucceedOnStdout) {
  for (const Words& words :
       {Words{"--help"}, Words{"lat", "--help"}, Words{"version"},
        Words{"--version"}, Words{"explain", "IBV_WC_RETRY_EXC_ERR"}}) {
    std::ostringstream out, err;
    EXPECT_EQ(RunNdping(words, {.out = out, .err = err}), kExitOk);
    EXPECT_NE(out.str(), "");
    EXPECT_EQ(err.str(), "");
  }
}

TEST(RunNdping, HelpFitsInto80Columns) {
  for (const char* command :
       {"server", "ping", "lat", "bw", "rate", "connect", "register", "krping",
        "devices", "doctor", "explain", "info"}) {
    std::ostringstream out, err;
    EXPECT_EQ(RunNdping({command, "--help"}, {.out = out, .err = err}),
              kExitOk);
    std::istringstream lines(out.str());
    for (std::string line; std::getline(lines, line);) {
      EXPECT_LE(line.size(), 80u) << command << ": " << line;
    }
  }
}

TEST(RunNdping, AnUnknownNameToExplainIsAUsageError) {
  std::ostringstream out, err;
  EXPECT_EQ(RunNdping({"explain", "IBV_WC_NO_SUCH"}, {.out = out, .err = err}),
            kExitUsage);
  EXPECT_THAT(err.str(), HasSubstr("IBV_WC_NO_SUCH"));
}

}  // namespace
}  // namespace nd::ndping
