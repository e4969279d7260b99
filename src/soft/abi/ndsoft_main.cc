// ndsoft: runs programs on the userspace Soft-RoCE device.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/environment.h"
#include "soft/abi/program.h"

namespace nd::soft {
namespace {

constexpr int kUsage = 2;
constexpr int kCannotRun = 126;
constexpr int kNotFound = 127;

struct RunOptions {
  std::string faults;
  std::string personality;
  std::vector<std::string> command;
};

int Fail(int status, std::string_view problem) {
  std::fprintf(stderr, "ndsoft: %.*s\n", static_cast<int>(problem.size()),
               problem.data());
  return status;
}

void SetEnvironment(const char* name, const std::string& value) {
  if (value.empty()) return;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): this program has one thread
  setenv(name, value.c_str(), 1);
}

// Beside this program: in the build tree, or as installed. Empty: nowhere.
std::string LibraryPath() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  for (const char* directory : {".", ND_LIB_FROM_BIN}) {
    const auto path = std::filesystem::canonical(
        self.parent_path() / directory / "libndsoft.so", error);
    if (!error) return path.string();
  }
  return "";
}

// What LD_PRELOAD is to be. A sanitizer that the library was built with must
// come before it.
std::string Preload(const std::string& library) {
  std::string preload;
  for (const absl::string_view path :
       {absl::string_view(ND_SANITIZER_RUNTIME), absl::string_view(library),
        absl::string_view(Environment("LD_PRELOAD"))}) {
    if (path.empty()) continue;
    absl::StrAppend(&preload, preload.empty() ? "" : ":", path);
  }
  return preload;
}

int Run(const RunOptions& options) {
  const std::string library = LibraryPath();
  if (library.empty()) {
    return Fail(kCannotRun, "libndsoft.so is not where this program is");
  }
  if (library.find_first_of(" :") != std::string::npos) {
    return Fail(kCannotRun, absl::StrCat("LD_PRELOAD cannot name '", library,
                                         "': it has a space or a colon"));
  }
  const ProgramFile program =
      FindProgram(options.command.front(), Environment("PATH"));
  if (program.exit_status != 0) {
    return Fail(program.exit_status, program.problem);
  }
  const std::string problem = PreloadProblem(program.path);
  if (!problem.empty()) return Fail(kCannotRun, problem);

  SetEnvironment("LD_PRELOAD", Preload(library));
  SetEnvironment("ND_DEVICE", "soft");
  SetEnvironment("ND_SOFT_FAULTS", options.faults);
  SetEnvironment("ND_SOFT_PERSONALITY", options.personality);
  std::vector<char*> arguments;
  for (const std::string& word : options.command) {
    arguments.push_back(const_cast<char*>(word.c_str()));
  }
  arguments.push_back(nullptr);
  execv(program.path.c_str(), arguments.data());
  return Fail(
      errno == ENOENT ? kNotFound : kCannotRun,
      absl::StrCat(program.path, ": ", std::generic_category().message(errno)));
}

int PrintPath() {
  const std::string library = LibraryPath();
  if (library.empty()) {
    return Fail(1, "libndsoft.so is not where this program is");
  }
  std::puts(library.c_str());
  return 0;
}

class RunHelp : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string) const override {
    return "Usage: ndsoft run [OPTIONS] -- COMMAND [ARGUMENT...]\n";
  }
};

int Main(std::vector<std::string> words) {
  CLI::App app("Runs programs on the userspace Soft-RoCE device", "ndsoft");
  app.require_subcommand(1);
  CLI::App* run = app.add_subcommand("run", "run a command on the device");
  CLI::App* path = app.add_subcommand("path", "print the library's path");
  RunOptions options;
  run->formatter(std::make_shared<RunHelp>());
  run->add_option("--faults", options.faults,
                  "what is to go wrong (ND_SOFT_FAULTS)")
      ->type_name("SPEC");
  run->add_option("--personality", options.personality,
                  "which device to be (ND_SOFT_PERSONALITY)")
      ->type_name("NAME");
  run->footer(
      "The command sees the device through LD_PRELOAD. Programs that are\n"
      "statically linked, setuid or setgid cannot be helped.\n\n"
      "Exit status: the command's; 126 if it cannot be run, 127 if it is not\n"
      "there, 2 if the command line is wrong.\n\n"
      "Example: ndsoft run -- ibv_devinfo -v");

  // What follows "--" is the command's own.
  const auto dashes = std::find(words.begin(), words.end(), "--");
  if (dashes != words.end()) options.command.assign(dashes + 1, words.end());
  words.erase(dashes, words.end());
  std::reverse(words.begin(), words.end());  // as CLI11 wants them
  try {
    app.parse(words);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return Fail(kUsage,
                absl::StrCat(error.what(), "\n'ndsoft run --help' says more"));
  }
  if (*path) return PrintPath();
  if (options.command.empty()) {
    return Fail(kUsage, "run what? ndsoft run [OPTIONS] -- COMMAND...");
  }
  return Run(options);
}

}  // namespace
}  // namespace nd::soft

int main(int count, char** words) try {
  return nd::soft::Main(std::vector<std::string>(words + 1, words + count));
} catch (const std::exception& error) {
  std::fprintf(stderr, "ndsoft: %s\n", error.what());
  return 1;
}
