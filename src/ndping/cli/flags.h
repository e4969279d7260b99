// Options of a subcommand on top of CLI11: values that parse themselves with
// errors that name the option, and help that reads like a manual page.
#ifndef ND_NDPING_CLI_FLAGS_H_
#define ND_NDPING_CLI_FLAGS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ndping/text/units.h"

namespace nd::ndping {

// Reads a value and keeps it, or says what was expected.
using Parse = std::function<absl::Status(absl::string_view)>;

// A Parse that stores into `target`, which must outlive it, what `parse`, of
// the form StatusOr<T>(string_view), returns.
template <typename Parser, typename Target>
Parse Into(Parser parse, Target& target) {
  return [parse, &target](absl::string_view text) -> absl::Status {
    auto value = parse(text);
    if (!value.ok()) return value.status();
    target = *std::move(value);
    return absl::OkStatus();
  };
}

// One that stores a whole number from `low` to `high`.
template <typename Target>
Parse NumberInto(uint64_t low, uint64_t high, Target& target) {
  return Into(
      [=](absl::string_view text) { return ParseNumber(text, low, high); },
      target);
}

// `name` is "--size" or "ADDR" for a positional argument, `value` what the help
// calls its value. An option that is given twice counts as given last, or both
// times, as `parse` has it.
CLI::Option* AddOption(CLI::App& app, const std::string& name,
                       const std::string& value, const std::string& help,
                       Parse parse);
CLI::Option* AddSwitch(CLI::App& app, const std::string& name,
                       const std::string& help, bool& target);

// The options that are added next stand under this heading.
void StartGroup(CLI::App& app, const std::string& heading);

// Makes `app --help` and those of its subcommands lay out like a manual page,
// 80 columns wide.
void UseManualPages(CLI::App& app);

// Breaks `text` at blanks into lines of at most `width`, each but the first
// behind `indent` blanks. Line ends in the text stay.
std::string Wrap(absl::string_view text, size_t indent, size_t width = 80);

// The entries of `known` that `name` may have been meant to be.
std::vector<std::string> Similar(absl::string_view name,
                                 const std::vector<std::string>& known);

}  // namespace nd::ndping

#endif  // ND_NDPING_CLI_FLAGS_H_
