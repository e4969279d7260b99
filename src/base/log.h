// Writing to the log of <nd/log.h>.
#ifndef ND_BASE_LOG_H_
#define ND_BASE_LOG_H_

#include <atomic>
#include <string>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "nd/log.h"

// Logs what absl::StrCat makes of the arguments:
//   ND_LOG(kWarning, "session ", id, " lost: ", status.ToString());
// The arguments are evaluated only if the level is on. Thread-safe; not for
// signal handlers, and not for the packet path, which counts instead.
#define ND_LOG(level, ...)                                                 \
  do {                                                                     \
    if (::nd::LogEnabled(::nd::LogLevel::level)) {                         \
      static constexpr const char* nd_file_ =                              \
          ::nd::log_internal::ShortFile(__FILE__);                         \
      ::nd::log_internal::Write(::nd::LogLevel::level, nd_file_, __LINE__, \
                                ::absl::StrCat(__VA_ARGS__));              \
    }                                                                      \
  } while (false)

namespace nd {
namespace log_internal {

extern std::atomic<LogLevel> g_level;

// The last folder and the name of a path: where the tree was built is nobody's
// business.
constexpr const char* ShortFile(const char* path) {
  const char* folder = path;
  const char* name = path;
  for (const char* p = path; *p != '\0'; ++p) {
    if (*p != '/') continue;
    folder = name;
    name = p + 1;
  }
  return folder;
}

ABSL_ATTRIBUTE_COLD void Write(LogLevel level, const char* file, int line,
                               absl::string_view message);

}  // namespace log_internal

inline bool LogEnabled(LogLevel level) {
  return level >= log_internal::g_level.load(std::memory_order_relaxed);
}

// The record on one line, without a line end:
//   2024-05-01T12:00:00.000000Z W verbs/cm_id.cc:42] the message
// Control characters become spaces: a message may quote what a peer said.
std::string FormatLogRecord(const LogRecord& record);

}  // namespace nd

#endif  // ND_BASE_LOG_H_
