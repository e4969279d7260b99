#include "soft/abi/real_verbs.h"

#include <dlfcn.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "soft/abi/hooks_off.h"

namespace nd::soft {
namespace {

// By the symbol's address. No lock, which a fork could leave behind held.
class Cache {
 public:
  // Null: the table is full.
  std::atomic<void*>* SlotOf(const char* symbol) {
    const size_t home = reinterpret_cast<uintptr_t>(symbol) / 8;
    for (size_t i = 0; i < slots_.size(); ++i) {
      Slot& slot = slots_[(home + i) % slots_.size()];
      const char* key = nullptr;
      if (slot.symbol.compare_exchange_strong(key, symbol) || key == symbol) {
        return &slot.address;
      }
    }
    return nullptr;
  }

 private:
  struct Slot {
    std::atomic<const char*> symbol = nullptr;
    std::atomic<void*> address = nullptr;
  };
  std::array<Slot, 256> slots_;
};

constinit Cache cache;

bool IsOurs(void* address) {
  Dl_info theirs;
  Dl_info own;
  return dladdr(address, &theirs) != 0 && dladdr(&cache, &own) != 0 &&
         theirs.dli_fbase == own.dli_fbase;
}

// Kept open for good. One that programs load themselves is in no scope that
// RTLD_NEXT looks through.
void* RealLibrary() {
  static constinit std::atomic<void*> library = nullptr;
  void* handle = library.load();
  if (handle == nullptr) {
    const HooksOff off;
    handle = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);
    library.store(handle);
  }
  return handle;
}

void* LookUp(const char* symbol, const char* version) {
  void* found = dlvsym(RTLD_NEXT, symbol, version);
  if (found == nullptr && RealLibrary() != nullptr) {
    found = dlvsym(RealLibrary(), symbol, version);
  }
  return found != nullptr && !IsOurs(found) ? found : nullptr;
}

}  // namespace

void* FindReal(const char* symbol, const char* version) {
  std::atomic<void*>* slot = cache.SlotOf(symbol);
  if (slot == nullptr) return LookUp(symbol, version);
  void* found = slot->load();
  if (found == nullptr) {
    found = LookUp(symbol, version);
    slot->store(found);
  }
  return found;
}

}  // namespace nd::soft
