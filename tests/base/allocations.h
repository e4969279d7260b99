// Counting what a thread takes from the heap, in programs that are built with
// allocations.cc.
#ifndef ND_TESTS_BASE_ALLOCATIONS_H_
#define ND_TESTS_BASE_ALLOCATIONS_H_

#include <cstdint>

namespace nd {

// By operator new in any form, on the calling thread, since it began.
uint64_t AllocationsOfThisThread();

}  // namespace nd

#endif  // ND_TESTS_BASE_ALLOCATIONS_H_
