// Operations from the session's side.
#ifndef ND_TRANSPORT_SESSION_OPERATIONS_H_
#define ND_TRANSPORT_SESSION_OPERATIONS_H_

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "base/clock.h"
#include "nd/operation.h"

namespace nd::transport {

class SessionCore;

// Operations in the order they were added. They must not be destroyed while
// they are in it.
class OperationQueue {
 public:
  OperationQueue() = default;
  OperationQueue(const OperationQueue&) = delete;
  OperationQueue& operator=(const OperationQueue&) = delete;

  bool empty() const { return first_ == nullptr; }
  Operation* first() const { return first_; }
  static Operation* Next(const Operation& operation) { return operation.next_; }

  void Add(Operation& operation);
  void AddFirst(Operation& operation);
  // No effect on one that is in no queue.
  static void Remove(Operation& operation);
  static const OperationQueue* QueueOf(const Operation& operation) {
    return operation.queue_;
  }

 private:
  Operation* first_ = nullptr;
  Operation* last_ = nullptr;
};

// Operations under way: since when, and those that have a deadline, in no
// order.
class TimedOperations {
 public:
  TimedOperations() = default;
  TimedOperations(const TimedOperations&) = delete;
  TimedOperations& operator=(const TimedOperations&) = delete;

  // It has begun: when, Stamp says. It must not be destroyed before that.
  void Add(Operation& operation);
  void Remove(Operation& operation);  // no effect on one that is not in it
  // What was added since the last time began now: it takes no clock.
  void Stamp(Instant now);

  // No deadline passes before this.
  Instant earliest() const { return earliest_; }
  // Calls expired(operation) for each whose deadline has passed.
  template <typename Expired>
  void Expire(Instant now, Expired expired) {
    if (now < earliest_) return;
    earliest_ = Instant::max();
    for (Operation* operation = first_; operation != nullptr;) {
      Operation* const next = operation->timed_next_;
      if (operation->deadline_ <= now) {
        Remove(*operation);
        expired(*operation);
      } else {
        earliest_ = std::min(earliest_, operation->deadline_);
      }
      operation = next;
    }
  }

 private:
  Operation* unstamped_ = nullptr;  // linked as submissions, which they were
  Operation* first_ = nullptr;
  Instant earliest_ = Instant::max();
};

// What an application does not see of an operation.
struct OperationAccess {
  static Instant deadline(const Operation& operation) {
    return operation.deadline_;
  }
  // It is under way from now on, on this stream.
  static void Start(Operation& operation, Stream* stream);
  // The same for an operation that another thread has still to start: `run` is
  // called there with what Submitted knows.
  static Submission& Submit(Operation& operation, Stream* stream,
                            Submission::Run run);
  static Operation& Submitted(Submission& submission) {
    return static_cast<Operation&>(submission);
  }
  static bool started(const Operation& operation) {
    return operation.state_.load(std::memory_order_relaxed) ==
           Operation::State::kStarted;
  }
  static Instant started_at(const Operation& operation) {
    return operation.started_at_;
  }
  static Stream* stream(const Operation& operation) {
    return operation.stream_;
  }
  // How it will end, once Finish is called.
  static void Decide(Operation& operation, absl::Status status) {
    operation.status_ = std::move(status);
  }
  // Ends it as decided; the last that is done with it, for it may be gone then.
  static void Finish(Operation& operation);

  static void SetAccepted(AcceptOperation& operation, Stream& stream) {
    operation.accepted_ = &stream;
  }
  static Stream* TakeAccepted(AcceptOperation& operation) {
    return std::exchange(operation.accepted_, nullptr);
  }
  static bool is_access(const Operation& operation) {
    return operation.is_access_;
  }
  static const AccessOperation::Memory& memory(
      const AccessOperation& operation) {
    return operation.memory_;
  }
  static uint64_t operand(const AccessOperation& operation) {
    return operation.operand_;
  }
  static uint64_t swap(const AccessOperation& operation) {
    return operation.swap_;
  }
  static uint32_t immediate(const AccessOperation& operation) {
    return operation.immediate_;
  }
  // Whose it is, for its start on that one's thread.
  static void SetSession(AccessOperation& operation, SessionCore& session) {
    operation.session_ = &session;
  }
  static SessionCore* session(const AccessOperation& operation) {
    return operation.session_;
  }
  static void SetValue(AccessOperation& operation, uint64_t value) {
    operation.value_ = value;
  }
  static void SetSize(ReceiveOperation& operation, uint64_t size) {
    operation.size_ = size;
  }
  static void SetMessage(ReceiveOperation& operation,
                         std::span<const std::byte> bytes, Stream& stream,
                         uint64_t index) {
    operation.message_.Drop();
    operation.message_.bytes_ = bytes;
    operation.message_.stream_ = &stream;
    operation.message_.index_ = index;
  }
  static void SetNotification(ReceiveOperation& operation,
                              const Notification& notification) {
    operation.message_.Drop();
    operation.message_.notification_ = notification;
  }
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_SESSION_OPERATIONS_H_
