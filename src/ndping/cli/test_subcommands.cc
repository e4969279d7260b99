// lat, bw, rate and connect.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "ndping/cli/flags.h"
#include "ndping/cli/subcommands.h"
#include "ndping/text/units.h"

namespace nd::ndping {
namespace {

struct Page {
  absl::string_view summary;
  absl::string_view text;
  absl::string_view examples;
};

Page PageOf(TestName test) {
  switch (test) {
    case TestName::kLatency:
      return {"how long a message takes",
              "Sends one message at a time and waits for the answer. As in "
              "perftest, the latency of send and write is half the round trip "
              "(the server sends back what it got), that of read, cas and "
              "fetch-add the whole of it. Each size is a phase and a row.",
              "  ndping lat 10.98.0.2\n"
              "  ndping lat 10.98.0.2 --op write --size 8..1M --verify\n"
              "  ndping lat 10.98.0.2 --cq event --duration 10s "
              "--fail-if 'p99>50us'\n"
              "  ndping lat 10.98.0.2 --over message --under-load\n"};
    case TestName::kBandwidth:
      return {"how many bytes a second go through",
              "Keeps --depth requests on their way on each QP until all "
              "messages are through. GB/s are 10^9 bytes a second. Each size "
              "is a phase and a row.",
              "  ndping bw 10.98.0.2\n"
              "  ndping bw 10.98.0.2 --op read --size 64K,1M --qps 4\n"
              "  ndping bw 10.98.0.2 --op write --bidirectional "
              "--fail-if 'bandwidth<1GB/s'\n"
              "  ndping bw 10.98.0.2 --over message --size 64..4M --verify\n"};
    case TestName::kRate:
      return {"how many small messages a second go through",
              "A bandwidth test of small messages over several QPs, reported "
              "in messages a second.",
              "  ndping rate 10.98.0.2\n"
              "  ndping rate 10.98.0.2 --op write --size 64 --qps 16 "
              "--fail-if 'rate<1M'\n"};
    case TestName::kConnect:
      break;
  }
  return {"how fast connections are made",
          "Makes connections by rdma_cm, each with a QP, and measures the time "
          "from resolving the address to being established.",
          "  ndping connect 10.98.0.2 --connections 200\n"
          "  ndping connect 10.98.0.2 --connections 1000 --hold\n"};
}

absl::StatusOr<Duration> ParsePositiveTime(absl::string_view text) {
  ND_ASSIGN_OR_RETURN(const Duration time, ParseTime(text));
  if (time > Duration::zero()) return time;
  return absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is no time at all; expected more than 0"));
}

absl::StatusOr<uint64_t> ParseRateLimit(absl::string_view text) {
  ND_ASSIGN_OR_RETURN(const double rate, ParseBandwidth(text));
  if (rate >= 1 && rate < 1e15) return static_cast<uint64_t>(rate);
  return absl::InvalidArgumentError(
      absl::StrCat("'", text,
                   "' is not a limit of at least 1 byte a second; "
                   "leave the option out for none"));
}

absl::StatusOr<uint32_t> ParseMtu(absl::string_view text) {
  for (const uint32_t mtu : {256u, 512u, 1024u, 2048u, 4096u}) {
    if (text == absl::StrCat(mtu)) return mtu;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "'", text, "' is not a path MTU: 256, 512, 1024, 2048 or 4096"));
}

// None for auto.
absl::StatusOr<std::optional<uint32_t>> ParseInline(absl::string_view text) {
  if (text == "auto") return std::nullopt;
  const absl::StatusOr<uint64_t> bytes = ParseNumber(text, 0, 4096);
  if (bytes.ok()) return static_cast<uint32_t>(*bytes);
  return absl::InvalidArgumentError(
      absl::StrCat(bytes.status().message(), ", nor auto"));
}

// Notes in `given` that the option was: it does not mean something to every
// test.
Parse Noting(std::vector<std::string>& given, std::string flag, Parse parse) {
  return [&given, flag = std::move(flag),
          parse = std::move(parse)](absl::string_view text) {
    given.push_back(flag);
    return parse(text);
  };
}

void AddNotedOption(CLI::App& app, std::vector<std::string>& given,
                    const std::string& name, const std::string& value,
                    const std::string& help, Parse parse) {
  AddOption(app, name, value, help, Noting(given, name, std::move(parse)));
}

// A switch of messages.
void AddMessageSwitch(CLI::App& app, TestOptions& options,
                      const std::string& name, const std::string& help,
                      bool& target) {
  app.add_flag_callback(
      name,
      [&options, &target, name] {
        options.of_messages.push_back(name);
        target = true;
      },
      help);
}

void AddSession(CLI::App& app, TestOptions& options) {
  const bool latency = options.test == TestName::kLatency;
  std::vector<std::string>& given = options.of_messages;
  StartGroup(app, "Messages of nd's sessions");
  AddOption(app, "--over", "WHAT",
            "verbs: the operations of --op on queue pairs; message: messages "
            "on streams of a session, as applications of nd send them "
            "(default: verbs)",
            Into(ParseOver, options.over));
  AddNotedOption(
      app, given, "--stream-class", "CLASS",
      absl::StrCat("latency or bulk: each class has its connections, buffers "
                   "and credits (default: ",
                   latency ? "latency" : "bulk", ")"),
      Into(ParseStreamClass, options.stream_class));
  AddNotedOption(app, given, "--streams", "N",
                 absl::StrCat("streams, used in turn; 1 to 16384, if the "
                              "server allows it (default: ",
                              options.test == TestName::kRate ? "8" : "1", ")"),
                 NumberInto(1, 16384, options.streams));
  AddNotedOption(app, given, "--connections", "N",
                 "connections of each class, 1 to 16 (default: 1)",
                 NumberInto(1, 16, options.session_connections));
  AddNotedOption(app, given, "--slots", "N",
                 "receives of each connection, 4 to 4096 (default: 64)",
                 NumberInto(4, 4096, options.slots));
  AddNotedOption(app, given, "--eager-limit", "N",
                 "messages of up to N bytes, 0 to 1048544, travel in the "
                 "receiver's slots; longer ones are written into their place "
                 "(default: 8160)",
                 NumberInto(0, (1 << 20) - kSlotHeader, options.eager_limit));
  AddMessageSwitch(app, options, "--digest", "CRC32C over headers and payloads",
                   options.digest);
  AddMessageSwitch(app, options, "--ring",
                   "what travels in slots is written there by RDMA WRITE, into "
                   "a ring, and not sent",
                   options.ring);
  if (!latency) return;
  AddMessageSwitch(app, options, "--under-load",
                   "measure while another stream of the same session, from "
                   "client to server, carries as much as goes through; its "
                   "bandwidth is reported as well",
                   options.under_load);
  AddNotedOption(
      app, options.of_load, "--load-size", "SIZE",
      "bytes of a message of the load (default: 1M)",
      Noting(given, "--load-size", Into(ParseSize, options.load_size)));
  AddNotedOption(
      app, options.of_load, "--load-depth", "N",
      "messages of the load on their way (default: 16)",
      Noting(given, "--load-depth", NumberInto(1, 16384, options.load_depth)));
  AddNotedOption(app, options.of_load, "--load-class", "CLASS",
                 "the load's stream class; latency shows what the classes are "
                 "good for (default: bulk)",
                 Noting(given, "--load-class",
                        Into(ParseStreamClass, options.load_class)));
}

void AddMessages(CLI::App& app, TestOptions& options) {
  const bool latency = options.test == TestName::kLatency;
  const bool rate = options.test == TestName::kRate;
  StartGroup(app, "Messages");
  AddNotedOption(
      app, options.of_verbs, "--op", "OP",
      "send, send-imm, write, write-imm, read, cas (compare and swap) or "
      "fetch-add (default: send)",
      Into(ParseOperation, options.operation));
  AddOption(app, "--size", "SIZE",
            absl::StrCat("bytes of a message: 64, 8K, 4M (powers of 1024), a "
                         "sweep by powers of two 8..1M, or a list 1,8,64..1K; "
                         "at most 64 sizes (default: ",
                         latency ? "64"
                         : rate  ? "8"
                                 : "64K",
                         "; cas and fetch-add always have 8)"),
            Into(ParseSizes, options.sizes));
  AddOption(app, "--iterations", "N",
            absl::StrCat("measured messages of each size, over all QPs",
                         rate      ? ""
                         : latency ? " (default: 1000)"
                                   : " (default: 5000)"),
            NumberInto(1, 1'000'000'000'000, options.iterations));
  AddOption(app, "--duration", "TIME",
            absl::StrCat("instead of --iterations: measure each size for this "
                         "long: 500ms, 10s, 1m",
                         rate ? " (default: 5s)" : ""),
            Into(ParsePositiveTime, options.duration));
  AddOption(app, "--warmup", "N",
            absl::StrCat("messages of each size that are sent before measuring "
                         "begins (default: ",
                         rate ? "1000" : "100", ")"),
            NumberInto(0, 1'000'000'000, options.warmup));
  if (latency) {
    AddOption(app, "--interval", "TIME",
              "time from the start of one message to that of the next, for a "
              "pace like ping's: 1ms, 1s (default: none)",
              Into(ParseTime, options.interval));
  } else {
    AddSwitch(app, "--bidirectional",
              "the server sends as well; the figures are of both directions "
              "added",
              options.bidirectional);
    AddOption(app, "--rate-limit", "RATE",
              "bytes a second that each side sends at most: 500M, 1G, 2.5GB/s "
              "(powers of 1000; default: no limit)",
              Into(ParseRateLimit, options.rate_limit));
  }
  AddSwitch(app, "--verify",
            "check every byte that arrives against a pattern that differs by "
            "message and by QP; slower",
            options.verify);
}

void AddQueues(CLI::App& app, TestOptions& options) {
  const bool latency = options.test == TestName::kLatency;
  StartGroup(app, "Queues");
  AddNotedOption(
      app, options.of_verbs, "--qps", "N",
      absl::StrCat("connections, each a QP, used in turn; 1 to 16384, if "
                   "the server allows it (default: ",
                   options.test == TestName::kRate ? "8" : "1", ")"),
      NumberInto(1, 16384, options.qps));
  if (!latency) {
    AddOption(app, "--depth", "N",
              "requests on their way on each QP, 1 to 16384, if the server "
              "allows it (default: 128, fewer when the messages on their way "
              "would take more than 64M)",
              NumberInto(1, 16384, options.depth));
    AddNotedOption(app, options.of_verbs, "--signal-every", "N",
                   "ask for a completion of every N-th request, 1 to --depth "
                   "(default: three quarters of --depth)",
                   NumberInto(1, 16384, options.signal_every));
  }
  AddNotedOption(
      app, options.of_verbs, "--inline", "N",
      absl::StrCat("messages of up to N bytes, 0 to 4096, go with the "
                   "request instead of being fetched by the device; "
                   "auto is ",
                   latency                           ? "220"
                   : options.test == TestName::kRate ? "64"
                                                     : "0",
                   latency || options.test == TestName::kRate
                       ? ", but 0 for read, cas and fetch-add"
                       : "",
                   " (default: auto)"),
      Into(ParseInline, options.inline_bytes));
  AddOption(app, "--cq", "MODE",
            "how both sides wait for completions: busy (poll), event (sleep "
            "until the device tells) or adaptive (poll a while, then sleep) "
            "(default: busy)",
            Into(ParseCqMode, options.cq_mode));
}

void AddConnection(CLI::App& app, TestOptions& options) {
  StartGroup(app, "Connection");
  AddNotedOption(app, options.of_verbs, "--mtu", "BYTES",
                 "path MTU: 256, 512, 1024, 2048 or 4096 (default: what the "
                 "connection manager finds)",
                 Into(ParseMtu, options.mtu));
  AddNotedOption(app, options.of_verbs, "--sl", "N",
                 "InfiniBand service level, 0 to 15 (default: 0)",
                 NumberInto(0, 15, options.service_level));
  AddNotedOption(app, options.of_verbs, "--tos", "N",
                 "IP type of service, the DSCP in its upper six bits, 0 to 255 "
                 "(default: 0)",
                 NumberInto(0, 255, options.type_of_service));
  AddNotedOption(app, options.of_verbs, "--retry", "N",
                 "how often a packet without an answer is sent again, 0 to 7 "
                 "(default: 7)",
                 NumberInto(0, 7, options.retry_count));
  AddNotedOption(
      app, options.of_verbs, "--rnr-retry", "N",
      "how often a message that finds no receive posted is sent again, 0 "
      "to 7; 7: for ever (default: 7)",
      NumberInto(0, 7, options.rnr_retry_count));
  AddNotedOption(app, options.of_verbs, "--ack-timeout", "N",
                 "wait 4.096 us times 2^N for an answer, 1 to 31; 14 is 67 ms "
                 "(default: what the connection manager finds)",
                 NumberInto(1, 31, options.ack_timeout));
}

}  // namespace

void AddTest(CLI::App& app, TestOptions& options) {
  const Page page = PageOf(options.test);
  CLI::App& command =
      *app.add_subcommand(std::string(CommandName(options.test)),
                          absl::StrCat(page.summary, "\n", page.text));
  AddServerAddress(command, options.server);
  AddFrom(command, options.server.from);
  if (options.test == TestName::kConnect) {
    StartGroup(command, "Connections");
    AddOption(command, "--connections", "N",
              "how many are made, 1 to 1000000 (default: 100)",
              NumberInto(1, 1'000'000, options.connections));
    AddSwitch(command, "--hold",
              "keep all open until the last is made, instead of closing each "
              "before the next",
              options.hold);
    AddOption(command, "--tos", "N",
              "IP type of service, 0 to 255 (default: 0)",
              NumberInto(0, 255, options.type_of_service));
  } else {
    AddMessages(command, options);
    AddSession(command, options);
    AddQueues(command, options);
    AddConnection(command, options);
    StartGroup(command, "Mistakes on purpose");
    AddNotedOption(
        command, options.of_verbs, "--provoke", "WHAT",
        "see what an error looks like: wrong-rkey (the client uses an "
        "R_Key that is not the server's) or no-receives (the server "
        "posts none; best with a small --rnr-retry)",
        Into(ParseProvoke, options.provoke));
  }
  Figures figures = FiguresMeasured(options);
  figures.verified = options.test != TestName::kConnect;
  AddOutput(command, options.output, figures);
  command.footer(absl::StrCat("Examples:\n", page.examples));
}

}  // namespace nd::ndping
