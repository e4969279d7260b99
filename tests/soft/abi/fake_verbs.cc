#include "soft/abi/fake_verbs.h"

#include <cstring>

// Not with the types that the functions have: here all take as many words as
// fit into registers and give back one, which serves callers of any of those
// types.
namespace {

int calls = 0;
int list_length = 0;
uintptr_t next_answer = 0;
FakeCall last;

constexpr const char* kSymbols[] = {
#define ND_FAKE(symbol) #symbol,
#include "fake_verbs.inc"
#undef ND_FAKE
    nullptr};

uintptr_t Remember(const FakeCall& call) {
  ++calls;
  last = call;
  if (std::strcmp(call.symbol, "ibv_get_device_list") == 0) {
    *reinterpret_cast<int*>(call.arguments[0]) = list_length;
  }
  return next_answer;
}

}  // namespace

extern "C" {

#define ND_FAKE(symbol)                                                \
  uintptr_t symbol(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, \
                   uintptr_t e, uintptr_t f) {                         \
    return Remember({#symbol, {a, b, c, d, e, f}});                    \
  }
#include "fake_verbs.inc"
#undef ND_FAKE

int fake_calls() { return calls; }
const FakeCall* fake_last_call() { return calls > 0 ? &last : nullptr; }
void fake_answer(uintptr_t answer) { next_answer = answer; }
void fake_list_length(int count) { list_length = count; }
const char* const* fake_symbols() { return kSymbols; }

}  // extern "C"
