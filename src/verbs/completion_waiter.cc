#include "verbs/completion_waiter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::verbs {
namespace {

constexpr std::pair<WaitMode, absl::string_view> kNames[] = {
    {WaitMode::kBusy, "busy"},
    {WaitMode::kEvent, "event"},
    {WaitMode::kAdaptive, "adaptive"},
};

}  // namespace

absl::string_view ToString(WaitMode mode) {
  for (const auto& [value, name] : kNames) {
    if (value == mode) return name;
  }
  return "unknown";
}

absl::StatusOr<WaitMode> ParseWaitMode(absl::string_view text) {
  for (const auto& [value, name] : kNames) {
    if (name == text) return value;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is not one of busy, event, adaptive"));
}

absl::StatusOr<CompletionWaiter> CompletionWaiter::Create(
    std::shared_ptr<CompletionQueue> cq, const Options& options) {
  if (options.mode != WaitMode::kBusy && cq->channel() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("waiting in ", ToString(options.mode),
                     " mode needs a completion queue with a channel"));
  }
  return CompletionWaiter(std::move(cq), options);
}

CompletionWaiter::CompletionWaiter(std::shared_ptr<CompletionQueue> cq,
                                   const Options& options)
    : cq_(std::move(cq)), options_(options) {}

absl::StatusOr<size_t> CompletionWaiter::Wait(std::span<Completion> out,
                                              const Deadline& deadline,
                                              const Cancellation* cancel) {
  switch (options_.mode) {
    case WaitMode::kBusy: {
      absl::StatusOr<size_t> count = SpinUntil(deadline.at(), out, cancel);
      if (count.ok() && *count == 0) return absl::DeadlineExceededError("");
      return count;
    }
    case WaitMode::kEvent: {
      absl::StatusOr<size_t> count = cq_->Poll(out);
      if (!count.ok() || *count > 0) return count;
      return Sleep(out, deadline, cancel);
    }
    case WaitMode::kAdaptive: {
      const Instant spin_end = options_.clock->Now() + options_.spin;
      absl::StatusOr<size_t> count =
          SpinUntil(std::min(spin_end, deadline.at()), out, cancel);
      if (!count.ok() || *count > 0) return count;
      return Sleep(out, deadline, cancel);
    }
  }
  return absl::InternalError("not a wait mode");
}

absl::StatusOr<size_t> CompletionWaiter::SpinUntil(Instant end,
                                                   std::span<Completion> out,
                                                   const Cancellation* cancel) {
  for (;;) {
    for (int i = 0; i < options_.polls_per_check; ++i) {
      absl::StatusOr<size_t> count = cq_->Poll(out);
      if (!count.ok() || *count > 0) return count;
    }
    if (cancel != nullptr && cancel->cancelled()) return absl::CancelledError();
    if (options_.clock->Now() >= end) return size_t{0};
  }
}

absl::StatusOr<size_t> CompletionWaiter::Sleep(std::span<Completion> out,
                                               const Deadline& deadline,
                                               const Cancellation* cancel) {
  for (;;) {
    if (!armed_) {
      ND_RETURN_IF_ERROR(cq_->Arm());
      armed_ = true;
      // What came since the last poll makes no event: look once more.
      absl::StatusOr<size_t> count = cq_->Poll(out);
      if (!count.ok() || *count > 0) return count;
    }
    ++sleeps_;
    ND_RETURN_IF_ERROR(WaitReadable(cq_->channel()->fd(), deadline, cancel));
    ND_ASSIGN_OR_RETURN(const bool event, cq_->TakeEvent());
    if (!event) continue;
    armed_ = false;
    absl::StatusOr<size_t> count = cq_->Poll(out);
    if (!count.ok() || *count > 0) return count;
  }
}

}  // namespace nd::verbs
