#include "base/random.h"

#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/byte_order.h"

namespace nd {

uint64_t Random::Next() {
  std::array<std::byte, sizeof(uint64_t)> bytes;
  Fill(bytes);
  return LoadUint<std::endian::little>(
      std::span<const std::byte, sizeof(uint64_t)>(bytes));
}

uint64_t Random::Below(uint64_t n) {
  assert(n > 0);
  // The first 2^64 mod n values would make the small remainders too frequent.
  const uint64_t biased = (uint64_t{0} - n) % n;
  for (;;) {
    const uint64_t draw = Next();
    if (draw >= biased) return draw % n;
  }
}

double Random::Fraction() {
  return static_cast<double>(Next() >> 11) * 0x1.0p-53;
}

void SystemRandom::Fill(std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t filled = getrandom(out.data(), out.size(), 0);
    if (filled >= 0) {
      out = out.subspan(static_cast<size_t>(filled));
    } else if (errno != EINTR) {
      std::perror("getrandom");
      std::abort();
    }
  }
}

SeededRandom::SeededRandom(uint64_t seed) {
  for (uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15;
    word = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9;
    word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
    word ^= word >> 31;
  }
}

void SeededRandom::Fill(std::span<std::byte> out) {
  while (!out.empty()) {
    std::array<std::byte, sizeof(uint64_t)> word;
    StoreUint<std::endian::little>(std::span(word), Next());
    const size_t size = std::min(out.size(), word.size());
    std::copy_n(word.begin(), size, out.begin());
    out = out.subspan(size);
  }
}

uint64_t SeededRandom::Next() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

}  // namespace nd
