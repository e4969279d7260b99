// How many bytes something may hold.
#ifndef ND_TRANSPORT_MEMORY_BUDGET_H_
#define ND_TRANSPORT_MEMORY_BUDGET_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace nd::transport {

// A limit on bytes, within that of its parent: what a session takes, it takes
// from its process, too. Never more is out than the limit, whoever takes at
// the same time; for that, a Take that its parent refuses may for a moment
// stand in the way of one that would have fitted.
//
// Thread-safe, without a lock.
class Budget {
 public:
  class Share;

  // `name` is for messages: "receive memory of session 7".
  Budget(std::string name, size_t limit_bytes,
         std::shared_ptr<Budget> parent = nullptr);
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;
  ~Budget();  // everything was given back

  // All of `bytes` from this budget and those around it, or nothing.
  [[nodiscard]] bool TryTake(size_t bytes);
  // RESOURCE_EXHAUSTED names the budget that has too little, its limit and use.
  absl::Status Take(size_t bytes);
  // Of what was taken.
  void Give(size_t bytes);

  // The same, given back by the Share, which this budget outlives.
  absl::StatusOr<Share> TakeShare(size_t bytes);
  Share TryTakeShare(size_t bytes);  // of no bytes if they cannot be had

  const std::string& name() const { return name_; }
  size_t limit() const { return limit_; }
  size_t used() const { return used_.load(std::memory_order_relaxed); }
  size_t peak() const { return peak_.load(std::memory_order_relaxed); }

 private:
  // The budget that has too little; null if the bytes were taken.
  const Budget* TakeOrName(size_t bytes);

  const std::string name_;
  const size_t limit_;
  const std::shared_ptr<Budget> parent_;
  std::atomic<size_t> used_{0};
  std::atomic<size_t> peak_{0};
};

// Bytes of a budget, for as long as this lives. One thread at a time.
class Budget::Share {
 public:
  Share() = default;  // of no bytes
  Share(Share&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  Share& operator=(Share&& other) noexcept {
    Share old(std::move(*this));
    budget_ = std::exchange(other.budget_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    return *this;
  }
  ~Share() {
    if (budget_ != nullptr) budget_->Give(bytes_);
  }

  size_t bytes() const { return bytes_; }

 private:
  friend class Budget;
  Share(Budget* budget, size_t bytes) : budget_(budget), bytes_(bytes) {}

  Budget* budget_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_MEMORY_BUDGET_H_
