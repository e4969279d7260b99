#include "base/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

namespace nd {
namespace {

using ::testing::ElementsAre;

// Says what it is told to, over and over.
class ScriptedRandom final : public Random {
 public:
  explicit ScriptedRandom(std::vector<uint64_t> script)
      : script_(std::move(script)) {}
  void Fill(std::span<std::byte>) override {}
  uint64_t Next() override { return script_[position_++ % script_.size()]; }

 private:
  std::vector<uint64_t> script_;
  size_t position_ = 0;
};

// From the authors' xoshiro256starstar.c with its state set by their
// splitmix64.c, as both recommend (prng.di.unimi.it).
TEST(SeededRandom, DrawsWhatXoshiro256StarStarDraws) {
  SeededRandom random(42);

  EXPECT_EQ(random.Next(), 0x15780b2e0c2ec716u);
  EXPECT_EQ(random.Next(), 0x6104d9866d113a7eu);
  EXPECT_EQ(random.Next(), 0xae17533239e499a1u);
  EXPECT_EQ(random.Next(), 0xecb8ad4703b360a1u);
}

TEST(SeededRandom, FillLaysWordsOutLittleEndian) {
  SeededRandom random(42);
  std::array<uint8_t, 11> bytes;

  random.Fill(std::as_writable_bytes(std::span(bytes)));

  EXPECT_THAT(bytes, ElementsAre(0x16, 0xc7, 0x2e, 0x0c, 0x2e, 0x0b, 0x78, 0x15,
                                 0x7e, 0x3a, 0x11));
}

TEST(SeededRandom, SameSeedSameDrawsOtherSeedOthers) {
  EXPECT_EQ(SeededRandom(7).Next(), SeededRandom(7).Next());
  EXPECT_NE(SeededRandom(7).Next(), SeededRandom(8).Next());
}

TEST(Random, BelowReachesAllOfItsRangeAndNothingElse) {
  SeededRandom random(1);
  std::array<int, 10> seen{};
  for (int i = 0; i < 10'000; ++i) ++seen.at(random.Below(seen.size()));

  EXPECT_THAT(seen, ::testing::Each(::testing::AllOf(::testing::Gt(850),
                                                     ::testing::Lt(1150))));
}

TEST(Random, BelowDrawsAgainWhereTheRemainderWouldBeBiased) {
  // 2^64 mod 10 is 6: the draws 0 to 5 have no partner at the other end.
  ScriptedRandom random({0, 5, 6});

  EXPECT_EQ(random.Below(10), 6u);
}

TEST(Random, BelowOneIsZeroAndBelowTheLargestIsInRange) {
  ScriptedRandom random({~uint64_t{0}, ~uint64_t{0} - 1});

  EXPECT_EQ(random.Below(1), 0u);
  EXPECT_EQ(random.Below(~uint64_t{0}), ~uint64_t{0} - 1);
}

TEST(Random, OneInOneIsAlwaysTrue) {
  SeededRandom random(1);

  EXPECT_TRUE(random.OneIn(1));
}

TEST(Random, FractionLiesBetweenZeroAndOne) {
  ScriptedRandom random({0, ~uint64_t{0}, uint64_t{1} << 63});

  EXPECT_EQ(random.Fraction(), 0.0);
  EXPECT_EQ(random.Fraction(), 1.0 - 0x1.0p-53);
  EXPECT_EQ(random.Fraction(), 0.5);
}

TEST(Random, ProbabilityZeroIsNeverAndOneIsAlways) {
  ScriptedRandom random({0, ~uint64_t{0}});

  EXPECT_FALSE(random.WithProbability(0));
  EXPECT_TRUE(random.WithProbability(1));
  EXPECT_FALSE(random.WithProbability(-1));
}

TEST(SystemRandom, FillsMoreThanOneCallMayReturnAndDoesNotRepeat) {
  SystemRandom random;
  std::vector<uint64_t> words(1024);

  random.Fill(std::as_writable_bytes(std::span(words)));

  EXPECT_EQ(std::set(words.begin(), words.end()).size(), words.size());
  EXPECT_NE(random.Next(), random.Next());
}

}  // namespace
}  // namespace nd
