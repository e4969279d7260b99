#include "ndping/cli/cli.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/status.h"
#include "ndping/cli/flags.h"
#include "ndping/cli/subcommands.h"
#include "ndping/rping/rping.h"
#include "ndping/text/units.h"
#include "ndping/text/version.h"

namespace nd::ndping {
namespace {

TestOptions OptionsOf(TestName test) {
  TestOptions options;
  options.test = test;
  return options;
}

// Everything that parsing fills in.
struct Parsed {
  TestOptions latency = OptionsOf(TestName::kLatency);
  TestOptions bandwidth = OptionsOf(TestName::kBandwidth);
  TestOptions rate = OptionsOf(TestName::kRate);
  TestOptions connect = OptionsOf(TestName::kConnect);
  ServerCommand server;
  PingCommand ping;
  KrpingCommand krping;
  RegisterCommand registration;
  DevicesCommand devices;
  DoctorCommand doctor;
  ExplainCommand explain;
  InfoCommand info;
};

void AddCommands(CLI::App& app, Parsed& parsed) {
  app.set_help_flag("-h,--help");
  app.set_version_flag("--version", absl::StrCat("ndping ", kVersion));
  UseManualPages(app);
  AddServer(app, parsed.server);
  AddPing(app, parsed.ping);
  AddTest(app, parsed.latency);
  AddTest(app, parsed.bandwidth);
  AddTest(app, parsed.rate);
  AddTest(app, parsed.connect);
  AddRegister(app, parsed.registration);
  AddKrping(app, parsed.krping);
  AddDevices(app, parsed.devices);
  AddDoctor(app, parsed.doctor);
  AddExplain(app, parsed.explain);
  AddInfo(app, parsed.info);
  app.add_subcommand("version", "print the version");
  for (CLI::App* command : app.get_subcommands({})) command->group("Commands");
  app.footer(
      "'ndping COMMAND --help' says all about a command.\n\n"
      "Exit status:\n"
      "  0    all data arrived, and was right where --verify asked for that\n"
      "  1    the connection or the test failed, or a check of doctor\n"
      "  2    the command line is wrong\n"
      "  3    a --fail-if condition holds\n"
      "  130  Ctrl-C ended a test before its time\n\n"
      "Examples:\n"
      "  ndping server                            on one host, and on another\n"
      "  ndping ping 10.98.0.2\n"
      "  ndping lat 10.98.0.2 --size 8..1M --verify\n");
}

// The names of the options, or of the commands if it has some.
std::vector<std::string> NamesOf(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) {
    names.push_back(command->get_name());
  }
  if (!names.empty()) return names;
  for (const CLI::Option* option : app.get_options({})) {
    if (!option->get_lnames().empty()) {
      names.push_back(absl::StrCat("--", option->get_lnames().front()));
    }
  }
  return names;
}

// The commands that do have the option.
std::vector<std::string> OwnersOf(const CLI::App& root,
                                  const std::string& option) {
  std::vector<std::string> owners;
  for (const CLI::App* command : root.get_subcommands({})) {
    if (std::ranges::count(NamesOf(*command), option) > 0) {
      owners.push_back(command->get_name());
    }
  }
  return owners;
}

// What was not understood, by name, with what would have been.
absl::Status UnknownWord(const CLI::App& root, const CLI::App& app) {
  const std::vector<std::string> rest = root.remaining(true);
  const auto option = std::ranges::find_if(
      rest, [](const std::string& word) { return word.starts_with("-"); });
  std::string word = option != rest.end() ? *option : rest.front();
  word = word.substr(0, word.find('='));
  const bool is_option = word.starts_with("-");
  const bool at_root = &root == &app;
  std::string message =
      at_root     ? absl::StrCat(is_option ? "option " : "command ", word,
                             " does not exist")
      : is_option ? absl::StrCat(app.get_name(), " has no option ", word)
                  : absl::StrCat(app.get_name(), " takes no further argument '",
                                 word, "'");
  const auto similar = Similar(word, NamesOf(app));
  const auto owners = OwnersOf(root, word);
  if (!similar.empty()) {
    absl::StrAppend(&message, "; did you mean ", absl::StrJoin(similar, " or "),
                    "?");
  } else if (!owners.empty()) {
    absl::StrAppend(&message, "; it is one of ", absl::StrJoin(owners, ", "));
  }
  if (!is_option && !at_root) {
    return absl::InvalidArgumentError(absl::StrCat(
        message, "\n'ndping ", app.get_name(), " --help' says what it takes"));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      message, "\n",
      at_root ? "commands: " : absl::StrCat(app.get_name(), " has "),
      absl::StrJoin(NamesOf(app), " ")));
}

// CLI11's exceptions in words of our own.
std::string CauseOf(const CLI::Error& error, const CLI::App& app) {
  std::string text = error.what();
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    return absl::StrCat(app.get_name(), ": ", text);
  }
  if (dynamic_cast<const CLI::ExcludesError*>(&error) != nullptr) {
    return absl::StrReplaceAll(text, {{" excludes ", ": not together with "}});
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    const std::string name = text.substr(0, text.find(':'));
    const CLI::Option* option = app.get_option_no_throw(name);
    if (option != nullptr && option->get_expected_min() > 0) {
      return absl::StrCat(name, " needs a value: ", option->get_option_text());
    }
  }
  return text;
}

absl::Status ToStatus(const CLI::Error& error, const CLI::App& root,
                      const CLI::App& app) {
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    return UnknownWord(root, app);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      CauseOf(error, app), "\n'",
      &root == &app ? "ndping" : absl::StrCat("ndping ", app.get_name()),
      " --help' says what it takes"));
}

absl::Status CheckFigures(const OutputOptions& output, const Figures& figures) {
  for (const Threshold& threshold : output.thresholds) {
    ND_RETURN_IF_ERROR(
        Annotate(threshold.CheckMeasuredBy(figures), "--fail-if"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Command> CheckTest(const TestOptions& options) {
  ND_RETURN_IF_ERROR(CheckFigures(options.output, FiguresMeasured(options)));
  ND_RETURN_IF_ERROR(ToSpec(options));
  return options;
}

absl::StatusOr<Command> CheckPing(const PingCommand& ping) {
  if (ping.size < 1 || ping.size > kMaxRpingSize) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--size: a ping has 1 byte to 64M, not ", FormatSize(ping.size)));
  }
  if (ping.verbose && ping.protocol != Protocol::kRping) {
    return absl::InvalidArgumentError(
        "--verbose: only --protocol rping sends data that can be shown");
  }
  if (ping.over == Over::kMessage && ping.protocol != Protocol::kNd) {
    return absl::InvalidArgumentError(
        "--over message: rping's protocol has no messages; leave --protocol "
        "out");
  }
  if (ping.stream_class.has_value() && ping.over != Over::kMessage) {
    return absl::InvalidArgumentError(
        "--stream-class: only with --over message");
  }
  ND_RETURN_IF_ERROR(
      CheckFigures(ping.output, {.latency = true, .loss = true}));
  return ping;
}

absl::StatusOr<Command> CheckServer(const ServerCommand& server) {
  if (server.protocol == Protocol::kNd && server.verbose) {
    return absl::InvalidArgumentError(
        "--verbose: only --protocol rping has a line for each ping");
  }
  if (server.protocol == Protocol::kRping && server.port && server.rdma_port) {
    return absl::InvalidArgumentError(
        "--port and --rdma-port: --protocol rping has one port only");
  }
  return server;
}

absl::StatusOr<Command> CheckRegister(const RegisterCommand& command) {
  for (const uint64_t size : command.test.sizes) {
    if (size >= 1 && size <= kMaxRegisterSize) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--size: a region has 1 byte to ",
                     FormatSize(kMaxRegisterSize), ", not ", FormatSize(size)));
  }
  ND_RETURN_IF_ERROR(CheckFigures(command.output, {.latency = true}));
  return command;
}

absl::StatusOr<Command> Choose(const std::string& name, Parsed& parsed) {
  if (name == "server") return CheckServer(parsed.server);
  if (name == "ping") return CheckPing(parsed.ping);
  if (name == "lat") return CheckTest(parsed.latency);
  if (name == "bw") return CheckTest(parsed.bandwidth);
  if (name == "rate") return CheckTest(parsed.rate);
  if (name == "connect") return CheckTest(parsed.connect);
  if (name == "register") return CheckRegister(parsed.registration);
  if (name == "krping") return parsed.krping;
  if (name == "devices") return parsed.devices;
  if (name == "doctor") return parsed.doctor;
  if (name == "explain") return parsed.explain;
  if (name == "info") return parsed.info;
  return ShowText{absl::StrCat("ndping ", kVersion, "\n")};
}

}  // namespace

absl::StatusOr<Command> ParseCommandLine(const std::vector<std::string>& args) {
  CLI::App app("tests, measures and explains RDMA connections", "ndping");
  Parsed parsed;
  parsed.registration.test.sizes = DefaultRegisterSizes();
  AddCommands(app, parsed);
  if (args.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected a command: ", absl::StrJoin(NamesOf(app), " "),
                     "\n'ndping --help' says what they do"));
  }
  const auto current = [&app]() -> const CLI::App& {
    const auto chosen = app.get_subcommands();
    return chosen.empty() ? app : *chosen.front();
  };
  try {
    // CLI11 takes its words from the back.
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::CallForHelp&) {
    return ShowText{current().help()};
  } catch (const CLI::CallForVersion&) {
    return ShowText{absl::StrCat("ndping ", kVersion, "\n")};
  } catch (const CLI::Error& error) {
    return ToStatus(error, app, current());
  }
  if (app.get_subcommands().empty()) {
    return absl::InvalidArgumentError("expected a command\n'ndping --help'");
  }
  return Choose(current().get_name(), parsed);
}

}  // namespace nd::ndping
