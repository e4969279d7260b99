// A bounded queue from many threads to one, lock-free.
#ifndef ND_BASE_MPSC_RING_H_
#define ND_BASE_MPSC_RING_H_

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

// Dmitry Vyukov's bounded queue. Any thread calls TryPush; one thread, the
// consumer, calls TryPop and empty(); any thread may ask size(). The elements
// of one producer come out in the order they went in, and what it did before a
// push is visible to the consumer after the pop. Nobody waits, allocates or
// wakes anyone. A producer that is preempted in the middle of a push hides what
// was pushed after it until it goes on; no producer is held up by that.
// Destroying the ring destroys what is in it.
template <typename T>
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): sides share no line
class MpscRing {
  static_assert(std::is_nothrow_move_constructible_v<T>);

 public:
  // Holds `min_capacity` elements, rounded up to a power of two, at least 2:
  // in a ring of one cell "full" and "free again" would be the same sequence.
  explicit MpscRing(size_t min_capacity)
      : mask_(std::bit_ceil(std::max<size_t>(min_capacity, 2)) - 1),
        cells_(std::make_unique<Cell[]>(mask_ + 1)) {
    for (uint64_t i = 0; i <= mask_; ++i) cells_[i].sequence = i;
  }
  MpscRing(const MpscRing&) = delete;
  MpscRing& operator=(const MpscRing&) = delete;
  ~MpscRing() {
    while (TryPop().has_value()) continue;
  }

  // Any thread: false if the ring is full, and then `value` is left as it was.
  template <typename U = T>
  [[nodiscard]] bool TryPush(U&& value) {
    // A throw between claiming a cell and filling it would stop the consumer.
    static_assert(std::is_nothrow_constructible_v<T, U&&>);
    uint64_t tail = tail_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[tail & mask_];
      const uint64_t sequence = cell.sequence.load(std::memory_order_acquire);
      if (sequence == tail) {
        if (tail_.compare_exchange_weak(tail, tail + 1,
                                        std::memory_order_relaxed)) {
          std::construct_at(&cell.value, std::forward<U>(value));
          cell.sequence.store(tail + 1, std::memory_order_release);
          return true;
        }
      } else if (sequence < tail) {
        return false;  // The cell still holds the element of a lap ago.
      } else {
        tail = tail_.load(std::memory_order_relaxed);
      }
    }
  }

  // Consumer: the oldest element, none if empty().
  [[nodiscard]] std::optional<T> TryPop() {
    if (empty()) return std::nullopt;
    const uint64_t head = head_.load(std::memory_order_relaxed);
    Cell& cell = cells_[head & mask_];
    std::optional<T> value(std::move(cell.value));
    std::destroy_at(&cell.value);
    cell.sequence.store(head + capacity(), std::memory_order_release);
    head_.store(head + 1, std::memory_order_relaxed);
    return value;
  }

  // Consumer: whether TryPop would find nothing now.
  bool empty() const {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    return cells_[head & mask_].sequence.load(std::memory_order_acquire) !=
           head + 1;
  }

  // Any thread: an estimate, counting elements whose push is not finished.
  size_t size() const {
    const uint64_t head = head_.load(std::memory_order_acquire);
    const uint64_t tail = tail_.load(std::memory_order_acquire);
    return tail < head ? 0 : std::min<uint64_t>(tail - head, capacity());
  }
  size_t capacity() const { return mask_ + 1; }

 private:
  // The cell of index i mod capacity: `sequence` is i when it is free for
  // element i, i + 1 when it holds it, and i + capacity once that was popped.
  struct Cell {
    Cell() {}
    ~Cell() {}
    std::atomic<uint64_t> sequence{0};
    union {
      T value;
    };
  };

  const uint64_t mask_;
  const std::unique_ptr<Cell[]> cells_;
  alignas(kCacheLineBytes) std::atomic<uint64_t> tail_{0};  // producers
  alignas(kCacheLineBytes) std::atomic<uint64_t> head_{0};  // consumer writes
};

}  // namespace nd

#endif  // ND_BASE_MPSC_RING_H_
