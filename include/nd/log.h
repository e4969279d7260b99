// Where nd's log goes. nd logs what an operator wants to know (a session that
// was lost, a device that went away), never per message; an application that
// has a log of its own hands nd a sink.
#ifndef ND_LOG_H_
#define ND_LOG_H_

#include <chrono>
#include <memory>
#include <string_view>

namespace nd {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warning" or "error".
std::string_view LogLevelName(LogLevel level);

// One message. What it points to is valid during LogSink::Write only.
struct LogRecord {
  LogLevel level;
  std::chrono::system_clock::time_point time;
  const char* file;  // last folder and name: "verbs/queue_pair.cc"
  int line;
  std::string_view message;  // no line end
};

// Receives the log. nd calls it from several threads at once, so Write must be
// thread-safe; it holds no lock of nd's, may call SetLogSink, and must not
// throw or call anything of nd that logs.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual void Write(const LogRecord& record) = 0;
};

// Sends the log to `sink` from now on; null restores the default, which writes
// a line to stderr for each record. Another thread that is logging during the
// call may still write to the old sink after it; the sink is released after
// that. Thread-safe.
void SetLogSink(std::shared_ptr<LogSink> sink);

// Only records of this level and above are made. The default is kWarning.
// Thread-safe.
void SetLogLevel(LogLevel level);
LogLevel GetLogLevel();

}  // namespace nd

#endif  // ND_LOG_H_
