#include "soft/abi/program.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/fd.h"

namespace nd::soft {
namespace {

constexpr int kNotFound = 127;
constexpr int kCannotRun = 126;
constexpr int kMaxInterpreters = 4;  // a script's may be a script, the kernel's
                                     // limit

constexpr int kElfClass = sizeof(void*) == 8 ? ELFCLASS64 : ELFCLASS32;
#if defined(__x86_64__)
constexpr int kElfMachine = EM_X86_64;
using Header = Elf64_Ehdr;
using Segment = Elf64_Phdr;
#elif defined(__aarch64__)
constexpr int kElfMachine = EM_AARCH64;
using Header = Elf64_Ehdr;
using Segment = Elf64_Phdr;
#endif

template <typename T>
bool ReadAt(const Fd& file, uint64_t offset, T& to) {
  return pread(file.get(), &to, sizeof(to), static_cast<off_t>(offset)) ==
         static_cast<ssize_t>(sizeof(to));
}

// The loader ignores LD_PRELOAD in a program that gets rights by being run.
std::string RightsProblem(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return "";
  if (status.st_mode & S_ISUID && status.st_uid != getuid()) {
    return absl::StrCat(path,
                        " is setuid: the loader preloads nothing into it");
  }
  if (status.st_mode & S_ISGID && status.st_mode & S_IXGRP &&
      status.st_gid != getgid()) {
    return absl::StrCat(path,
                        " is setgid: the loader preloads nothing into it");
  }
  if (getuid() != 0 &&
      getxattr(path.c_str(), "security.capability", nullptr, 0) > 0) {
    return absl::StrCat(
        path, " has file capabilities: the loader preloads nothing into it");
  }
  return "";
}

std::string ElfProblem(const std::string& path, const Fd& file) {
  Header header;
  if (!ReadAt(file, 0, header)) return absl::StrCat(path, " is cut short");
  if (header.e_ident[EI_CLASS] != kElfClass ||
      header.e_machine != kElfMachine) {
    return absl::StrCat(path, " is for another kind of processor");
  }
  for (int i = 0; i < header.e_phnum; ++i) {
    Segment segment;
    if (!ReadAt(file, header.e_phoff + i * sizeof(segment), segment)) {
      return absl::StrCat(path, " is cut short");
    }
    if (segment.p_type == PT_INTERP) return RightsProblem(path);
  }
  return absl::StrCat(
      path, " is statically linked: nothing can be preloaded into it");
}

// What follows "#!", up to its first argument.
std::string InterpreterOf(std::string_view line) {
  line = line.substr(0, line.find('\n'));
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  return std::string(line.substr(0, line.find_first_of(" \t\r")));
}

std::string Problem(const std::string& path, int interpreters) {
  const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  // Who may run it but not read it: the loader says what is the matter.
  if (!file.valid()) return RightsProblem(path);
  std::array<char, 256> start{};
  const ssize_t size = pread(file.get(), start.data(), start.size(), 0);
  const std::string_view text(start.data(),
                              size > 0 ? static_cast<size_t>(size) : 0);
  if (text.starts_with(ELFMAG)) return ElfProblem(path, file);
  if (!text.starts_with("#!")) {
    return absl::StrCat(path, " is neither a program nor a script with #!");
  }
  const std::string interpreter = InterpreterOf(text.substr(2));
  if (access(interpreter.c_str(), X_OK) != 0) {
    return absl::StrCat(
        path, ": its interpreter '", interpreter,
        "' cannot be run: ", std::generic_category().message(errno));
  }
  if (interpreters == kMaxInterpreters) {
    return absl::StrCat(path, ": too many interpreters of interpreters");
  }
  const std::string problem = Problem(interpreter, interpreters + 1);
  if (problem.empty()) return "";
  return absl::StrCat(path, " cannot be helped: its interpreter ", problem);
}

bool IsFile(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && !S_ISDIR(status.st_mode);
}

ProgramFile Runnable(const std::string& path) {
  if (access(path.c_str(), X_OK) == 0) return {.path = path};
  return {.problem =
              absl::StrCat(path, ": ", std::generic_category().message(errno)),
          .exit_status = kCannotRun};
}

}  // namespace

ProgramFile FindProgram(const std::string& name, std::string_view search_path) {
  if (name.find('/') != std::string::npos) {
    if (IsFile(name)) return Runnable(name);
    struct stat status;
    if (stat(name.c_str(), &status) == 0) {
      return {.problem = absl::StrCat(name, " is a directory"),
              .exit_status = kCannotRun};
    }
    return {.problem = absl::StrCat(name, ": ",
                                    std::generic_category().message(errno)),
            .exit_status = kNotFound};
  }
  ProgramFile found{.problem = absl::StrCat(name, ": command not found"),
                    .exit_status = kNotFound};
  const std::vector<std::string> directories = absl::StrSplit(
      absl::string_view(search_path.data(), search_path.size()), ':');
  for (const std::string& directory : directories) {
    const std::string path =
        absl::StrCat(directory.empty() ? "." : directory, "/", name);
    if (name.empty() || !IsFile(path)) continue;
    found = Runnable(path);
    if (found.exit_status == 0) break;
  }
  return found;
}

std::string PreloadProblem(const std::string& path) { return Problem(path, 0); }

}  // namespace nd::soft
