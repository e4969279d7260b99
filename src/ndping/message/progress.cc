#include "ndping/message/progress.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "base/status.h"
#include "ndping/engine/cq_reader.h"

namespace nd::ndping {
namespace {

// Fruitless polls between two looks at what else there is.
constexpr int kPollsPerLook = 1024;

// As CqReader's: where there are fewer processors than threads that spin, the
// one that is waited for has to run some time.
constexpr uint64_t kPatience = 2048;
constexpr uint64_t kPollsPerYield = 64;

Reactor::Progress ModeOf(v1::CqMode mode) {
  switch (mode) {
    case v1::CQ_MODE_EVENT:
      return Reactor::Progress::kEvent;
    case v1::CQ_MODE_ADAPTIVE:
      return Reactor::Progress::kAdaptive;
    case v1::CQ_MODE_BUSY:
    default:
      return Reactor::Progress::kBusy;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Progress>> Progress::Create(v1::CqMode mode) {
  const Reactor::Progress progress = ModeOf(mode);
  ND_ASSIGN_OR_RETURN(std::unique_ptr<Reactor> reactor,
                      Reactor::Create({.progress = progress}));
  return absl::WrapUnique(
      new Progress(progress == Reactor::Progress::kBusy, std::move(reactor)));
}

Progress::~Progress() { Take(); }

absl::Status Progress::Release() {
  if (released_) return absl::OkStatus();
  ND_RETURN_IF_ERROR(reactor_->Start());
  released_ = true;
  return absl::OkStatus();
}

void Progress::Take() {
  if (std::exchange(released_, false)) reactor_->Stop();
}

bool Progress::Poll() {
  if (reactor_->Poll()) {
    fruitless_ = 0;
    return true;
  }
  if (++fruitless_ >= kPatience && fruitless_ % kPollsPerYield == 0) {
    sched_yield();
  }
  return false;
}

absl::StatusOr<bool> Progress::Spin(const Cancellation* cancel) {
  for (int i = 0; i < kPollsPerLook; ++i) {
    if (Poll()) return true;
  }
  if (cancel != nullptr && cancel->cancelled()) return absl::CancelledError("");
  return false;
}

absl::StatusOr<bool> Progress::Turn(Duration at_most,
                                    const Cancellation* cancel) {
  if (busy_) return at_most < CqReader::kSlice ? Poll() : Spin(cancel);
  if (Poll()) return true;
  const std::optional<Instant> wake = reactor_->PrepareToSleep();
  if (!wake.has_value()) {
    return at_most < CqReader::kSlice ? false : Spin(cancel);
  }
  const Duration patience = std::min(
      {at_most, CqReader::kSlice, Duration(*wake - Clock::Monotonic().Now())});
  const absl::Status waited =
      WaitReadable(reactor_->fd(), Deadline::After(patience), cancel);
  if (!waited.ok() && !absl::IsDeadlineExceeded(waited)) return waited;
  return Poll();
}

}  // namespace nd::ndping
