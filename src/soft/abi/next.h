// The next definition of a libc symbol after ours.
#ifndef ND_SOFT_ABI_NEXT_H_
#define ND_SOFT_ABI_NEXT_H_

#include <dlfcn.h>

#include <atomic>

// Defines a C function under another's name: ours does not clash with what
// libc's headers say of theirs (attributes, inline bodies).
#define ND_HOOK(symbol) asm(symbol) __attribute__((visibility("default"), used))

// Another name of a hook of the same file.
#define ND_HOOK_ALIAS(name, hook) \
  asm(".globl " name "\n.type " name ", %function\n.set " name ", " hook "\n")

namespace nd::soft {

// Looked up when it is first called, which may be before any constructor of
// ours has run: other libraries' run first.
template <typename F>
class Next {
 public:
  constexpr explicit Next(const char* symbol) : symbol_(symbol) {}

  F* get() {
    void* found = found_.load(std::memory_order_relaxed);
    if (found == nullptr) {
      found = dlsym(RTLD_NEXT, symbol_);
      found_.store(found, std::memory_order_relaxed);
    }
    return reinterpret_cast<F*>(found);
  }

  template <typename... Args>
  auto operator()(Args... args) {
    return get()(args...);
  }

 private:
  const char* symbol_;
  std::atomic<void*> found_ = nullptr;
};

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_NEXT_H_
