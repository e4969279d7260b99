#include "transport/session/receive_side.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"

namespace nd::transport {
namespace {

// Large messages that are granted before somebody waits for them: so many, and
// of so many bytes, or two. What comes goes through the caches from one message
// to the next, the sooner out of them the more there is.
constexpr uint64_t kMaxAhead = 8;
constexpr uint64_t kMaxAheadBytes = uint64_t{4} << 20;

// Of what may be granted ahead.
struct Part {
  void Add(uint64_t size) {
    ++messages;
    bytes += size;
  }
  bool half() const {
    return messages >= kMaxAhead / 2 || bytes >= kMaxAheadBytes / 2;
  }

  uint64_t messages = 0;
  uint64_t bytes = 0;
};

constexpr uint64_t kSpillAlignment = 64;

uint64_t RoundUp(uint64_t bytes) {
  return (bytes + kSpillAlignment - 1) & ~(kSpillAlignment - 1);
}

}  // namespace

bool ReceiveSide::Charge(uint64_t cost) {
  if (finished_ || received_ + cost > told_) [[unlikely]]
    return false;
  received_ += cost;
  return true;
}

ABSL_ATTRIBUTE_HOT bool ReceiveSide::AddMessage(
    ReceiveSlot& slot, std::span<const std::byte> bytes, bool keep,
    bool notifies) {
  const uint64_t cost = kMessageCost + bytes.size();
  if (!Charge(cost)) return false;
  Record& record = records_.Push();
  record.notifies = notifies;
  record.cost = static_cast<uint32_t>(cost);
  record.size = bytes.size();
  record.data = bytes.data();
  // Whoever waits for a copy takes it from where it is.
  const auto at_once = [&] {
    const auto* waiting = static_cast<ReceiveOperation*>(receivers_.first());
    return waiting != nullptr && !waiting->loan() &&
           next_ + 1 == records_.end() && !notifies &&
           bytes.size() <= waiting->into().bytes.size();
  };
  if (ended_) [[unlikely]] {
    Drop(record);
    PopReleased();
    return true;
  }
  if (keep || at_once()) [[likely]] {
    record.slot = &slot;
    ++slot.loans;
  } else {
    host_.Copied();
    Spill(record, bytes);
  }
  Match();
  return true;
}

bool ReceiveSide::AddRequest(uint32_t transfer, uint64_t size) {
  if (!Charge(kMessageCost)) return false;
  records_.Push({.state = State::kWaiting,
                 .cost = kMessageCost,
                 .transfer = transfer,
                 .size = size});
  if (!ended_) Match();
  return true;
}

bool ReceiveSide::AddFinish() {
  if (finished_) return false;
  finished_ = true;
  if (ended_) return true;
  records_.Push({.state = State::kFinish});
  Match();
  return true;
}

void ReceiveSide::OnWritten(uint64_t number) {
  Record& record = records_[number];
  record.state = State::kReady;
  if (!ended_) return Match();
  Drop(record);
  PopReleased();
}

void ReceiveSide::OnCancelled(uint64_t number) {
  Record& record = records_[number];
  ReceiveOperation* const bound = record.bound;
  Drop(record);
  PopReleased();
  if (bound != nullptr && !cancelled_.ok()) {
    OperationQueue::Remove(*bound);
    host_.Done(*bound, std::exchange(cancelled_, absl::OkStatus()));
  }
  if (!ended_) Match();
}

void ReceiveSide::OnRevoked(uint64_t number) {
  Record& record = records_[number];
  ReceiveOperation* const bound = std::exchange(record.bound, nullptr);
  FreePlace(record);
  record.state = State::kWaiting;
  // The sender gives a grant back, too, when it has lost a link.
  if (bound != nullptr && !cancelled_.ok()) {
    OperationQueue::Remove(*bound);
    host_.Done(*bound, std::exchange(cancelled_, absl::OkStatus()));
  }
  if (!ended_) return Match();
  Drop(record);
  PopReleased();
}

bool ReceiveSide::CancelRequest(uint32_t transfer) {
  for (uint64_t i = next_; i != records_.end(); ++i) {
    Record& record = records_[i];
    if (record.state != State::kWaiting || record.transfer != transfer) {
      continue;
    }
    Drop(record);
    PopReleased();
    Match();
    return true;
  }
  return ended_;
}

ABSL_ATTRIBUTE_HOT void ReceiveSide::Receive(ReceiveOperation& operation) {
  receivers_.Add(operation);
  Match();
}

void ReceiveSide::Cancel(Operation& operation, absl::Status why) {
  if (OperationQueue::QueueOf(operation) != &receivers_) return;
  if (next_ != records_.end() && records_[next_].bound == &operation) {
    if (cancelled_.ok()) host_.Revoke(next_);
    cancelled_ = std::move(why);
    return;
  }
  OperationQueue::Remove(operation);
  host_.Done(operation, std::move(why));
  // Another one may not want what this one wanted.
  Match();
}

ABSL_ATTRIBUTE_HOT void ReceiveSide::Release(uint64_t number) {
  Record& record = records_[number];
  assert(record.state == State::kLoaned);
  Drop(record);
  PopReleased();
  if (stalled()) Match();
}

bool ReceiveSide::EndBehindLast(const absl::Status& why) {
  if (ended_) return false;
  for (uint64_t i = next_; i != records_.end(); ++i) {
    if (records_[i].state == State::kWaiting ||
        records_[i].state == State::kGranted) {
      return false;
    }
  }
  if (!finished_) {
    behind_last_ = why;
    records_.Push({.state = State::kFinish});
  }
  Match();
  return true;
}

void ReceiveSide::End(const absl::Status& why, bool all_stopped) {
  ended_ = true;
  for (uint64_t i = next_; i != records_.end(); ++i) {
    Record& record = records_[i];
    if (record.state == State::kGranted && !all_stopped) {
      if (record.bound != nullptr) cancelled_ = why;
      continue;
    }
    record.bound = nullptr;
    Drop(record);
  }
  const ReceiveOperation* const bound =
      next_ != records_.end() ? records_[next_].bound : nullptr;
  PopReleased();
  for (Operation* each = receivers_.first(); each != nullptr;) {
    Operation* const next = OperationQueue::Next(*each);
    if (each != bound) {
      OperationQueue::Remove(*each);
      host_.Done(*each, why);
    }
    each = next;
  }
}

std::string ReceiveSide::Describe() const {
  std::string text = absl::StrCat(
      "received ", received_, ", given back ", returned_, ", told ", told_,
      ", records ", records_.begin(), " .. ", records_.end(), ", next ", next_,
      receivers_.empty() ? "" : ", awaited", stalled() ? ", stalled" : "");
  if (!records_.empty()) {
    absl::StrAppend(&text, ", oldest in state ",
                    static_cast<int>(records_[records_.begin()].state));
  }
  return text;
}

ABSL_ATTRIBUTE_HOT void ReceiveSide::Match() {
  lack_ = Lack::kNothing;
  while (MatchFirst()) continue;
  GrantAhead();
}

// Goes on with the first operation that waits and the first message that is
// nobody's. False when there is nothing more to do now.
ABSL_ATTRIBUTE_HOT bool ReceiveSide::MatchFirst() {
  auto* const operation = static_cast<ReceiveOperation*>(receivers_.first());
  if (operation == nullptr) return false;
  loans_ = operation->loan();
  if (next_ == records_.end()) return false;
  Record& record = records_[next_];
  switch (record.state) {
    case State::kWaiting:
      return Fits(record, *operation) ? StartTransfer(record, *operation)
                                      : true;
    case State::kGranted:
      return false;
    case State::kReady:
      if (record.bound == nullptr && !Fits(record, *operation)) return true;
      OperationQueue::Remove(*operation);
      Deliver(record, *operation);
      return true;
    case State::kLoaned:
    case State::kReleased:
      ++next_;
      return true;
    case State::kFinish:
      OperationQueue::Remove(*operation);
      host_.Done(*operation, behind_last_);
      return true;
  }
  return false;
}

// False, and the operation is done, if the message is too long for it.
bool ReceiveSide::Fits(const Record& record, ReceiveOperation& operation) {
  if (operation.loan() || record.notifies ||
      record.size <= operation.into().bytes.size()) [[likely]] {
    return true;
  }
  OperationQueue::Remove(operation);
  OperationAccess::SetSize(operation, record.size);
  host_.Done(operation,
             absl::FailedPreconditionError(absl::StrCat(
                 "the next message has ", record.size, " bytes, the buffer ",
                 operation.into().bytes.size(), "; it waits to be received")));
  return false;
}

// True where the operation has failed, and the next one can be looked at.
bool ReceiveSide::StartTransfer(Record& record, ReceiveOperation& operation) {
  absl::Status target;
  if (!operation.loan()) {
    target = GrantTarget(record, operation);
    if (target.ok()) return false;
  }
  const absl::Status granted = GrantBuffer(record, next_, false);
  if (granted.ok()) return false;
  if (!absl::IsOutOfRange(granted)) {
    lack_ = absl::IsUnavailable(granted) ? Lack::kTransfers : Lack::kMemory;
    return false;
  }
  OperationQueue::Remove(operation);
  OperationAccess::SetSize(operation, record.size);
  host_.Done(
      operation,
      absl::ResourceExhaustedError(absl::StrCat(
          "the next message has ", record.size,
          " bytes, more than the session may hold: ", granted.message(),
          operation.loan() ? "; receive it into memory of your own"
                           : absl::StrCat("; and of its own memory: ",
                                          std::string(target.message())))));
  return true;
}

absl::Status ReceiveSide::GrantBuffer(Record& record, uint64_t number,
                                      bool ahead) {
  const absl::StatusOr<Registered> buffer = host_.Allocate(record.size, ahead);
  if (!buffer.ok()) return buffer.status();
  record.memory = *buffer;
  record.place = Record::Place::kBuffer;
  record.ahead = ahead;
  if (!host_.Grant(number, record.memory, {record.transfer, record.size})) {
    FreePlace(record);
    return absl::UnavailableError("too many messages are granted");
  }
  record.data = record.memory.local.data;
  record.state = State::kGranted;
  return absl::OkStatus();
}

// Lets the peer write into the application's memory. False where that cannot
// be done.
absl::Status ReceiveSide::GrantTarget(Record& record,
                                      ReceiveOperation& operation) {
  const std::span<std::byte> bytes =
      operation.into().bytes.first(static_cast<size_t>(record.size));
  if (operation.into().registered) {
    record.memory = {.local = {.data = bytes.data(), .length = bytes.size()},
                     .rkey = operation.into().rkey};
    record.place = Record::Place::kBorrowed;
  } else {
    const absl::StatusOr<Registered> target = host_.RegisterTarget(bytes);
    if (!target.ok()) return target.status();
    record.memory = *target;
    record.place = Record::Place::kRegistered;
  }
  if (!host_.Grant(next_, record.memory, {record.transfer, record.size})) {
    FreePlace(record);
    return absl::UnavailableError("too many messages are granted");
  }
  record.bound = &operation;
  record.state = State::kGranted;
  return absl::OkStatus();
}

// So that the next large messages are on their way before they are asked for.
// While there are enough of those, grants wait for more to go with.
void ReceiveSide::GrantAhead() {
  if (!loans_ || ended_) return;
  const uint64_t last = std::min(records_.end(), next_ + kMaxAhead);
  Part waiting, granted;
  uint64_t end = next_;
  for (; end < last; ++end) {
    const Record& record = records_[end];
    const bool waits = record.state == State::kWaiting;
    if (!waits && record.state != State::kGranted) continue;
    if (waiting.messages + granted.messages >= 2 &&
        waiting.bytes + granted.bytes + record.size > kMaxAheadBytes) {
      break;
    }
    (waits ? waiting : granted).Add(record.size);
  }
  if (waiting.messages == 0) [[likely]]
    return;
  if (granted.half() && !waiting.half()) return;
  for (uint64_t i = next_; i < end; ++i) {
    Record& record = records_[i];
    if (record.state != State::kWaiting) continue;
    if (!GrantBuffer(record, i, true).ok()) return;
  }
}

ABSL_ATTRIBUTE_HOT void ReceiveSide::Deliver(Record& record,
                                             ReceiveOperation& operation) {
  const uint64_t number = next_++;
  if (record.ahead) host_.NoLongerAhead(record.size);
  record.ahead = false;
  if (record.notifies) [[unlikely]] {
    const auto notify =
        Notify::Parse({record.data, static_cast<size_t>(record.size)});
    OperationAccess::SetSize(operation, 0);
    OperationAccess::SetNotification(
        operation,
        {notify->region, notify->offset, notify->size, notify->immediate});
    Drop(record);
    PopReleased();
    return host_.Done(operation, absl::OkStatus());
  }
  OperationAccess::SetSize(operation, record.size);
  const auto size = static_cast<size_t>(record.size);
  if (operation.loan()) {
    record.state = State::kLoaned;
    OperationAccess::SetMessage(operation, {record.data, size}, stream_,
                                number);
  } else {
    if (record.bound == nullptr && size > 0) {
      std::memcpy(operation.into().bytes.data(), record.data, size);
    }
    // It came before it could be revoked.
    if (record.bound != nullptr) cancelled_ = absl::OkStatus();
    record.bound = nullptr;
    Drop(record);
    PopReleased();
  }
  host_.Done(operation, absl::OkStatus());
}

ABSL_ATTRIBUTE_HOT void ReceiveSide::LetGo(Record& record) {
  ReceiveSlot* const slot = std::exchange(record.slot, nullptr);
  if (slot != nullptr && --slot->loans == 0) host_.SlotReturned(*slot);
  FreePlace(record);
}

void ReceiveSide::FreePlace(Record& record) {
  using Place = Record::Place;
  if (record.ahead) host_.NoLongerAhead(record.size);
  record.ahead = false;
  const Place place = std::exchange(record.place, Place::kNone);
  if (place == Place::kBuffer) host_.FreeBuffer(record.memory);
  if (place == Place::kRegistered) host_.Unregister(record.memory);
}

void ReceiveSide::Drop(Record& record) {
  LetGo(record);
  record.state = State::kReleased;
}

ABSL_ATTRIBUTE_HOT void ReceiveSide::PopReleased() {
  while (!records_.empty() && records_.front().state == State::kReleased) {
    const Record& record = records_.front();
    returned_ += record.cost;
    if (record.spill_end != 0) spill_tail_ = record.spill_end;
    records_.PopFront();
  }
  next_ = std::max(next_, records_.begin());
}

// A message lies in one piece, so what is left at the end of the ring may be
// left out, less than a message once a lap: the ring is larger than the window
// by that.
void ReceiveSide::Spill(Record& record, std::span<const std::byte> bytes) {
  const uint64_t capacity = RoundUp(window_ + eager_limit_);
  if (spill_ == nullptr) spill_ = std::make_unique<std::byte[]>(capacity);
  const uint64_t size = RoundUp(std::max<uint64_t>(bytes.size(), 1));
  uint64_t place = spill_head_ % capacity;
  if (place + size > capacity) {
    spill_head_ += capacity - place;
    place = 0;
  }
  assert(spill_head_ + size - spill_tail_ <= capacity);
  if (!bytes.empty()) std::memcpy(&spill_[place], bytes.data(), bytes.size());
  spill_head_ += size;
  record.data = &spill_[place];
  record.spill_end = spill_head_;
}

}  // namespace nd::transport
