#include "transport/session/stream.h"

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "transport/session/session_core.h"

namespace nd {

ABSL_ATTRIBUTE_HOT void Message::Drop() {
  bytes_ = {};
  notification_.reset();
  if (stream_ != nullptr) std::exchange(stream_, nullptr)->Drop(index_);
}

}  // namespace nd

namespace nd::transport {

// What may still be sent behind what is there; else the operation is done.
bool Stream::MaySend(Operation& operation) {
  OperationAccess::Start(operation, this);
  core_.events_.OnCall();
  if (!end_.ok()) [[unlikely]] {
    core_.Done(operation, end_);
    return false;
  }
  if (finishing_ || closed_ || core_.leaving_) [[unlikely]] {
    core_.Done(operation, absl::FailedPreconditionError(
                              "a message behind the end of the stream"));
    return false;
  }
  return true;
}

void Stream::AddToSend(Operation& operation) {
  to_send_.Add(operation);
  core_.timed_.Add(operation);
  core_.MakeReady(*this);
}

void Stream::WriteWithImmediate(AccessOperation& operation) {
  if (!MaySend(operation)) return;
  absl::Status checked = SessionCore::CheckNotified(operation);
  if (!checked.ok()) return core_.Done(operation, std::move(checked));
  AddToSend(operation);
}

ABSL_ATTRIBUTE_HOT void Stream::Send(SendOperation& operation) {
  if (!MaySend(operation)) [[unlikely]]
    return;
  if (operation.size() + kMessageCost > core_.layout_.stream_window &&
      operation.size() <= core_.layout_.eager_limit) [[unlikely]] {
    return core_.Done(operation, absl::InvalidArgumentError(absl::StrCat(
                                     "a message of ", operation.size(),
                                     " bytes never fits into a window of ",
                                     core_.layout_.stream_window)));
  }
  AddToSend(operation);
}

ABSL_ATTRIBUTE_HOT void Stream::Receive(ReceiveOperation& operation) {
  OperationAccess::Start(operation, this);
  core_.events_.OnCall();
  if (!end_.ok()) [[unlikely]]
    return core_.Done(operation, end_);
  if (closed_) [[unlikely]] {
    return core_.Done(operation,
                      absl::FailedPreconditionError("the stream is closed"));
  }
  core_.timed_.Add(operation);
  receiving_.Receive(operation);
  AfterReceive();
}

void Stream::Cancel(Operation& operation) {
  core_.events_.OnCall();
  Cancel(operation, absl::CancelledError("the operation was cancelled"));
}

void Stream::Cancel(Operation& operation, absl::Status why) {
  if (OperationQueue::QueueOf(operation) == &to_send_) {
    core_.DropUnsent(operation, std::move(why));
    core_.MakeReady(*this);  // what was behind it
    return;
  }
  for (SessionCore::Outgoing& transfer : core_.outgoing_) {
    if (transfer.operation == &operation) {
      return core_.GiveUp(transfer, std::move(why));
    }
  }
  receiving_.Cancel(operation, std::move(why));
  AfterReceive();
}

void Stream::Finish() {
  finishing_ = true;
  core_.MakeReady(*this);
  core_.events_.OnCall();
}

void Stream::Reset(const absl::Status& why) {
  if (!end_.ok() || core_.state_ != SessionCore::State::kOpen) return;
  reset_text_ = std::string(why.message());
  core_.QueueEntry(this, message_class_, FrameType::kReset);
  core_.End(*this, why);
  core_.events_.OnCall();
}

void Stream::Close() {
  closed_ = true;
  if (core_.state_ == SessionCore::State::kEnded) {
    if (end_.ok()) end_ = core_.EndReason();
    receiving_.End(end_, true);
  } else if (!finishing_) {
    Reset(absl::AbortedError("the application has closed the stream"));
  } else if (end_.ok() && !receiving_.finished()) {
    receiving_.End(absl::AbortedError("the stream is closed"), false);
  }
  core_.MaybeForget(*this);
  core_.events_.OnCall();
}

ABSL_ATTRIBUTE_HOT void Stream::Drop(uint64_t number) {
  if (!core_.events_.TakeRelease(*this, number)) Release(number);
}

ABSL_ATTRIBUTE_HOT void Stream::Release(uint64_t number) {
  core_.events_.OnCall();
  receiving_.Release(number);
  AfterReceive();
  core_.MaybeForget(*this);
}

// Tells the peer what the application has taken, and comes again where memory
// was wanting.
ABSL_ATTRIBUTE_HOT void Stream::AfterReceive() {
  if (core_.state_ != SessionCore::State::kOpen || !end_.ok()) [[unlikely]]
    return;
  if (receiving_.LimitIsNews() && !window_queued_) {
    window_queued_ = true;
    core_.QueueEntry(this, message_class_, FrameType::kWindow);
  }
  core_.SetStall(receive_stall_, receiving_.lack());
  if (receiving_.stalled() && !memory_wanted_) [[unlikely]] {
    memory_wanted_ = true;
    core_.want_memory_.push_back(this);
  }
}

void Stream::SlotReturned(ReceiveSlot& slot) {
  core_.free_slots_.push_back(&slot);
}

void Stream::FreeBuffer(const Registered& buffer) {
  core_.memory_.Free(buffer);
  --core_.lent_;
  if (!core_.want_memory_.empty()) core_.retry_memory_ = true;
}

void Stream::Unregister(const Registered& memory) {
  core_.memory_.Unregister(memory);
}

ABSL_ATTRIBUTE_HOT void Stream::Done(Operation& operation,
                                     absl::Status status) {
  if (status.ok()) {
    const uint64_t size =
        static_cast<const ReceiveOperation&>(operation).size();
    for (Traffic* const received :
         {&counters_.received,
          &core_.LaneOf(message_class_).counters.received}) {
      ++received->messages;
      received->bytes += size;
    }
  }
  core_.Done(operation, std::move(status));
}

bool Stream::Grant(uint64_t number, const Registered& memory,
                   const ReceiveSide::Transfer& transfer) {
  return core_.GrantTransfer(*this, number, memory, transfer);
}

void Stream::Revoke(uint64_t number) { core_.RevokeTransfer(*this, number); }

absl::StatusOr<Registered> Stream::Allocate(uint64_t size, bool ahead) {
  if (ahead && core_.ahead_ + size > core_.options_.ahead_bytes) {
    // It comes with many a message: a copy of it takes nothing from the heap.
    static const absl::Status& enough = *new absl::Status(
        absl::StatusCode::kResourceExhausted, "enough is granted ahead");
    return enough;
  }
  absl::StatusOr<Registered> buffer = core_.memory_.Allocate(size);
  if (!buffer.ok()) {
    return core_.MayComeBack(buffer.status())
               ? buffer.status()
               : absl::OutOfRangeError(buffer.status().message());
  }
  ++core_.lent_;
  if (ahead) core_.ahead_ += size;
  return buffer;
}

void Stream::Copied() { ++core_.LaneOf(message_class_).counters.copied_aside; }

void Stream::NoLongerAhead(uint64_t size) { core_.ahead_ -= size; }

absl::StatusOr<Registered> Stream::RegisterTarget(std::span<std::byte> bytes) {
  return core_.memory_.RegisterTarget(bytes);
}

}  // namespace nd::transport
