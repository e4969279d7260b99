// What `ndsoft run` must know of a program before it starts it.
#ifndef ND_SOFT_ABI_PROGRAM_H_
#define ND_SOFT_ABI_PROGRAM_H_

#include <string>
#include <string_view>

namespace nd::soft {

// A program's file, or why there is none: `problem` is for the user then, and
// `exit_status` what a shell gives.
struct ProgramFile {
  std::string path{};
  std::string problem{};
  int exit_status = 0;
};

// As execvp finds it: a name without a slash is looked for in `search_path`.
ProgramFile FindProgram(const std::string& name, std::string_view search_path);

// Why a library that is preloaded would not get into this program, or nothing.
// Of a script it is the interpreter that counts.
std::string PreloadProblem(const std::string& path);

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_PROGRAM_H_
