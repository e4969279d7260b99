#include "base/allocations.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace nd {
namespace {

thread_local uint64_t t_allocations = 0;

void* Checked(void* memory) {
  if (memory == nullptr) std::abort();
  ++t_allocations;
  return memory;
}

}  // namespace

uint64_t AllocationsOfThisThread() { return t_allocations; }

}  // namespace nd

// The other forms, for arrays, call these.
void* operator new(size_t size) {
  return nd::Checked(std::malloc(std::max<size_t>(size, 1)));
}
// By default this one calls the first, but a sanitizer's does not.
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return nd::Checked(std::malloc(std::max<size_t>(size, 1)));
}
void* operator new(size_t size, std::align_val_t alignment) {
  const auto step = static_cast<size_t>(alignment);
  return nd::Checked(std::aligned_alloc(step, (size + step - 1) / step * step));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}
