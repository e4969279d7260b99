#include "ndping/cli/commands.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "ndping/cli/exit_status.h"
#include "ndping/cli/flags.h"
#include "verbs/explain.h"

namespace nd::ndping {
namespace {

std::string NamesOf(std::span<const verbs::Explanation> explanations) {
  const auto append_name = [](std::string* out,
                              const verbs::Explanation& explanation) {
    absl::StrAppend(out, explanation.name);
  };
  return absl::StrJoin(explanations, "\n  ", append_name);
}

std::string Describe(const verbs::Explanation& explanation) {
  return absl::StrCat(
      Wrap(absl::StrCat(explanation.name, " (", explanation.value,
                        "): ", explanation.meaning),
           2),
      "\n\n  cause: ", Wrap(explanation.cause, 9),
      "\n\n  cure:  ", Wrap(explanation.cure, 9), "\n");
}

}  // namespace

int Run(const ShowText& command, const Io& io) {
  io.out << command.text;
  return kExitOk;
}

int Run(const ExplainCommand& command, const Io& io) {
  if (command.text.empty()) {
    io.out << "Work completion statuses:\n  "
           << NamesOf(verbs::WcExplanations()) << "\n\nCM events:\n  "
           << NamesOf(verbs::CmEventExplanations())
           << "\n\nAsynchronous events:\n  "
           << NamesOf(verbs::AsyncEventExplanations())
           << "\n\nReject reasons of the CM:\n  "
           << NamesOf(verbs::RejectExplanations()) << "\n";
    return kExitOk;
  }
  const auto explanation = verbs::FindExplanation(command.text);
  if (!explanation.ok()) {
    PrintError(absl::StrCat(explanation.status().message(),
                            "\n'ndping explain' lists all that there are"),
               io);
    return kExitUsage;
  }
  io.out << Describe(*explanation);
  return kExitOk;
}

void PrintError(absl::string_view message, const Io& io) {
  for (absl::string_view line : absl::StrSplit(message, '\n')) {
    io.err << "ndping: " << line << "\n";
  }
}

int Fail(const absl::Status& status, const Io& io) {
  PrintError(status.message().empty() ? absl::StatusCodeToString(status.code())
                                      : std::string(status.message()),
             io);
  return status.code() == absl::StatusCode::kInvalidArgument ? kExitUsage
                                                             : kExitFailed;
}

int Judge(const absl::Status& status, bool data_is_right, bool interrupted,
          const std::vector<ThresholdHit>& hits, const Io& io) {
  for (const ThresholdHit& hit : hits) PrintError(hit.ToString(), io);
  if (!status.ok()) {
    // Ctrl-C before there was anything to measure.
    if (interrupted && absl::IsCancelled(status)) {
      PrintError("interrupted", io);
      return kExitInterrupted;
    }
    const int exit_status = Fail(status, io);
    return interrupted ? kExitInterrupted : exit_status;
  }
  if (!data_is_right) {
    PrintError("not all data was verified to be right", io);
    return kExitFailed;
  }
  if (interrupted) return kExitInterrupted;
  return hits.empty() ? kExitOk : kExitThreshold;
}

std::string Endpoint(absl::string_view host, uint16_t port) {
  const bool v6 = absl::StrContains(host, ':');
  return v6 ? absl::StrCat("[", host, "]:", port)
            : absl::StrCat(host, ":", port);
}

int RunNdping(const std::vector<std::string>& args, const Io& io) {
  const absl::StatusOr<Command> command = ParseCommandLine(args);
  if (!command.ok()) return Fail(command.status(), io);
  return std::visit([&io](const auto& chosen) { return Run(chosen, io); },
                    *command);
}

}  // namespace nd::ndping
