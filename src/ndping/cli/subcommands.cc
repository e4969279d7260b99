#include "ndping/cli/subcommands.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "ndping/cli/flags.h"
#include "ndping/rping/rping.h"
#include "ndping/text/units.h"

namespace nd::ndping {
namespace {

absl::StatusOr<std::string> ParseText(absl::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("expected a value");
  return std::string(text);
}

absl::StatusOr<Protocol> ParseProtocol(absl::string_view text) {
  if (text == "nd") return Protocol::kNd;
  if (text == "rping") return Protocol::kRping;
  return absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is not one of nd, rping"));
}

void SetPage(CLI::App& command, absl::string_view text,
             absl::string_view examples) {
  command.description(absl::StrCat(command.get_description(), "\n", text));
  command.footer(absl::StrCat("Examples:\n", examples));
}

Parse AppendThreshold(OutputOptions& output) {
  return [&output](absl::string_view text) -> absl::Status {
    ND_ASSIGN_OR_RETURN(auto threshold, Threshold::Parse(text));
    output.thresholds.push_back(std::move(threshold));
    return absl::OkStatus();
  };
}

void AddLimits(CLI::App& app, v1::Limits& limits) {
  const v1::Limits defaults = HarnessServer::DefaultLimits();
  const auto by_default = [](absl::string_view what, absl::string_view value) {
    return absl::StrCat(what, " (default: ", value, ")");
  };
  const auto bytes = [](auto set) {
    return [set](absl::string_view text) {
      auto size = ParseSize(text);
      if (size.ok()) set(*size);
      return size.status();
    };
  };
  const auto number = [](auto set) {
    return [set](absl::string_view text) {
      auto value = ParseNumber(text, 1, 1'000'000);
      if (value.ok()) set(static_cast<uint32_t>(*value));
      return value.status();
    };
  };
  StartGroup(app, "Limits on what a client may ask");
  AddOption(app, "--max-size", "SIZE",
            by_default("bytes of a message", FormatSize(defaults.max_size())),
            bytes([&limits](uint64_t v) { limits.set_max_size(v); }));
  AddOption(app, "--max-depth", "N",
            by_default("requests on their way on a QP",
                       absl::StrCat(defaults.max_depth())),
            number([&limits](uint32_t v) { limits.set_max_depth(v); }));
  AddOption(app, "--max-qps", "N",
            by_default("QPs, or connections held open, of a test",
                       absl::StrCat(defaults.max_qps())),
            number([&limits](uint32_t v) { limits.set_max_qps(v); }));
  AddOption(app, "--max-duration", "TIME",
            by_default("how long one size may be measured",
                       absl::FormatDuration(
                           absl::Nanoseconds(defaults.max_duration_ns()))),
            [&limits](absl::string_view text) {
              auto time = ParseTime(text);
              if (time.ok()) limits.set_max_duration_ns(time->count());
              return time.status();
            });
  AddOption(app, "--max-tests", "N",
            by_default("tests at a time", absl::StrCat(defaults.max_tests())),
            number([&limits](uint32_t v) { limits.set_max_tests(v); }));
  AddOption(app, "--max-memory", "SIZE",
            by_default("bytes of buffers of a test",
                       FormatSize(defaults.max_memory())),
            bytes([&limits](uint64_t v) { limits.set_max_memory(v); }));
}

Parse PortInto(uint16_t& port) { return NumberInto(1, 65535, port); }

}  // namespace

void AddServerAddress(CLI::App& app, HarnessClient::Options& server) {
  AddOption(app, "ADDR", "",
            "the server: an IPv4 or IPv6 address, or a host name",
            Into(ParseText, server.host))
      ->required();
  StartGroup(app, "Server");
  AddOption(app, "--port", "PORT",
            absl::StrCat("the server's TCP port (default: ", kHarnessPort, ")"),
            PortInto(server.port));
}

void AddFrom(CLI::App& app, std::string& from) {
  AddOption(app, "--from", "ADDR",
            "the local address, and with it the device, that RDMA uses "
            "(default: by the route)",
            Into(ParseText, from));
}

void AddOutput(CLI::App& app, OutputOptions& output, const Figures& figures) {
  StartGroup(app, "Output");
  CLI::Option* json = app.add_flag_callback(
      "--json", [&output] { output.format = Format::kJson; },
      "print one JSON document, schema nd.ndping/1 (docs/ndping-json.md)");
  app.add_flag_callback(
         "--csv", [&output] { output.format = Format::kCsv; },
         "print a header line and rows of figures, separated by commas")
      ->excludes(json);
  std::vector<absl::string_view> names;
  std::vector<absl::string_view> examples;
  if (figures.latency) {
    names.push_back("min, mean, max, stddev, p50, p99.9 or any percentile");
    examples.push_back("'p99>50us'");
  }
  if (figures.bandwidth) {
    names.push_back("bandwidth");
    examples.push_back("'bandwidth<1GB/s'");
  }
  if (figures.rate) {
    names.push_back("rate");
    examples.push_back("'rate<1M'");
  }
  if (figures.loss) {
    names.push_back("loss");
    examples.push_back("'loss>0%'");
  }
  if (figures.verified) {
    names.push_back("with --verify verified");
    examples.push_back("'verified<100%'");
  }
  AddOption(app, "--fail-if", "COND",
            absl::StrCat(
                "exit with status 3 if this holds for any row: a "
                "figure (",
                absl::StrJoin(names, ", "), "), one of < <= > >= and a value: ",
                absl::StrJoin(examples, " "), "; may be given several times"),
            AppendThreshold(output));
}

void AddServer(CLI::App& app, ServerCommand& server) {
  CLI::App& command =
      *app.add_subcommand("server", "serve the tests of many clients");
  StartGroup(command, "Address");
  AddOption(command, "--address", "ADDR",
            "serve on this address only (default: 0.0.0.0, every IPv4 address; "
            ":: is every IPv6 address)",
            Into(ParseText, server.address));
  AddOption(
      command, "--port", "PORT",
      absl::StrCat("TCP port of the control plane (default: ", kHarnessPort,
                   "); with --protocol rping the port that "
                   "rdma_cm listens on (default: ",
                   kDefaultRpingPort, ")"),
      NumberInto(1, 65535, server.port));
  AddOption(
      command, "--rdma-port", "PORT",
      absl::StrCat("port that rdma_cm listens on (default: ", kRdmaPort, ")"),
      NumberInto(1, 65535, server.rdma_port));
  AddOption(command, "--protocol", "PROTO",
            "nd: ndping's tests, with a control plane over gRPC; rping: the "
            "protocol of rping, which has none (default: nd)",
            Into(ParseProtocol, server.protocol));
  AddSwitch(command, "--verbose",
            "with --protocol rping: a line for each ping, with its data",
            server.verbose);
  AddLimits(command, server.limits);
  SetPage(command,
          "Runs until Ctrl-C, which ends running tests and tells their clients "
          "why. Every client says all options of its test; the server needs "
          "none of them. Of the limits, rping has --max-size and --max-tests.",
          "  ndping server\n"
          "  ndping server --address 10.98.0.2 --max-size 1M --max-tests 4\n"
          "  ndping server --protocol rping\n");
}

void AddPing(CLI::App& app, PingCommand& ping) {
  CLI::App& command =
      *app.add_subcommand("ping", "see whether a server answers, and how fast");
  AddOption(command, "ADDR", "",
            "the server: an IPv4 or IPv6 address, or a host name",
            Into(ParseText, ping.host))
      ->required();
  StartGroup(command, "Pings");
  AddOption(command, "--count", "N", "stop after N pings (default: at Ctrl-C)",
            NumberInto(1, 1'000'000'000, ping.count));
  AddOption(command, "--size", "SIZE",
            "bytes of a ping, 1 to 64M (default: 64); 'rping -s' serves no "
            "more than its own -S says",
            Into(ParseSize, ping.size));
  AddOption(command, "--interval", "TIME",
            "time from the start of one ping to that of the next (default: 1s)",
            Into(ParseTime, ping.interval));
  AddSwitch(command, "--verify,--validate",
            "check every byte that comes back (also: --validate)", ping.verify);
  AddSwitch(command, "--verbose",
            "with --protocol rping: show the first 64 characters of the data",
            ping.verbose);
  StartGroup(command, "Server");
  AddOption(command, "--protocol", "PROTO",
            "nd: SEND there and back, against 'ndping server'; rping: READ and "
            "WRITE by the server, against 'rping -s' or 'ndping server "
            "--protocol rping' (default: nd)",
            Into(ParseProtocol, ping.protocol));
  AddOption(command, "--over", "WHAT",
            "with --protocol nd: verbs, or message, on a stream of a session "
            "(default: verbs)",
            Into(ParseOver, ping.over));
  AddOption(command, "--stream-class", "CLASS",
            "with --over message: latency or bulk (default: latency)",
            Into(ParseStreamClass, ping.stream_class));
  AddOption(
      command, "--port", "PORT",
      absl::StrCat("the server's port: TCP for nd (default: ", kHarnessPort,
                   "), rdma_cm for rping (default: ", kDefaultRpingPort, ")"),
      NumberInto(1, 65535, ping.port));
  AddFrom(command, ping.from);
  AddOutput(command, ping.output, {.latency = true, .loss = true});
  SetPage(command,
          "Prints a line for each ping with its round-trip time, and a summary "
          "at the end or at Ctrl-C. The exit status is 0 if every ping was "
          "answered.",
          "  ndping ping 10.98.0.2\n"
          "  ndping ping 10.98.0.2 --count 100 --interval 10ms "
          "--fail-if 'p99>1ms'\n"
          "  ndping ping 10.98.0.2 --protocol rping --size 64K --verify\n");
}

void AddKrping(CLI::App& app, KrpingCommand& krping) {
  CLI::App& command = *app.add_subcommand(
      "krping", "speak krping's protocol, told by its option string");
  AddOption(command, "OPTIONS", "",
            "what would be written to /proc/krping: client or server, addr= or "
            "addr6=, port=, count=, size=, verbose, validate, wlat, rlat, bw, "
            "duplex, poll, tos=, txdepth=, with commas between",
            Into(ParseText, krping.options))
      ->required();
  SetPage(command, "What only the kernel can do is refused by name.",
          "  ndping krping server,addr=10.98.0.2,port=9999\n"
          "  ndping krping "
          "client,addr=10.98.0.2,port=9999,count=100,size=64,validate\n");
}

void AddRegister(CLI::App& app, RegisterCommand& registration) {
  CLI::App& command = *app.add_subcommand(
      "register", "how long registering memory takes, on this host alone");
  StartGroup(command, "Test");
  AddOption(command, "--device", "NAME",
            "the RDMA device (default: the first that 'ndping devices' shows)",
            Into(ParseText, registration.test.device));
  AddOption(command, "--device-port", "N",
            "which of its ports the windows are tested over, 1 to 255 "
            "(default: 1)",
            NumberInto(1, 255, registration.test.port));
  AddOption(command, "--size", "SIZE",
            "bytes of a region, 1 to 16G: 4K, a sweep 4K..64M or a list "
            "(default: 4K to 1G in powers of four)",
            Into(ParseSizes, registration.test.sizes));
  AddOption(command, "--iterations", "N",
            "times that each step is done (default: 100)",
            NumberInto(1, 1'000'000, registration.test.iterations));
  AddOutput(command, registration.output, {.latency = true});
  SetPage(command,
          "Registers and deregisters memory regions, and binds and "
          "invalidates memory windows, by size. What the device cannot do, and "
          "what needs more memory than there is, is said and left out.",
          "  ndping register\n"
          "  ndping register --device rxe0 --size 4K..1M --iterations 10\n");
}

void AddDevices(CLI::App& app, DevicesCommand& devices) {
  CLI::App& command =
      *app.add_subcommand("devices", "list the RDMA devices of this host");
  StartGroup(command, "Output");
  AddSwitch(command, "--verbose", "show every limit of each device too",
            devices.verbose);
  AddSwitch(command, "--json", "print one JSON document, with all limits",
            devices.json);
  SetPage(command,
          "Shows each device with its ports, their state, MTU and addresses.",
          "  ndping devices\n");
}

void AddDoctor(CLI::App& app, DoctorCommand& doctor) {
  CLI::App& command = *app.add_subcommand(
      "doctor", "find out why RDMA does not work here, and say what to do");
  AddOption(command, "ADDR", "",
            "an address or a host name that is to be reached (default: check "
            "this host only)",
            Into(ParseText, doctor.doctor.peer));
  StartGroup(command, "Checks");
  AddOption(command, "--from", "ADDR",
            "a local address that must belong to an RDMA device (default: any)",
            Into(ParseText, doctor.doctor.from));
  StartGroup(command, "Output");
  AddSwitch(command, "--json", "print one JSON document", doctor.json);
  SetPage(command,
          "Checks devices, port states, addresses, MTU, memory limits, "
          "permissions and routes. The exit status is 1 if something must be "
          "fixed.",
          "  ndping doctor\n"
          "  ndping doctor 10.98.0.2\n");
}

void AddExplain(CLI::App& app, ExplainCommand& explain) {
  CLI::App& command = *app.add_subcommand(
      "explain", "what an RDMA status or event means, and what to do");
  AddOption(command, "NAME", "",
            "a work completion status, a CM event, an asynchronous event or a "
            "reject reason, by name or number; without it, all are listed",
            [&explain](absl::string_view text) {
              if (!explain.text.empty()) explain.text += ' ';
              explain.text += std::string(text);
              return absl::OkStatus();
            })
      ->expected(1, 4)
      ->allow_extra_args(true);
  SetPage(command,
          "A number alone is a work completion status; 'reject 8' is a reject "
          "reason of the connection manager.",
          "  ndping explain IBV_WC_RETRY_EXC_ERR\n"
          "  ndping explain 12\n"
          "  ndping explain reject 8\n");
}

void AddInfo(CLI::App& app, InfoCommand& info) {
  CLI::App& command = *app.add_subcommand(
      "info", "what a server is, what it allows and what it does");
  AddServerAddress(command, info.server);
  StartGroup(command, "Output");
  AddSwitch(command, "--json", "print one JSON document", info.json);
  SetPage(command, "Needs no RDMA device on this side.",
          "  ndping info 10.98.0.2\n");
}

}  // namespace nd::ndping
