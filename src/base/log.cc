#include "base/log.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace nd {
namespace {

class StderrSink final : public LogSink {
 public:
  void Write(const LogRecord& record) override {
    // One call, so that lines of different threads do not mix.
    const std::string line = FormatLogRecord(record) + "\n";
    std::fwrite(line.data(), 1, line.size(), stderr);
  }
};

class SinkHolder {
 public:
  // Never destroyed: destructors of other globals may still log.
  static SinkHolder& Get() {
    static SinkHolder* const holder = new SinkHolder;
    return *holder;
  }

  std::shared_ptr<LogSink> sink() const {
    MutexLock lock(&mutex_);
    return sink_;
  }

  // Returns the old one, so that it is destroyed outside the lock.
  std::shared_ptr<LogSink> Exchange(std::shared_ptr<LogSink> sink) {
    MutexLock lock(&mutex_);
    return std::exchange(sink_, std::move(sink));
  }

 private:
  mutable absl::Mutex mutex_;
  std::shared_ptr<LogSink> sink_ ABSL_GUARDED_BY(mutex_) =
      std::make_shared<StderrSink>();
};

}  // namespace

namespace log_internal {

constinit std::atomic<LogLevel> g_level{LogLevel::kWarning};

void Write(LogLevel level, const char* file, int line,
           absl::string_view message) {
  SinkHolder::Get().sink()->Write(
      {.level = level,
       .time = std::chrono::system_clock::now(),
       .file = file,
       .line = line,
       .message = std::string_view(message.data(), message.size())});
}

}  // namespace log_internal

std::string_view LogLevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "unknown";
}

std::string FormatLogRecord(const LogRecord& record) {
  std::string line = absl::StrCat(
      absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::FromChrono(record.time),
                       absl::UTCTimeZone()),
      " ",
      std::string(1, absl::ascii_toupper(static_cast<unsigned char>(
                         LogLevelName(record.level).front()))),
      " ", record.file, ":", record.line, "] ",
      absl::string_view(record.message.data(), record.message.size()));
  std::replace_if(
      line.begin(), line.end(),
      [](unsigned char c) { return absl::ascii_iscntrl(c); }, ' ');
  return line;
}

void SetLogSink(std::shared_ptr<LogSink> sink) {
  if (sink == nullptr) sink = std::make_shared<StderrSink>();
  SinkHolder::Get().Exchange(std::move(sink));
}

void SetLogLevel(LogLevel level) {
  log_internal::g_level.store(level, std::memory_order_relaxed);
}

LogLevel GetLogLevel() {
  return log_internal::g_level.load(std::memory_order_relaxed);
}

}  // namespace nd
