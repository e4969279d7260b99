#include "transport/memory/budget.h"

#include <cassert>

#include "absl/strings/str_cat.h"

namespace nd::transport {

Budget::Budget(std::string name, size_t limit_bytes,
               std::shared_ptr<Budget> parent)
    : name_(std::move(name)), limit_(limit_bytes), parent_(std::move(parent)) {}

Budget::~Budget() { assert(used() == 0); }

const Budget* Budget::TakeOrName(size_t bytes) {
  size_t used = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > limit_ - used) return this;
  } while (!used_.compare_exchange_weak(used, used + bytes,
                                        std::memory_order_relaxed));
  const Budget* const refuser =
      parent_ == nullptr ? nullptr : parent_->TakeOrName(bytes);
  if (refuser != nullptr) {
    used_.fetch_sub(bytes, std::memory_order_relaxed);
    return refuser;
  }
  size_t peak = peak_.load(std::memory_order_relaxed);
  while (peak < used + bytes &&
         !peak_.compare_exchange_weak(peak, used + bytes,
                                      std::memory_order_relaxed)) {
  }
  return nullptr;
}

bool Budget::TryTake(size_t bytes) { return TakeOrName(bytes) == nullptr; }

absl::Status Budget::Take(size_t bytes) {
  const Budget* const refuser = TakeOrName(bytes);
  if (refuser == nullptr) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      refuser->name(), ": ", bytes, " bytes asked for, ", refuser->used(),
      " in use of a budget of ", refuser->limit()));
}

void Budget::Give(size_t bytes) {
  if (parent_ != nullptr) parent_->Give(bytes);
  [[maybe_unused]] const size_t before =
      used_.fetch_sub(bytes, std::memory_order_relaxed);
  assert(before >= bytes);
}

absl::StatusOr<Budget::Share> Budget::TakeShare(size_t bytes) {
  if (absl::Status taken = Take(bytes); !taken.ok()) return taken;
  return Share(this, bytes);
}

Budget::Share Budget::TryTakeShare(size_t bytes) {
  return TryTake(bytes) ? Share(this, bytes) : Share();
}

}  // namespace nd::transport
