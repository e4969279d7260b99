#include "soft/device/completion_queue.h"

#include <algorithm>
#include <utility>

#include "base/lock.h"

namespace nd::soft {

CompletionQueue::CompletionQueue(uint32_t capacity, CompletionChannel* channel,
                                 void* owner)
    : channel_(channel),
      owner_(owner),
      capacity_(capacity),
      entries_(new ibv_wc[capacity]) {}

bool CompletionQueue::Push(const CqEntry& entry) {
  Holding lock(mutex_);
  const uint32_t size = size_.load(std::memory_order_relaxed);
  if (size == capacity_) {
    overrun_ = true;
    return false;
  }
  const uint64_t place = uint64_t{begin_} + size;
  entries_[place < capacity_ ? place : place - capacity_] = entry.wc;
  size_.store(size + 1, std::memory_order_release);
  // An error counts as solicited (IBA ch. 11, completion notification).
  if (armed_ == Armed::kAny ||
      (armed_ == Armed::kSolicited &&
       (entry.solicited || entry.wc.status != IBV_WC_SUCCESS))) {
    armed_ = Armed::kNo;
    if (channel_ != nullptr) channel_->Push(this);
  }
  return true;
}

int CompletionQueue::Poll(std::span<ibv_wc> out) {
  if (empty()) return 0;
  Holding lock(mutex_);
  if (overrun_) return -1;
  const uint32_t size = size_.load(std::memory_order_relaxed);
  const uint32_t count =
      static_cast<uint32_t>(std::min<size_t>(size, out.size()));
  for (uint32_t i = 0; i < count; ++i) {
    out[i] = entries_[begin_];
    if (++begin_ == capacity_) begin_ = 0;
  }
  size_.store(size - count, std::memory_order_release);
  return static_cast<int>(count);
}

void CompletionQueue::Arm(bool solicited_only) {
  Holding lock(mutex_);
  // Once armed for any, a wish for the solicited ones takes nothing back.
  if (!solicited_only) {
    armed_ = Armed::kAny;
  } else if (armed_ == Armed::kNo) {
    armed_ = Armed::kSolicited;
  }
}

void CompletionQueue::Forget(uint32_t qpn) {
  Holding lock(mutex_);
  const uint32_t size = size_.load(std::memory_order_relaxed);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < size; ++i) {
    const ibv_wc& wc = entries_[(uint64_t{begin_} + i) % capacity_];
    if (wc.qp_num == qpn) continue;
    entries_[(uint64_t{begin_} + kept++) % capacity_] = wc;
  }
  size_.store(kept, std::memory_order_release);
}

bool CompletionQueue::Resize(uint32_t capacity) {
  Holding lock(mutex_);
  const uint32_t size = size_.load(std::memory_order_relaxed);
  if (size > capacity) return false;
  auto entries = std::unique_ptr<ibv_wc[]>(new ibv_wc[capacity]);
  for (uint32_t i = 0; i < size; ++i) {
    entries[i] = entries_[(uint64_t{begin_} + i) % capacity_];
  }
  entries_ = std::move(entries);
  capacity_ = capacity;
  begin_ = 0;
  return true;
}

uint32_t CompletionQueue::capacity() const {
  Holding lock(mutex_);
  return capacity_;
}

}  // namespace nd::soft
