// Which descriptors may be ours: the question that every write and close asks.
#ifndef ND_SOFT_NET_FD_MARKS_H_
#define ND_SOFT_NET_FD_MARKS_H_

#include <array>
#include <atomic>
#include <cstdint>

namespace nd::soft {

// Any thread, and signal handlers. A mark is a hint: the descriptor may have
// been closed, or be another file, without our knowing.
class FdMarks {
 public:
  bool Test(int fd) const {
    if (fd < 0) return false;
    if (fd >= kCapacity) return beyond_.load(std::memory_order_relaxed);
    return words_[fd / 64].load(std::memory_order_relaxed) & Bit(fd);
  }
  void Set(int fd) {
    if (fd >= kCapacity) return beyond_.store(true, std::memory_order_relaxed);
    words_[fd / 64].fetch_or(Bit(fd), std::memory_order_relaxed);
  }
  void Clear(int fd) {
    if (fd >= kCapacity) return;  // may stand for others
    words_[fd / 64].fetch_and(~Bit(fd), std::memory_order_relaxed);
  }
  void ClearAll() {
    for (auto& word : words_) word.store(0, std::memory_order_relaxed);
    beyond_.store(false, std::memory_order_relaxed);
  }

  // Calls `f` for each marked one of first..last below kCapacity.
  template <typename F>
  void ForEach(unsigned first, unsigned last, F f) const {
    for (unsigned fd = first; fd <= last && fd < kCapacity; ++fd) {
      if (fd % 64 == 0 &&
          words_[fd / 64].load(std::memory_order_relaxed) == 0) {
        fd += 63;
      } else if (Test(static_cast<int>(fd))) {
        f(static_cast<int>(fd));
      }
    }
  }

  static constexpr int kCapacity = 65536;

 private:
  static constexpr uint64_t Bit(int fd) { return uint64_t{1} << (fd % 64); }

  std::array<std::atomic<uint64_t>, kCapacity / 64> words_{};
  std::atomic<bool> beyond_ = false;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_FD_MARKS_H_
