#include "transport/session/operations.h"

#include <atomic>
#include <cassert>
#include <cstdint>
#include <thread>

#include "absl/base/attributes.h"
#include "base/asymmetric_barrier.h"

namespace nd {
namespace {

// At an operation, before a thread sleeps for it.
constexpr int kLooks = 16;

// Threads of the process that sleep in Operation::Wait.
std::atomic<uint32_t> g_waiting{0};

}  // namespace

void Operation::Wait() const {
  // Mostly it is done within moments, and there is nobody to wake.
  for (int i = 0; i < kLooks && pending(); ++i) std::this_thread::yield();
  if (!pending()) return;
  g_waiting.fetch_add(1, std::memory_order_relaxed);
  HeavyBarrier();  // Finish has the light one
  for (;;) {
    const State state = state_.load(std::memory_order_acquire);
    if (state != State::kSubmitted && state != State::kStarted) break;
    state_.wait(state, std::memory_order_acquire);
  }
  g_waiting.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace nd

namespace nd::transport {

ABSL_ATTRIBUTE_HOT void OperationQueue::Add(Operation& operation) {
  assert(operation.queue_ == nullptr);
  operation.queue_ = this;
  operation.previous_ = last_;
  operation.next_ = nullptr;
  (last_ == nullptr ? first_ : last_->next_) = &operation;
  last_ = &operation;
}

void OperationQueue::AddFirst(Operation& operation) {
  assert(operation.queue_ == nullptr);
  operation.queue_ = this;
  operation.previous_ = nullptr;
  operation.next_ = first_;
  (first_ == nullptr ? last_ : first_->previous_) = &operation;
  first_ = &operation;
}

ABSL_ATTRIBUTE_HOT void OperationQueue::Remove(Operation& operation) {
  OperationQueue* const queue = std::exchange(operation.queue_, nullptr);
  if (queue == nullptr) return;
  (operation.previous_ == nullptr ? queue->first_
                                  : operation.previous_->next_) =
      operation.next_;
  (operation.next_ == nullptr ? queue->last_ : operation.next_->previous_) =
      operation.previous_;
  operation.next_ = operation.previous_ = nullptr;
}

void TimedOperations::Add(Operation& operation) {
  static_cast<Submission&>(operation).next_ =
      std::exchange(unstamped_, &operation);
  if (operation.deadline_ == Instant::max()) return;
  operation.timed_next_ = first_;
  operation.timed_previous_ = nullptr;
  if (first_ != nullptr) first_->timed_previous_ = &operation;
  first_ = &operation;
  earliest_ = std::min(earliest_, operation.deadline_);
}

void TimedOperations::Remove(Operation& operation) {
  if (operation.timed_next_ != nullptr) {
    operation.timed_next_->timed_previous_ = operation.timed_previous_;
  }
  if (operation.timed_previous_ != nullptr) {
    operation.timed_previous_->timed_next_ = operation.timed_next_;
  } else if (first_ == &operation) {
    first_ = operation.timed_next_;
  }
  operation.timed_next_ = operation.timed_previous_ = nullptr;
}

void TimedOperations::Stamp(Instant now) {
  while (unstamped_ != nullptr) {
    unstamped_->started_at_ = now;
    Submission* const next =
        std::exchange(static_cast<Submission&>(*unstamped_).next_, nullptr);
    unstamped_ = static_cast<Operation*>(next);
  }
}

void OperationAccess::Start(Operation& operation, Stream* stream) {
  assert(!started(operation) && operation.queue_ == nullptr);
  operation.status_ = absl::OkStatus();
  operation.stream_ = stream;
  operation.state_.store(Operation::State::kStarted, std::memory_order_relaxed);
}

Submission& OperationAccess::Submit(Operation& operation, Stream* stream,
                                    Submission::Run run) {
  assert(!started(operation));
  operation.stream_ = stream;
  operation.run_ = run;
  operation.state_.store(Operation::State::kSubmitted,
                         std::memory_order_relaxed);
  return operation;
}

// Whoever waits may destroy it once it is done. That somebody waits is mostly
// not so, and looked at without a barrier of this thread's: it would wait until
// all that the thread has stored before is seen.
ABSL_ATTRIBUTE_HOT void OperationAccess::Finish(Operation& operation) {
  assert(operation.queue_ == nullptr);
  const Operation::Callback callback = operation.callback_;
  void* const context = operation.context_;
  std::atomic<Operation::State>& state = operation.state_;
  state.store(Operation::State::kDone, std::memory_order_release);
  LightBarrier();
  if (g_waiting.load(std::memory_order_relaxed) != 0) [[unlikely]] {
    FullBarrier();  // notify_all has none
    state.notify_all();
  }
  if (callback != nullptr) callback(operation, context);
}

}  // namespace nd::transport
