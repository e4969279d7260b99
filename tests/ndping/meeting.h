// Both sides of a phase in one process.
#ifndef ND_TESTS_NDPING_MEETING_H_
#define ND_TESTS_NDPING_MEETING_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/wait.h"
#include "ndping/engine/test_side.h"

namespace nd::ndping {

inline constexpr int kClient = 0;
inline constexpr int kServer = 1;

// What the control plane does between the two sides of a phase.
class Meeting {
 public:
  Meeting() : cancel_(Cancellation::Create().value()) {}

  absl::StatusOr<v1::PhaseDone> Exchange(int side, const v1::PhaseDone& mine) {
    v1::PhaseDone told = mine;
    told.set_interrupted(mine.interrupted() || interrupted(side));
    MutexLock lock(&mutex_);
    done_[side] = std::move(told);
    is_done_[side] = true;
    changed_.SignalAll();
    return AwaitDone(1 - side);
  }

  absl::StatusOr<v1::PhaseDone> Await(int side) {
    MutexLock lock(&mutex_);
    return AwaitDone(side);
  }

  bool interrupted(int side) const {
    return interrupted_ && (side == kClient || is_done_[kClient]);
  }
  bool is_done(int side) const { return is_done_[side]; }
  void Interrupt() { interrupted_ = true; }
  Cancellation& cancel() { return cancel_; }

 private:
  absl::StatusOr<v1::PhaseDone> AwaitDone(int side)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Deadline deadline = Deadline::After(std::chrono::seconds(60));
    while (!is_done_[side]) {
      if (cancel_.cancelled()) return absl::CancelledError("cancelled");
      if (deadline.Passed()) return absl::DeadlineExceededError("no meeting");
      changed_.WaitWithTimeout(&mutex_, absl::Milliseconds(5));
    }
    return done_[side];
  }

  Cancellation cancel_;
  std::atomic<bool> interrupted_{false};
  std::array<std::atomic<bool>, 2> is_done_{};
  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::array<v1::PhaseDone, 2> done_;
};

class Control : public PhaseControl {
 public:
  Control(Meeting& meeting, int side) : meeting_(meeting), side_(side) {}

  absl::StatusOr<v1::PhaseDone> ExchangeDone(
      const v1::PhaseDone& mine) override {
    return meeting_.Exchange(side_, mine);
  }
  absl::Status AwaitPeerDone() override {
    awaits_ = waiting_ = true;
    return meeting_.Await(1 - side_).status();
  }
  bool interrupted() const override { return meeting_.interrupted(side_); }
  bool peer_done() const override {
    waiting_ = true;
    return meeting_.is_done(1 - side_);
  }
  const Cancellation* cancellation() const override {
    return &meeting_.cancel();
  }
  void OnMessage(uint64_t) override { ++paced_messages; }

  // Whether the phase's loop runs: it moves messages, or waits for the peer's.
  bool running() const { return messages > 0 || waiting_; }
  // It waits for the peer's word.
  bool awaits() const { return awaits_; }

  uint64_t paced_messages = 0;

 private:
  Meeting& meeting_;
  const int side_;
  mutable std::atomic<bool> waiting_{false};
  std::atomic<bool> awaits_{false};
};

}  // namespace nd::ndping

#endif  // ND_TESTS_NDPING_MEETING_H_
