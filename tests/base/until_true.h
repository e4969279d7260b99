// Waiting for another thread's doing.
#ifndef ND_TESTS_BASE_UNTIL_TRUE_H_
#define ND_TESTS_BASE_UNTIL_TRUE_H_

#include <chrono>
#include <functional>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/wait.h"

namespace nd {

// Far more than any test takes.
inline constexpr Duration kLongTime = std::chrono::seconds(60);

// Looks at `ready` every millisecond. CANCELLED by `cancel`;
// DEADLINE_EXCEEDED after kLongTime.
inline absl::Status UntilTrue(const std::function<bool()>& ready,
                              const Cancellation* cancel = nullptr) {
  const Deadline deadline = Deadline::After(kLongTime);
  while (!ready()) {
    if (cancel != nullptr && cancel->cancelled()) {
      return absl::CancelledError("");
    }
    if (deadline.Passed()) {
      return absl::DeadlineExceededError("what was waited for never came");
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  return absl::OkStatus();
}

}  // namespace nd

#endif  // ND_TESTS_BASE_UNTIL_TRUE_H_
