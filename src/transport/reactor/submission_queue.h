// Work from any thread for one, without a bound and without a lock: who submits
// brings the memory.
#ifndef ND_TRANSPORT_REACTOR_SUBMISSION_QUEUE_H_
#define ND_TRANSPORT_REACTOR_SUBMISSION_QUEUE_H_

#include <atomic>
#include <utility>

#include "nd/operation.h"

namespace nd::transport {

class SubmissionQueue {
 public:
  // Any thread. What it did before is visible to what runs; the submissions of
  // a thread run in its order. A submission is in a queue at most once.
  void Push(Submission& submission) {
    Submission* newest = newest_.load(std::memory_order_relaxed);
    do {
      submission.next_ = newest;
    } while (!newest_.compare_exchange_weak(newest, &submission,
                                            std::memory_order_seq_cst,
                                            std::memory_order_relaxed));
  }

  // The consumer's thread. Ordered with Push: of a flag that is set before this
  // and read after Push, one side sees what the other did.
  bool empty() const {
    return newest_.load(std::memory_order_seq_cst) == nullptr;
  }

  // Runs what is there, the oldest first; whether there was anything.
  bool RunAll() {
    if (newest_.load(std::memory_order_relaxed) == nullptr) return false;
    Submission* newest = newest_.exchange(nullptr, std::memory_order_acquire);
    Submission* oldest = nullptr;
    while (newest != nullptr) {
      Submission* const next = std::exchange(newest->next_, oldest);
      oldest = std::exchange(newest, next);
    }
    while (oldest != nullptr) {
      Submission& submission = *oldest;
      oldest = std::exchange(submission.next_, nullptr);
      submission.run_(submission);
    }
    return true;
  }

 private:
  std::atomic<Submission*> newest_{nullptr};
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_REACTOR_SUBMISSION_QUEUE_H_
