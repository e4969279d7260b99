// How many sessions a process sets up at a time.
#ifndef ND_CONTROL_SET_UP_LIMIT_H_
#define ND_CONTROL_SET_UP_LIMIT_H_

#include <cstddef>
#include <list>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/wait.h"

namespace nd::control {

// Gives out so many permits and no more; who waits is served in turn.
// Thread-safe; outlives its permits.
class SetUpLimit {
 public:
  explicit SetUpLimit(size_t most) : most_(most), free_(most) {}
  SetUpLimit(const SetUpLimit&) = delete;
  SetUpLimit& operator=(const SetUpLimit&) = delete;

  // The one that all of a process shares: 32 at a time.
  static SetUpLimit& OfProcess();

  // Given back when it is destroyed.
  class Permit {
   public:
    Permit() = default;
    Permit(Permit&& other) noexcept
        : limit_(std::exchange(other.limit_, nullptr)) {}
    Permit& operator=(Permit&& other) noexcept {
      std::swap(limit_, other.limit_);
      return *this;
    }
    ~Permit() {
      if (limit_ != nullptr) limit_->GiveBack();
    }

   private:
    friend class SetUpLimit;
    explicit Permit(SetUpLimit* limit) : limit_(limit) {}
    SetUpLimit* limit_ = nullptr;
  };

  // RESOURCE_EXHAUSTED names the limit when the deadline passes; CANCELLED.
  absl::StatusOr<Permit> Acquire(const Deadline& deadline,
                                 const Cancellation* cancel);

  size_t waiting() const;

 private:
  struct Waiter {
    Fd served;  // readable once it is
    bool is_served = false;
  };

  void GiveBack();
  void PassOn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t most_;
  mutable absl::Mutex mutex_;
  size_t free_ ABSL_GUARDED_BY(mutex_);  // 0 while somebody waits
  std::list<Waiter*> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace nd::control

#endif  // ND_CONTROL_SET_UP_LIMIT_H_
