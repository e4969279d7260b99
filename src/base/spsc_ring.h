// A bounded queue from one thread to one other, lock-free and wait-free.
#ifndef ND_BASE_SPSC_RING_H_
#define ND_BASE_SPSC_RING_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/cache_line.h"

namespace nd {

// Elements come out in the order they went in. One thread, the producer, calls
// TryPush; one thread, the consumer, calls TryPop; any thread may ask size().
// What the producer did before a push is visible to the consumer after the pop.
// Either role may pass to another thread if the two synchronise. Neither side
// waits, allocates or wakes anyone. Destroying the ring destroys what is in it.
template <typename T>
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): sides share no line
class SpscRing {
  static_assert(std::is_nothrow_move_constructible_v<T>);

 public:
  // Holds `min_capacity` elements, rounded up to a power of two.
  explicit SpscRing(size_t min_capacity)
      : mask_(std::bit_ceil(std::max<size_t>(min_capacity, 1)) - 1),
        slots_(std::make_unique<Slot[]>(mask_ + 1)) {}
  SpscRing(const SpscRing&) = delete;
  SpscRing& operator=(const SpscRing&) = delete;
  ~SpscRing() {
    while (TryPop().has_value()) continue;
  }

  // Producer: false if the ring is full, and then `value` is left as it was.
  template <typename U = T>
  [[nodiscard]] bool TryPush(U&& value) {
    const uint64_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - cached_head_ > mask_) {
      cached_head_ = head_.load(std::memory_order_acquire);
      if (tail - cached_head_ > mask_) return false;
    }
    std::construct_at(&slots_[tail & mask_].value, std::forward<U>(value));
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }

  // Consumer: the oldest element, none if the ring is empty.
  [[nodiscard]] std::optional<T> TryPop() {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    if (head == cached_tail_) {
      cached_tail_ = tail_.load(std::memory_order_acquire);
      if (head == cached_tail_) return std::nullopt;
    }
    T& oldest = slots_[head & mask_].value;
    std::optional<T> value(std::move(oldest));
    std::destroy_at(&oldest);
    head_.store(head + 1, std::memory_order_release);
    return value;
  }

  // How many elements the ring holds. The consumer finds at least as many, the
  // producer at most as many; to any other thread it is an estimate.
  size_t size() const {
    // In this order the difference cannot be negative.
    const uint64_t head = head_.load(std::memory_order_acquire);
    const uint64_t tail = tail_.load(std::memory_order_acquire);
    return std::min<uint64_t>(tail - head, capacity());
  }
  bool empty() const { return size() == 0; }
  size_t capacity() const { return mask_ + 1; }

 private:
  union Slot {
    Slot() {}
    ~Slot() {}
    T value;
  };

  const uint64_t mask_;
  const std::unique_ptr<Slot[]> slots_;

  // Both indices count for ever. Each side keeps a copy of the other's index,
  // so that it touches the other's cache line only when the copy runs out.
  alignas(kCacheLineBytes) std::atomic<uint64_t> tail_{0};  // producer writes
  uint64_t cached_head_ = 0;                                // producer only
  alignas(kCacheLineBytes) std::atomic<uint64_t> head_{0};  // consumer writes
  uint64_t cached_tail_ = 0;                                // consumer only
};

}  // namespace nd

#endif  // ND_BASE_SPSC_RING_H_
