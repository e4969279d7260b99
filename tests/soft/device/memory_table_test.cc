#include "soft/device/memory_table.h"

#include <gtest/gtest.h>

#include <array>

namespace nd::soft {
namespace {

constexpr PdId kPd{7};
constexpr Accessor kQp{.pd = kPd, .qpn = Qpn(0x4001)};

// A region and a window of type 2, with the key that it was allocated with.
class WindowTest : public testing::Test {
 protected:
  WindowTest()
      : region_(*table_.AddRegion(
            {.pd = kPd,
             .address = memory_.data(),
             .length = memory_.size(),
             .iova = 0x1000,
             .access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND})),
        window_(*table_.AddWindow(kPd, IBV_MW_TYPE_2)) {}

  absl::Status Bind(uint32_t key, uint32_t new_key) {
    return table_.BindType2(key, new_key, kQp,
                            {.region_key = region_,
                             .address = 0x1000,
                             .length = memory_.size(),
                             .access = IBV_ACCESS_REMOTE_WRITE});
  }
  bool Reaches(uint32_t key) const {
    return table_
        .FindRemote(kQp, {.rkey = Rkey(key),
                          .address = 0x1000,
                          .length = 1,
                          .access = IBV_ACCESS_REMOTE_WRITE})
        .has_value();
  }

  std::array<std::byte, 64> memory_{};
  MemoryTable table_{16};
  uint32_t region_;
  uint32_t window_;
};

TEST_F(WindowTest, IsReachedByItsNewestKeyOnly) {
  const uint32_t bound = MemoryTable::NextKey(window_);
  ASSERT_TRUE(Bind(window_, bound).ok());
  EXPECT_TRUE(Reaches(bound));
  EXPECT_FALSE(Reaches(window_));
}

TEST_F(WindowTest, HoldsItsRegionUntilItIsRemovedByItsFirstKey) {
  const uint32_t bound = MemoryTable::NextKey(window_);
  ASSERT_TRUE(Bind(window_, bound).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(table_.RemoveRegion(region_)));
  table_.RemoveWindow(window_);
  EXPECT_FALSE(Reaches(bound));
  EXPECT_TRUE(table_.RemoveRegion(region_).ok());
}

TEST_F(WindowTest, IsBoundAgainByItsFirstKey) {
  const uint32_t first = MemoryTable::NextKey(window_);
  const uint32_t second = MemoryTable::NextKey(first);
  ASSERT_TRUE(Bind(window_, first).ok());
  ASSERT_TRUE(table_.Invalidate(first, kQp));
  ASSERT_TRUE(Bind(window_, second).ok());
  EXPECT_TRUE(Reaches(second));
  EXPECT_FALSE(Reaches(first));
}

TEST_F(WindowTest, RegionsKeyNamesNoWindow) {
  table_.RemoveWindow(region_);
  EXPECT_FALSE(Bind(region_, MemoryTable::NextKey(region_)).ok());
  EXPECT_TRUE(table_.RemoveRegion(region_).ok());
}

}  // namespace
}  // namespace nd::soft
