// Waiting for another thread to wait.
#ifndef ND_TESTS_BASE_SLEEPS_H_
#define ND_TESTS_BASE_SLEEPS_H_

#include <sys/types.h>

#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace nd {

// Whether a thread of this process waits for something: proc(5), state S.
inline bool Sleeps(pid_t thread) {
  std::ifstream file(absl::StrCat("/proc/self/task/", thread, "/stat"));
  std::string line;
  std::getline(file, line);
  return absl::StrContains(line, ") S ");
}

}  // namespace nd

#endif  // ND_TESTS_BASE_SLEEPS_H_
