// A queue whose elements have numbers.
#ifndef ND_TRANSPORT_SESSION_FIFO_H_
#define ND_TRANSPORT_SESSION_FIFO_H_

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace nd::transport {

// Elements are numbered from 0 in the order they were pushed, and keep their
// number. The room doubles where it is too small: once warm, nothing is
// allocated. The bound is the user's. One thread at a time.
template <typename T>
class Fifo {
 public:
  bool empty() const { return begin_ == end_; }
  size_t size() const { return static_cast<size_t>(end_ - begin_); }
  uint64_t begin() const { return begin_; }  // number of the oldest
  uint64_t end() const { return end_; }      // of the next to be pushed
  bool Has(uint64_t number) const { return number - begin_ < size(); }

  T& operator[](uint64_t number) {
    assert(Has(number));
    return slots_[number & (slots_.size() - 1)];
  }
  const T& operator[](uint64_t number) const {
    assert(Has(number));
    return slots_[number & (slots_.size() - 1)];
  }
  T& front() { return (*this)[begin_]; }

  // One more, as T() makes it, to be filled in where it lies.
  T& Push() {
    if (size() == slots_.size()) [[unlikely]]
      Grow();
    return slots_[end_++ & (slots_.size() - 1)];
  }
  T& Push(T value) { return Push() = std::move(value); }
  void PopFront() {
    front() = T();
    ++begin_;
  }

 private:
  void Grow() {
    std::vector<T> larger(slots_.empty() ? 8 : slots_.size() * 2);
    for (uint64_t i = begin_; i != end_; ++i) {
      larger[i & (larger.size() - 1)] = std::move((*this)[i]);
    }
    slots_ = std::move(larger);
  }

  std::vector<T> slots_;
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_SESSION_FIFO_H_
