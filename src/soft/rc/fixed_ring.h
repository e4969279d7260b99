// A queue of bounded size whose room is made once.
#ifndef ND_SOFT_RC_FIXED_RING_H_
#define ND_SOFT_RC_FIXED_RING_H_

#include <cassert>
#include <cstddef>
#include <utility>
#include <vector>

namespace nd::soft {

// Index 0 is the oldest element. One thread at a time.
template <typename T>
class FixedRing {
 public:
  FixedRing() = default;
  explicit FixedRing(size_t capacity) : slots_(capacity) {}

  size_t size() const { return size_; }
  size_t capacity() const { return slots_.size(); }
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == slots_.size(); }

  T& operator[](size_t index) { return slots_[SlotOf(index)]; }
  const T& operator[](size_t index) const { return slots_[SlotOf(index)]; }
  T& front() { return (*this)[0]; }
  const T& front() const { return (*this)[0]; }
  T& back() { return (*this)[size_ - 1]; }

  // There is room: !full().
  T& Push(T value) {
    assert(!full());
    ++size_;
    return back() = std::move(value);
  }
  void PopFront() {
    assert(!empty());
    begin_ = SlotOf(1);
    --size_;
  }
  // Moves up what is behind it.
  void Erase(size_t index) {
    for (size_t i = index; i + 1 < size_; ++i) {
      (*this)[i] = std::move((*this)[i + 1]);
    }
    --size_;
  }
  void Clear() { size_ = 0; }

 private:
  size_t SlotOf(size_t index) const {
    const size_t slot = begin_ + index;
    return slot < slots_.size() ? slot : slot - slots_.size();
  }

  std::vector<T> slots_;
  size_t begin_ = 0;
  size_t size_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_RC_FIXED_RING_H_
