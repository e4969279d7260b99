// Takes a test's completions in the way that its CQ mode says.
#ifndef ND_NDPING_ENGINE_CQ_READER_H_
#define ND_NDPING_ENGINE_CQ_READER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/wait.h"
#include "nd/v1/harness.pb.h"
#include "verbs/completion.h"
#include "verbs/completion_waiter.h"

namespace nd::ndping {

verbs::WaitMode WaitModeOf(v1::CqMode mode);

// One thread. Only completions of success are handed out: the first one that
// failed is returned as the error that it is. What is handed out is valid until
// the next call.
class CqReader {
 public:
  using Batch = std::span<const verbs::Completion>;

  static absl::StatusOr<std::unique_ptr<CqReader>> Create(
      std::shared_ptr<verbs::CompletionQueue> cq, v1::CqMode mode);

  // What is there now.
  absl::StatusOr<Batch> Poll() {
    const absl::StatusOr<size_t> count = Look();
    if (!count.ok()) return count.status();
    return Judge(*count);
  }

  // Waits until something comes, but only a while, `at_most` or less, so that
  // the caller can look at what else there is: then the batch is empty. In busy
  // mode a wait shorter than kSlice is one poll. CANCELLED when `cancel` says
  // so.
  static constexpr Duration kSlice = std::chrono::milliseconds(100);
  absl::StatusOr<Batch> Wait(Duration at_most, const Cancellation* cancel) {
    if (waiter_.mode() != verbs::WaitMode::kBusy) return Sleep(at_most, cancel);
    return at_most < kSlice ? Poll() : Spin(cancel);
  }

  // The failure of a request of this side's that is there or comes within
  // moments, else `otherwise`. What else comes meanwhile is lost.
  absl::Status AwaitCause(absl::Status otherwise);

 private:
  // Where there are fewer processors than threads that spin, the one that is
  // waited for, or the kernel's own thread that moves rxe's packets, has to run
  // some time. Far above the polls that an answer of a NIC takes.
  static constexpr uint64_t kPatience = 2048;

  explicit CqReader(verbs::CompletionWaiter waiter)
      : waiter_(std::move(waiter)) {}

  // Fills the batch and says how many there are.
  absl::StatusOr<size_t> Look() {
    absl::StatusOr<size_t> count = waiter_.Poll(batch_);
    if (!count.ok() || *count > 0) {
      fruitless_ = 0;
    } else if (++fruitless_ >= kPatience) {
      Yield();
    }
    return count;
  }
  absl::StatusOr<Batch> Spin(const Cancellation* cancel);
  absl::StatusOr<Batch> Sleep(Duration at_most, const Cancellation* cancel);
  void Yield();

  absl::StatusOr<Batch> Judge(size_t count) {
    const Batch batch(batch_.data(), count);
    for (const verbs::Completion& completion : batch) {
      if (!completion.ok()) [[unlikely]]
        return CauseOf(completion);
    }
    return batch;
  }
  absl::Status CauseOf(const verbs::Completion& failed);

  verbs::CompletionWaiter waiter_;
  uint64_t fruitless_ = 0;
  std::array<verbs::Completion, 32> batch_;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_CQ_READER_H_
