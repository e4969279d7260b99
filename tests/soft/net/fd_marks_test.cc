#include "soft/net/fd_marks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <climits>
#include <memory>
#include <vector>

namespace nd::soft {
namespace {

using ::testing::ElementsAre;

class FdMarksTest : public ::testing::Test {
 protected:
  std::vector<int> Within(unsigned first, unsigned last) const {
    std::vector<int> found;
    marks_->ForEach(first, last, [&found](int fd) { found.push_back(fd); });
    return found;
  }

  const std::unique_ptr<FdMarks> marks_ = std::make_unique<FdMarks>();
};

TEST_F(FdMarksTest, AMarkIsThereUntilItIsCleared) {
  marks_->Set(5);
  EXPECT_TRUE(marks_->Test(5));
  EXPECT_FALSE(marks_->Test(6));
  EXPECT_FALSE(marks_->Test(-1));
  marks_->Clear(5);
  EXPECT_FALSE(marks_->Test(5));
}

TEST_F(FdMarksTest, ForEachVisitsTheRangeOnly) {
  for (const int fd : {3, 63, 64, 1000, 65535}) marks_->Set(fd);
  EXPECT_THAT(Within(0, UINT_MAX), ElementsAre(3, 63, 64, 1000, 65535));
  EXPECT_THAT(Within(4, 64), ElementsAre(63, 64));
  EXPECT_THAT(Within(65, 999), ElementsAre());
}

TEST_F(FdMarksTest, OneBeyondTheCapacityStandsForAll) {
  EXPECT_FALSE(marks_->Test(FdMarks::kCapacity + 1));
  marks_->Set(FdMarks::kCapacity);
  EXPECT_TRUE(marks_->Test(FdMarks::kCapacity + 1));
  marks_->ClearAll();
  EXPECT_FALSE(marks_->Test(FdMarks::kCapacity + 1));
}

}  // namespace
}  // namespace nd::soft
