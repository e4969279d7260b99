#include "soft/device/receive_store.h"

#include <algorithm>

namespace nd::soft {

ReceiveStore::ReceiveStore(size_t capacity, size_t max_sges)
    : max_sges_(max_sges), slots_(capacity), sges_(capacity * max_sges) {}

bool ReceiveStore::Post(uint64_t wr_id, std::span<const ibv_sge> sges) {
  if (size_ == slots_.size() || sges.size() > max_sges_) return false;
  const size_t slot = SlotOf(size_++);
  slots_[slot] = {.wr_id = wr_id, .sges = sges.size()};
  std::ranges::copy(sges, std::span(sges_).subspan(slot * max_sges_).begin());
  return true;
}

std::optional<PostedReceive> ReceiveStore::Take() {
  if (size_ == 0) return std::nullopt;
  const size_t slot = begin_;
  begin_ = SlotOf(1);
  --size_;
  return PostedReceive{
      .wr_id = slots_[slot].wr_id,
      .sges = std::span(sges_).subspan(slot * max_sges_, slots_[slot].sges)};
}

void ReceiveStore::Clear() { size_ = 0; }

bool ReceiveStore::Resize(size_t capacity) {
  if (capacity < size_) return false;
  ReceiveStore larger(capacity, max_sges_);
  while (const auto receive = Take()) {
    (void)larger.Post(receive->wr_id, receive->sges);
  }
  *this = std::move(larger);
  return true;
}

std::optional<PostedReceive> SharedReceiveQueue::Take() {
  const auto receive = store_.Take();
  if (receive && limit_ > 0 && store_.size() < limit_) {
    limit_ = 0;
    events_.Raise(IBV_EVENT_SRQ_LIMIT_REACHED);
  }
  return receive;
}

}  // namespace nd::soft
