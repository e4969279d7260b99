// Two barriers for two threads that each write something and then read what the
// other writes, one of them often and the other seldom: the seldom one pays.
#ifndef ND_BASE_ASYMMETRIC_BARRIER_H_
#define ND_BASE_ASYMMETRIC_BARRIER_H_

#include <atomic>

namespace nd {

namespace barrier_internal {
// HeavyBarrier can make other threads pass a barrier.
extern std::atomic<bool> g_reaches_others;
}  // namespace barrier_internal

// Loads and stores before it stay before it, and those behind it behind it. By
// an atomic, as ThreadSanitizer does not know fences.
inline void FullBarrier() {
  static thread_local std::atomic<int> any{0};
  any.exchange(1, std::memory_order_seq_cst);
}

// Between a store and a load of the thread that comes by often. Of two threads
// that each store and then load what the other stores, with this between the
// two in one and HeavyBarrier in the other, at least one sees the other's
// store.
inline void LightBarrier() {
  if (barrier_internal::g_reaches_others.load(std::memory_order_relaxed)) {
    std::atomic_signal_fence(std::memory_order_seq_cst);  // the compiler's
  } else {
    FullBarrier();
  }
}

// Some microseconds: all threads of the process pass a barrier, membarrier(2).
// Where the kernel lacks that, LightBarrier is a barrier by itself.
void HeavyBarrier();

}  // namespace nd

#endif  // ND_BASE_ASYMMETRIC_BARRIER_H_
