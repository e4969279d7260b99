// Where the fuzz targets begin: inputs made of the captures of
// tests/golden/roce, and of the golden packets of tests/transport/frame.
#ifndef ND_TESTS_FUZZ_SEEDS_H_
#define ND_TESTS_FUZZ_SEEDS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "soft/wire/serial.h"

// The target: one to a program.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace nd::soft {

using FuzzInput = std::vector<uint8_t>;

// The queue pairs of rc_fuzz.cc have this number and the next.
inline constexpr Qpn kFuzzQpn{17};

std::vector<FuzzInput> WireSeeds();   // a datagram each
std::vector<FuzzInput> RcSeeds();     // a capture each, as replayed packets
std::vector<FuzzInput> CmSeeds();     // a capture each, as replayed MADs
std::vector<FuzzInput> FrameSeeds();  // a golden packet each

// Runs the target on each seed and then on `runs` inputs that chance makes of
// them: always the same ones.
void RunMutations(const std::vector<FuzzInput>& seeds, uint64_t runs);

}  // namespace nd::soft

#endif  // ND_TESTS_FUZZ_SEEDS_H_
