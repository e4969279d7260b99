// What a fuzz target makes of its input.
#ifndef ND_TESTS_FUZZ_CHOICES_H_
#define ND_TESTS_FUZZ_CHOICES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace nd::soft {

// Ends the process, which is how a fuzzer learns of a finding.
inline void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// Decisions, taken from the input; zeros once it is used up.
class Choices {
 public:
  explicit Choices(std::span<const uint8_t> input) : rest_(input) {}

  bool empty() const { return rest_.empty(); }
  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const uint8_t byte = rest_.front();
    rest_ = rest_.subspan(1);
    return byte;
  }
  uint16_t Word() { return static_cast<uint16_t>(Byte() << 8 | Byte()); }
  // n is at most 256.
  uint32_t Below(uint32_t n) { return Byte() % n; }
  bool OneIn(uint32_t n) { return Below(n) == n - 1; }
  // As they stand in the input, fewer where it ends.
  std::span<const uint8_t> Bytes(size_t most) {
    const auto bytes = rest_.first(std::min(most, rest_.size()));
    rest_ = rest_.subspan(bytes.size());
    return bytes;
  }

 private:
  std::span<const uint8_t> rest_;
};

}  // namespace nd::soft

#endif  // ND_TESTS_FUZZ_CHOICES_H_
