// What an application has under way: sends, receives, one-sided access.
#ifndef ND_OPERATION_H_
#define ND_OPERATION_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "nd/region.h"

namespace nd {

namespace transport {

struct OperationAccess;
class OperationQueue;
class SessionCore;
class Stream;
class TimedOperations;

// Work for a reactor's thread, in memory of who submits it.
class Submission {
 public:
  // The submission is its owner's again when it is called.
  using Run = void (*)(Submission& self);

  Submission() = default;
  explicit Submission(Run run) : run_(run) {}
  Submission(const Submission&) = delete;
  Submission& operator=(const Submission&) = delete;

 private:
  friend struct OperationAccess;
  friend class SubmissionQueue;
  friend class TimedOperations;

  Run run_ = nullptr;
  Submission* next_ = nullptr;
};

}  // namespace transport

// One operation, in memory of the application's: starting one allocates
// nothing. From its start until it is done the operation, and the memory that
// it names, belong to the session; an operation that is done can be started
// again. It ends exactly once, on the thread of the session's reactor, with a
// Status that says what became of it.
//
// DEADLINE_EXCEEDED and CANCELLED come as soon as the memory is the
// application's again: at once where nothing is on the wire, else when the
// device and the peer have let go of it, a round trip later or, where the peer
// is silent, after the keepalive time.
class Operation : private transport::Submission {
 public:
  using Callback = void (*)(Operation& operation, void* context);

  Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  // Both only while it is not under way.
  void OnDone(Callback callback, void* context) {
    callback_ = callback;
    context_ = context;
  }
  void set_deadline(std::chrono::steady_clock::time_point deadline) {
    deadline_ = deadline;
  }

  bool done() const {
    return state_.load(std::memory_order_acquire) == State::kDone;
  }
  // It was started and is not done.
  bool pending() const {
    const State state = state_.load(std::memory_order_acquire);
    return state == State::kSubmitted || state == State::kStarted;
  }
  // Of an operation that is done.
  const absl::Status& status() const { return status_; }

  // Waits until it is done. Not on the reactor's thread.
  void Wait() const;

 protected:
  explicit Operation(bool is_access) : is_access_(is_access) {}
  ~Operation() = default;

 private:
  friend struct transport::OperationAccess;
  friend class transport::OperationQueue;
  friend class transport::TimedOperations;

  enum class State : uint32_t { kIdle, kSubmitted, kStarted, kDone };

  const bool is_access_ = false;  // an AccessOperation
  std::atomic<State> state_{State::kIdle};
  Callback callback_ = nullptr;
  void* context_ = nullptr;
  std::chrono::steady_clock::time_point deadline_ =
      std::chrono::steady_clock::time_point::max();
  std::chrono::steady_clock::time_point started_at_{};
  absl::Status status_;
  // Where it stands: in a queue, in the list of those with a deadline, with its
  // stream.
  Operation* next_ = nullptr;
  Operation* previous_ = nullptr;
  transport::OperationQueue* queue_ = nullptr;
  Operation* timed_next_ = nullptr;
  Operation* timed_previous_ = nullptr;
  transport::Stream* stream_ = nullptr;
};

// Memory that a message comes from. Where it is not registered
// (RegisteredMemory::Source) a short message is copied; for a long one it is
// registered, which allocates.
struct SendPiece {
  std::span<const std::byte> bytes;
  uint32_t lkey = 0;
  bool registered = false;
};

class SendOperation : public Operation {
 public:
  // The message: these pieces, one behind the other.
  void set_pieces(std::span<const SendPiece> pieces) { pieces_ = pieces; }
  void set_piece(const SendPiece& piece) {
    one_ = piece;
    pieces_ = {&one_, 1};
  }
  std::span<const SendPiece> pieces() const { return pieces_; }
  uint64_t size() const {
    uint64_t size = 0;
    for (const SendPiece& piece : pieces_) size += piece.bytes.size();
    return size;
  }

 private:
  std::span<const SendPiece> pieces_;
  SendPiece one_;
};

// A message that was received, on loan: the memory goes back to the session
// when it is dropped. That may be done on any thread, before the reactor of its
// session is destroyed.
class Message {
 public:
  Message() = default;
  Message(Message&& other) noexcept { *this = std::move(other); }
  Message& operator=(Message&& other) noexcept {
    if (this == &other) return *this;
    Drop();
    bytes_ = std::exchange(other.bytes_, {});
    notification_ = std::exchange(other.notification_, {});
    stream_ = std::exchange(other.stream_, nullptr);
    index_ = other.index_;
    return *this;
  }
  ~Message() { Drop(); }

  std::span<const std::byte> bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  // Where it has no bytes of its own, but says what the peer has written.
  const std::optional<Notification>& notification() const {
    return notification_;
  }
  void Drop();

 private:
  friend struct transport::OperationAccess;

  std::span<const std::byte> bytes_;
  std::optional<Notification> notification_;
  transport::Stream* stream_ = nullptr;
  uint64_t index_ = 0;
};

class ReceiveOperation : public Operation {
 public:
  // Where the message goes, or, by default, nowhere: then it is loaned.
  // Registered memory (RegisteredMemory::Target) is filled by the peer's WRITEs
  // directly.
  struct Into {
    std::span<std::byte> bytes;
    uint32_t rkey = 0;
    bool registered = false;
  };
  void set_into(const Into& into) {
    into_ = into;
    loan_ = false;
  }
  void set_loan() { loan_ = true; }
  bool loan() const { return loan_; }
  const Into& into() const { return into_; }

  // Of one that is done: bytes received; with FAILED_PRECONDITION, bytes that
  // the next message needs.
  uint64_t size() const { return size_; }
  // A notification comes in its place among the messages, also where `into` is
  // set.
  Message& message() { return message_; }

 private:
  friend struct transport::OperationAccess;

  Into into_;
  bool loan_ = true;
  uint64_t size_ = 0;
  Message message_;
};

// Reads or changes a region of the peer's, of which the peer's program notices
// nothing. Those that are under way at a time are in no order among themselves,
// nor with messages: what depends on another one is started when that is done.
// Up to the eager limit they travel by the connections of the latency class,
// longer ones by all of the bulk class.
//
// After the loss of a connection reads and writes are done again. An atomic
// ends with UNKNOWN where it cannot be known whether it was executed.
// PERMISSION_DENIED: the region, or the peer's device, does not allow it.
class AccessOperation : public Operation {
 public:
  enum class Kind { kRead, kWrite, kFetchAdd, kCompareSwap };
  // Memory of this side's. Where it is not registered (RegisteredMemory::Sink)
  // short ranges are copied; others are registered for as long as it is under
  // way.
  struct Memory {
    std::span<std::byte> bytes;
    uint32_t lkey = 0;
    bool registered = false;
  };

  AccessOperation() : Operation(true) {}

  // `offset` is in the region, bytes.
  void set_read(const RemoteRegion& region, uint64_t offset,
                const Memory& into) {
    Set(Kind::kRead, region, offset, into);
  }
  void set_write(const RemoteRegion& region, uint64_t offset,
                 const SendPiece& from) {
    Set(Kind::kWrite, region, offset,
        {{const_cast<std::byte*>(from.bytes.data()), from.bytes.size()},
         from.lkey,
         from.registered});
  }
  // On 8 bytes in this host's byte order, at a multiple of 8 in the peer's
  // memory. They are atomic towards each other, not towards the peer's CPU.
  void set_fetch_add(const RemoteRegion& region, uint64_t offset,
                     uint64_t add) {
    Set(Kind::kFetchAdd, region, offset, {});
    operand_ = add;
  }
  void set_compare_swap(const RemoteRegion& region, uint64_t offset,
                        uint64_t expected, uint64_t desired) {
    Set(Kind::kCompareSwap, region, offset, {});
    operand_ = expected;
    swap_ = desired;
  }
  // What the peer gets with the notification (Stream::WriteWithImmediate).
  void set_immediate(uint32_t immediate) { immediate_ = immediate; }

  Kind kind() const { return kind_; }
  const RemoteRegion& region() const { return region_; }
  uint64_t offset() const { return offset_; }
  uint64_t size() const { return is_atomic() ? 8 : memory_.bytes.size(); }
  bool is_atomic() const {
    return kind_ == Kind::kFetchAdd || kind_ == Kind::kCompareSwap;
  }
  // Of an atomic that is done: what was there before.
  uint64_t value() const { return value_; }

 private:
  friend struct transport::OperationAccess;

  void Set(Kind kind, const RemoteRegion& region, uint64_t offset,
           const Memory& memory) {
    kind_ = kind;
    region_ = region;
    offset_ = offset;
    memory_ = memory;
  }

  Kind kind_ = Kind::kRead;
  RemoteRegion region_;
  uint64_t offset_ = 0;
  Memory memory_;
  uint64_t operand_ = 0;  // to add, or expected
  uint64_t swap_ = 0;
  uint32_t immediate_ = 0;
  uint64_t value_ = 0;
  transport::SessionCore* session_ = nullptr;
};

// Waits for a stream that the peer opens.
class AcceptOperation : public Operation {
 private:
  friend struct transport::OperationAccess;
  transport::Stream* accepted_ = nullptr;
};

}  // namespace nd

#endif  // ND_OPERATION_H_
