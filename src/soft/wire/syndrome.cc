#include "soft/wire/syndrome.h"

#include <array>

namespace nd::soft {
namespace {

constexpr auto kAckTimeUnit = std::chrono::nanoseconds(4096);

// In units of 10 us.
constexpr std::array<uint32_t, 32> kRnrTimes = {
    65536, 1,    2,    3,    4,    6,     8,     12,    16,    24,   32,
    48,    64,   96,   128,  192,  256,   384,   512,   768,   1024, 1536,
    2048,  3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152};
constexpr auto kRnrTimeUnit = std::chrono::microseconds(10);

}  // namespace

Duration RnrTime(uint8_t timer_code) {
  return kRnrTimes[timer_code % kRnrTimes.size()] * kRnrTimeUnit;
}

Duration AckTime(uint8_t exponent) {
  if (exponent == 0) return Duration::zero();
  return kAckTimeUnit * (int64_t{1} << (exponent & 31));
}

}  // namespace nd::soft
