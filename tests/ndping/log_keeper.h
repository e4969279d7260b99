// The log, kept for a test that waits for a line of it.
#ifndef ND_TESTS_NDPING_LOG_KEEPER_H_
#define ND_TESTS_NDPING_LOG_KEEPER_H_

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/until_true.h"
#include "nd/log.h"

namespace nd::ndping {

class LogKeeper final : public LogSink {
 public:
  void Write(const LogRecord& record) override {
    absl::MutexLock lock(&mutex_);
    text_.append(record.message).append("\n");
  }
  // The log, once it contains `part`, or after a long time.
  std::string WaitFor(absl::string_view part) {
    absl::MutexLock lock(&mutex_);
    const auto contains = [&] { return absl::StrContains(text_, part); };
    mutex_.AwaitWithTimeout(absl::Condition(&contains),
                            absl::FromChrono(kLongTime));
    return text_;
  }

 private:
  absl::Mutex mutex_;
  std::string text_;
};

}  // namespace nd::ndping

#endif  // ND_TESTS_NDPING_LOG_KEEPER_H_
