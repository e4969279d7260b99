// Waiting for completions: by busy polling, by the completion channel, or by
// both in turn.
#ifndef ND_VERBS_COMPLETION_WAITER_H_
#define ND_VERBS_COMPLETION_WAITER_H_

#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "base/wait.h"
#include "verbs/completion.h"

namespace nd::verbs {

enum class WaitMode {
  kBusy,      // poll and never sleep
  kEvent,     // poll; when empty, arm, poll again, and sleep on the channel
  kAdaptive,  // poll for `spin` after the last completion, then as kEvent
};

absl::string_view ToString(WaitMode mode);  // "busy", "event", "adaptive"
absl::StatusOr<WaitMode> ParseWaitMode(absl::string_view text);

// Waits on one completion queue, in one thread.
//
// A completion that arrives between the last poll and arming makes no event,
// so the queue is polled once more after arming before the thread sleeps.
class CompletionWaiter {
 public:
  struct Options {
    WaitMode mode = WaitMode::kAdaptive;
    Duration spin = std::chrono::microseconds(50);
    // Polls between two looks at the clock and at the cancellation.
    int polls_per_check = 64;
    const Clock* clock = &Clock::Monotonic();
  };

  // kEvent and kAdaptive need a queue with a channel that is the queue's own.
  static absl::StatusOr<CompletionWaiter> Create(
      std::shared_ptr<CompletionQueue> cq, const Options& options);

  // Takes at least one and up to out.size() completions. DEADLINE_EXCEEDED
  // when none came in time, CANCELLED when `cancel`, which may be null, said
  // so; neither has a message.
  absl::StatusOr<size_t> Wait(std::span<Completion> out,
                              const Deadline& deadline,
                              const Cancellation* cancel);

  absl::StatusOr<size_t> Poll(std::span<Completion> out) {
    return cq_->Poll(out);
  }

  WaitMode mode() const { return options_.mode; }
  const std::shared_ptr<CompletionQueue>& cq() const { return cq_; }
  uint64_t sleeps() const { return sleeps_; }

 private:
  CompletionWaiter(std::shared_ptr<CompletionQueue> cq, const Options& options);

  // Polls until something came or `end` is past; 0 in the latter case.
  absl::StatusOr<size_t> SpinUntil(Instant end, std::span<Completion> out,
                                   const Cancellation* cancel);
  absl::StatusOr<size_t> Sleep(std::span<Completion> out,
                               const Deadline& deadline,
                               const Cancellation* cancel);

  std::shared_ptr<CompletionQueue> cq_;
  Options options_;
  bool armed_ = false;  // an event is due for the next completion, or waits
  uint64_t sleeps_ = 0;
};

}  // namespace nd::verbs

#endif  // ND_VERBS_COMPLETION_WAITER_H_
