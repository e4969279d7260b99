// What the stand-in for the real libibverbs says of itself. It has the name and
// all the public symbols of libibverbs, each at its version, and does nothing
// but remember how it was called.
#ifndef TESTS_SOFT_ABI_FAKE_VERBS_H_
#define TESTS_SOFT_ABI_FAKE_VERBS_H_

#include <cstddef>
#include <cstdint>

inline constexpr size_t kFakeArguments = 6;  // as many as any of them takes

struct FakeCall {
  const char* symbol;
  // What fills an argument's place, of which the argument is the lower bytes;
  // those that the function does not have are of no meaning.
  uintptr_t arguments[kFakeArguments];
};

extern "C" {
// How often anything was called, and the last call; null: there was none.
int fake_calls();
const FakeCall* fake_last_call();
// What the next calls give back; of that, as many bytes as the result has.
void fake_answer(uintptr_t answer);
// How many devices the list that is given back is said to have.
void fake_list_length(int count);
// All the symbols, and null.
const char* const* fake_symbols();
}

#endif  // TESTS_SOFT_ABI_FAKE_VERBS_H_
