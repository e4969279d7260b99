#include "soft/device/completion_queue.h"

#include <algorithm>
#include <utility>

#include "absl/base/attributes.h"
#include "base/lock.h"

namespace nd::soft {

CompletionQueue::CompletionQueue(uint32_t capacity, CompletionChannel* channel,
                                 void* owner)
    : channel_(channel),
      owner_(owner),
      entries_(new ibv_wc[capacity]),
      capacity_(capacity) {}

ABSL_ATTRIBUTE_HOT bool CompletionQueue::Push(const CqEntry& entry) {
  received_ |= (entry.wc.opcode & IBV_WC_RECV) != 0;
  const uint32_t pushed = pushed_.load(std::memory_order_relaxed);
  if (pushed - taken_.load(std::memory_order_acquire) == capacity_) {
    overrun_ = true;
    return false;
  }
  entries_[in_] = entry.wc;
  in_ = After(in_);
  pushed_.store(pushed + 1, std::memory_order_release);
  // An error counts as solicited (IBA ch. 11, completion notification).
  const Armed armed = armed_.load(std::memory_order_relaxed);
  if (armed == Armed::kAny ||
      (armed == Armed::kSolicited &&
       (entry.solicited || entry.wc.status != IBV_WC_SUCCESS))) {
    armed_.store(Armed::kNo, std::memory_order_relaxed);
    if (channel_ != nullptr) channel_->Push(this);
  }
  return true;
}

ABSL_ATTRIBUTE_HOT int CompletionQueue::Poll(std::span<ibv_wc> out) {
  if (empty()) return 0;
  Holding lock(mutex_);
  if (overrun_.load(std::memory_order_relaxed)) return -1;
  const auto count =
      static_cast<uint32_t>(std::min<size_t>(size(), out.size()));
  for (uint32_t i = 0; i < count; ++i) {
    out[i] = entries_[out_];
    out_ = After(out_);
  }
  taken_.store(taken_.load(std::memory_order_relaxed) + count,
               std::memory_order_release);
  return static_cast<int>(count);
}

void CompletionQueue::Arm(bool solicited_only) {
  // Once armed for any, a wish for the solicited ones takes nothing back.
  if (!solicited_only) {
    armed_ = Armed::kAny;
  } else if (armed_ == Armed::kNo) {
    armed_ = Armed::kSolicited;
  }
}

void CompletionQueue::Forget(uint32_t qpn) {
  Holding lock(mutex_);
  const uint32_t queued = size();
  uint32_t kept = 0;
  for (uint32_t i = 0; i < queued; ++i) {
    const ibv_wc& wc = entries_[Behind(i)];
    if (wc.qp_num == qpn) continue;
    entries_[Behind(kept++)] = wc;
  }
  in_ = Behind(kept);
  pushed_.store(taken_.load(std::memory_order_relaxed) + kept,
                std::memory_order_release);
}

bool CompletionQueue::Resize(uint32_t capacity) {
  Holding lock(mutex_);
  const uint32_t queued = size();
  if (queued > capacity) return false;
  auto entries = std::unique_ptr<ibv_wc[]>(new ibv_wc[capacity]);
  for (uint32_t i = 0; i < queued; ++i) entries[i] = entries_[Behind(i)];
  entries_ = std::move(entries);
  capacity_ = capacity;
  out_ = 0;
  in_ = Behind(queued);
  return true;
}

}  // namespace nd::soft
