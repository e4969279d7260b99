#include "soft/net/ring.h"

#include <algorithm>
#include <bit>
#include <new>

#include "absl/base/attributes.h"

namespace nd::soft {
namespace {

// In front of each record stands a word, in eight bytes: its length and one.
// Each record begins at a multiple of eight. A record is never split: where the
// end of the memory is too near, kSkip stands there, and it begins at the
// start. Behind the last one stands kNothing. Of several records that are
// published together, the first one's word is written last.
constexpr size_t kAlign = 8;
constexpr uint32_t kNothing = 0;
constexpr uint32_t kSkip = 0xffffffff;

constexpr size_t SpaceFor(size_t record_bytes) {
  return kAlign + (record_bytes + kAlign - 1) / kAlign * kAlign;
}

// Read or written once, whatever the other side does meanwhile.
std::atomic_ref<uint32_t> WordAt(std::span<std::byte> data, size_t position) {
  return std::atomic_ref(*reinterpret_cast<uint32_t*>(&data[position]));
}

size_t Position(std::span<const std::byte> data, uint64_t index) {
  return static_cast<size_t>(index & (data.size() - 1));
}

RingControl& ControlOf(std::span<std::byte> memory) {
  return *std::launder(reinterpret_cast<RingControl*>(memory.data()));
}

}  // namespace

bool IsRingSize(size_t memory_bytes) {
  return memory_bytes > kRingControlBytes &&
         std::has_single_bit(memory_bytes - kRingControlBytes);
}

RingProducer::RingProducer(std::span<std::byte> memory)
    : control_(*new (memory.data()) RingControl),
      data_(memory.subspan(kRingControlBytes)) {
  control_.self.store(reinterpret_cast<uintptr_t>(&control_.self),
                      std::memory_order_relaxed);
}

// A head that cannot be leaves no room.
size_t RingProducer::Used(uint64_t head) const {
  return static_cast<size_t>(std::min<uint64_t>(tail_ - head, data_.size()));
}

bool RingProducer::FitsAt(uint64_t head, size_t need) const {
  const size_t to_end = data_.size() - Position(data_, tail_);
  const size_t skipped = to_end < need ? to_end : 0;
  return data_.size() - Used(head) >= skipped + need + kAlign;
}

bool RingProducer::HasRoom(size_t record_bytes) {
  const size_t need = SpaceFor(record_bytes);
  if (FitsAt(head_, need)) [[likely]]
    return true;
  head_ = control_.head.load(std::memory_order_acquire);
  if (FitsAt(head_, need)) return true;
  // Either the consumer sees that we starve, or we see what it has freed.
  control_.starved.store(1, std::memory_order_seq_cst);
  head_ = control_.head.load(std::memory_order_seq_cst);
  return FitsAt(head_, need);
}

ABSL_ATTRIBUTE_HOT std::span<std::byte> RingProducer::Reserve(
    size_t record_bytes) {
  const size_t need = SpaceFor(record_bytes);
  if (!FitsAt(head_, need)) [[unlikely]] {
    head_ = control_.head.load(std::memory_order_acquire);
    if (!FitsAt(head_, need)) return {};
  }
  if (const size_t to_end = data_.size() - Position(data_, tail_);
      to_end < need) [[unlikely]] {
    Say(kSkip);
    tail_ += to_end;
  }
  Say(static_cast<uint32_t>(record_bytes) + 1);
  reserved_ = need;
  return data_.subspan(Position(data_, tail_) + kAlign, record_bytes);
}

void RingProducer::Say(uint32_t word) {
  if (tail_ == published_) {
    first_word_ = word;
  } else {
    WordAt(data_, Position(data_, tail_))
        .store(word, std::memory_order_relaxed);
  }
}

void RingProducer::Commit() {
  tail_ += reserved_;
  WordAt(data_, Position(data_, tail_))
      .store(kNothing, std::memory_order_relaxed);
}

ABSL_ATTRIBUTE_HOT bool RingProducer::Publish() {
  if (published_ == tail_) return false;
  control_.tail.store(tail_, std::memory_order_relaxed);
  // Either the consumer sees this, or we see that it rests.
  WordAt(data_, Position(data_, published_))
      .store(first_word_, std::memory_order_seq_cst);
  published_ = tail_;
  return control_.resting.load(std::memory_order_seq_cst) != 0 &&
         control_.resting.exchange(0, std::memory_order_seq_cst) != 0;
}

RingConsumer::RingConsumer(std::span<std::byte> memory)
    : control_(ControlOf(memory)), data_(memory.subspan(kRingControlBytes)) {}

bool RingConsumer::empty() const {
  return WordAt(data_, Position(data_, head_))
             .load(std::memory_order_relaxed) == kNothing;
}

ABSL_ATTRIBUTE_HOT RingState
RingConsumer::Peek(std::span<const std::byte>& record) {
  size_t skipped = 0;
  size_t position = Position(data_, head_);
  uint32_t word = WordAt(data_, position).load(std::memory_order_acquire);
  if (word == kNothing) return RingState::kEmpty;
  if (word == kSkip) [[unlikely]] {
    skipped = data_.size() - position;
    position = 0;
    word = WordAt(data_, 0).load(std::memory_order_relaxed);
    if (word == kNothing) return RingState::kBroken;
  }
  const uint32_t length = word - 1;
  if (length > data_.size()) [[unlikely]]
    return RingState::kBroken;
  const size_t need = SpaceFor(length);
  if (need > data_.size() - position) [[unlikely]]
    return RingState::kBroken;
  record = data_.subspan(position + kAlign, length);
  peeked_ = skipped + need;
  return RingState::kRecord;
}

void RingConsumer::Mark() {
  const uint64_t tail = control_.tail.load(std::memory_order_acquire);
  mark_ = head_ + std::min<uint64_t>(tail - head_, data_.size());
}

bool RingConsumer::PassedMark() const { return head_ >= mark_ || empty(); }

void RingConsumer::Pop() {
  head_ += peeked_;
  peeked_ = 0;
}

bool RingConsumer::PublishMuch() {
  const bool first = published_ == 0;
  return (first || head_ - published_ >= data_.size() / 8) && Publish();
}

bool RingConsumer::Publish() {
  if (published_ == head_) return false;
  published_ = head_;
  // Either the producer sees this, or we see that it starves.
  control_.head.store(head_, std::memory_order_seq_cst);
  if (control_.starved.load(std::memory_order_seq_cst) == 0) [[likely]]
    return false;
  const uint64_t used = control_.tail.load(std::memory_order_relaxed) - head_;
  if (used > data_.size() / 2) return false;
  return control_.starved.exchange(0, std::memory_order_seq_cst) != 0;
}

bool RingConsumer::Rest() {
  control_.resting.store(1, std::memory_order_seq_cst);
  return WordAt(data_, Position(data_, head_))
             .load(std::memory_order_seq_cst) == kNothing;
}

void RingConsumer::StopResting() {
  control_.resting.store(0, std::memory_order_relaxed);
}

}  // namespace nd::soft
