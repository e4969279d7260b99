#include "ndping/engine/cq_reader.h"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "absl/memory/memory.h"
#include "base/status.h"

namespace nd::ndping {
namespace {

// Fruitless polls between two looks at what else there is.
constexpr int kPollsPerLook = 1024;

// And, once patience is at an end, between two offers of the processor.
constexpr uint64_t kPollsPerYield = 64;

// How long the failure that made a flush, or a peer's end, is waited for.
constexpr auto kCauseWait = std::chrono::milliseconds(50);

}  // namespace

verbs::WaitMode WaitModeOf(v1::CqMode mode) {
  switch (mode) {
    case v1::CQ_MODE_EVENT:
      return verbs::WaitMode::kEvent;
    case v1::CQ_MODE_ADAPTIVE:
      return verbs::WaitMode::kAdaptive;
    case v1::CQ_MODE_BUSY:
    default:
      return verbs::WaitMode::kBusy;
  }
}

absl::StatusOr<std::unique_ptr<CqReader>> CqReader::Create(
    std::shared_ptr<verbs::CompletionQueue> cq, v1::CqMode mode) {
  ND_ASSIGN_OR_RETURN(verbs::CompletionWaiter waiter,
                      verbs::CompletionWaiter::Create(
                          std::move(cq), {.mode = WaitModeOf(mode)}));
  return absl::WrapUnique(new CqReader(std::move(waiter)));
}

absl::StatusOr<CqReader::Batch> CqReader::Spin(const Cancellation* cancel) {
  for (int i = 0; i < kPollsPerLook; ++i) {
    const absl::StatusOr<size_t> count = Look();
    if (!count.ok()) return count.status();
    if (*count > 0) return Judge(*count);
  }
  if (cancel != nullptr && cancel->cancelled()) return absl::CancelledError("");
  return Batch();
}

absl::StatusOr<CqReader::Batch> CqReader::Sleep(Duration at_most,
                                                const Cancellation* cancel) {
  // What is there is taken without a look at the clock.
  absl::StatusOr<size_t> count = waiter_.Poll(batch_);
  if (count.ok() && *count == 0) {
    count = waiter_.Wait(batch_, Deadline::After(std::min(at_most, kSlice)),
                         cancel);
  }
  if (absl::IsDeadlineExceeded(count.status())) return Batch();
  if (!count.ok()) return count.status();
  return Judge(*count);
}

void CqReader::Yield() {
  if (fruitless_ % kPollsPerYield == 0) sched_yield();
}

// A QP in error flushes what it holds, and the receives may come back before
// the request that failed: the flush is not the cause.
absl::Status CqReader::CauseOf(const verbs::Completion& failed) {
  absl::Status status = failed.ToStatus();
  if (failed.status != IBV_WC_WR_FLUSH_ERR) return status;
  return AwaitCause(std::move(status));
}

absl::Status CqReader::AwaitCause(absl::Status otherwise) {
  const Deadline deadline = Deadline::After(kCauseWait);
  for (bool last = false;;) {
    for (const verbs::Completion& completion : batch_) {
      if (!completion.ok() && completion.status != IBV_WC_WR_FLUSH_ERR) {
        return completion.ToStatus();
      }
    }
    if (last) return otherwise;
    // A thread that was kept from running this long still looks once.
    last = deadline.Passed();
    batch_ = {};
    ND_RETURN_IF_ERROR(waiter_.Poll(batch_));
    std::this_thread::yield();
  }
}

}  // namespace nd::ndping
