#include "transport/memory/segregated_fit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <vector>

#include "base/random.h"

namespace nd::transport {
namespace {

using Block = SegregatedFit::Block;

TEST(SegregatedFit, ClassSizeRoundsUpByAtMostOneThirtySecond) {
  for (uint64_t units = 1; units < 100'000; ++units) {
    const uint64_t size = SegregatedFit::ClassSize(units);
    ASSERT_GE(size, units);
    ASSERT_LE((size - units) * 32, units) << units;
    ASSERT_EQ(SegregatedFit::ClassSize(size), size) << units;
  }
}

TEST(SegregatedFit, FindsABlockOfExactlyItsSize) {
  for (uint64_t units = 1; units < 5'000; ++units) {
    SegregatedFit fit;
    const uint64_t size = SegregatedFit::ClassSize(units);
    const Block area = fit.AddArea(0, size);
    EXPECT_EQ(fit.Take(size + 1), SegregatedFit::kNone);
    const Block block = fit.Take(size);
    ASSERT_NE(block, SegregatedFit::kNone) << size;
    EXPECT_EQ(fit.units(block), size);
    EXPECT_FALSE(fit.IsFree(area));
    EXPECT_EQ(fit.Take(1), SegregatedFit::kNone);
    fit.Free(block);
    EXPECT_TRUE(fit.IsFree(area));
  }
}

TEST(SegregatedFit, HugeSizesAreNotFoundAndDoNoHarm) {
  SegregatedFit fit;
  fit.AddArea(0, uint64_t{1} << 43);
  EXPECT_EQ(fit.Take(UINT64_MAX), SegregatedFit::kNone);
  EXPECT_EQ(fit.Take(uint64_t{1} << 44), SegregatedFit::kNone);
  EXPECT_EQ(fit.units(fit.Take(uint64_t{1} << 43)), uint64_t{1} << 43);
}

TEST(SegregatedFit, NamesTheAreaOfABlock) {
  SegregatedFit fit;
  fit.AddArea(7, 10);
  const Block large = fit.AddArea(8, 100);
  EXPECT_EQ(fit.area(fit.Take(100)), 8u);
  const Block small = fit.Take(4);
  EXPECT_EQ(fit.area(small), 7u);
  EXPECT_EQ(fit.area(fit.Take(6)), 7u);
  fit.Free(large);
  EXPECT_TRUE(fit.IsFree(large));
  fit.RemoveArea(large);
  EXPECT_EQ(fit.Take(1), SegregatedFit::kNone);
}

TEST(SegregatedFit, NeighboursJoinInEveryOrder) {
  std::vector<int> order{0, 1, 2, 3};
  do {
    SegregatedFit fit;
    const Block area = fit.AddArea(0, 64);
    std::array<Block, 4> blocks;
    for (Block& block : blocks) block = fit.Take(16);
    for (const int i : order) fit.Free(blocks[i]);
    EXPECT_TRUE(fit.IsFree(area));
    EXPECT_EQ(fit.Take(64), area);
  } while (std::next_permutation(order.begin(), order.end()));
}

// What is free, as a list of gaps of one area.
class Model {
 public:
  explicit Model(uint64_t units) : units_(units) {}

  uint64_t LargestGap() const {
    uint64_t largest = 0, end = 0;
    for (const auto& [begin, units] : used_) {
      largest = std::max(largest, begin - end);
      end = begin + units;
    }
    return std::max(largest, units_ - end);
  }
  // Whether it overlaps nothing.
  bool Add(uint64_t begin, uint64_t units) {
    const auto next = used_.lower_bound(begin);
    if (next != used_.end() && begin + units > next->first) return false;
    if (next != used_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second > begin) return false;
    }
    used_[begin] = units;
    return begin + units <= units_;
  }
  void Remove(uint64_t begin) { used_.erase(begin); }

 private:
  const uint64_t units_;
  std::map<uint64_t, uint64_t> used_;
};

class RandomUse : public ::testing::TestWithParam<uint64_t> {};

TEST_P(RandomUse, FindsWhatThereIsOverlapsNothingAndJoinsToOne) {
  SeededRandom random(GetParam());
  const uint64_t total = 1 + random.Below(20'000);
  SegregatedFit fit;
  const Block area = fit.AddArea(0, total);
  Model model(total);
  std::vector<Block> taken;
  const uint64_t most = 1 + random.Below(total);
  for (int step = 0; step < 3'000; ++step) {
    if (!taken.empty() && random.WithProbability(0.45)) {
      std::swap(taken[random.Below(taken.size())], taken.back());
      model.Remove(fit.begin(taken.back()));
      fit.Free(taken.back());
      taken.pop_back();
      continue;
    }
    const uint64_t units = SegregatedFit::ClassSize(1 + random.Below(most));
    const bool there_is = model.LargestGap() >= units;
    const Block block = fit.Take(units);
    ASSERT_EQ(block != SegregatedFit::kNone, there_is) << step;
    if (!there_is) continue;
    ASSERT_EQ(fit.units(block), units);
    ASSERT_TRUE(model.Add(fit.begin(block), units)) << step;
    taken.push_back(block);
  }
  for (const Block block : taken) fit.Free(block);
  EXPECT_TRUE(fit.IsFree(area));
  EXPECT_EQ(fit.units(area), total);
}

INSTANTIATE_TEST_SUITE_P(SegregatedFit, RandomUse,
                         ::testing::Range<uint64_t>(0, 50));

}  // namespace
}  // namespace nd::transport
