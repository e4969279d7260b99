// Chance, passed in: code that draws takes a Random, so that a test or the
// simulator decides what is drawn and a seed repeats a run.
#ifndef ND_BASE_RANDOM_H_
#define ND_BASE_RANDOM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace nd {

// A source of uniformly distributed bits. The implementation says whether
// several threads may draw from it.
class Random {
 public:
  virtual ~Random() = default;

  virtual void Fill(std::span<std::byte> out) = 0;

  // 64 uniform bits.
  virtual uint64_t Next();

  // Uniform in [0, n), without bias. n > 0.
  uint64_t Below(uint64_t n);

  // True once in n draws on average. n > 0.
  bool OneIn(uint64_t n) { return Below(n) == 0; }

  // Uniform in [0, 1), a multiple of 2^-53.
  double Fraction();

  // True with `probability`: never for 0 or less, always for 1 or more.
  bool WithProbability(double probability) { return Fraction() < probability; }
};

// The kernel's generator, getrandom(2): cryptographically strong, for tokens
// and seeds. A system call a draw. Thread-safe.
class SystemRandom final : public Random {
 public:
  // Ends the process if the kernel has no randomness to give, which Linux
  // rules out: a guessable token would be worse.
  void Fill(std::span<std::byte> out) override;
};

// xoshiro256**, its state expanded from `seed` by splitmix64. The same seed
// gives the same draws on every machine. For tests, simulation and jitter,
// never for secrets. One thread at a time.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed);

  // Draws ceil(out.size() / 8) words and lays them out little-endian.
  void Fill(std::span<std::byte> out) override;
  uint64_t Next() override;

 private:
  std::array<uint64_t, 4> state_;
};

}  // namespace nd

#endif  // ND_BASE_RANDOM_H_
