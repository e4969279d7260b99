#include "soft/rc/segments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <span>

#include "soft/rc/bench.h"

namespace nd::soft {
namespace {

class SegmentsTest : public testing::Test {
 protected:
  std::vector<std::byte> bytes_ = Pattern(20);
  std::array<Segment, 4> segments_ = {std::span(bytes_).first(3), Segment(),
                                      std::span(bytes_).subspan(3, 10),
                                      std::span(bytes_).subspan(13)};
};

TEST_F(SegmentsTest, EverySliceIsGatheredAsItLies) {
  EXPECT_EQ(TotalBytes(segments_), 20u);
  for (size_t offset = 0; offset <= 20; ++offset) {
    for (size_t length = 0; length <= 20 - offset; ++length) {
      std::vector<std::byte> out(length);
      Gather({.segments = segments_, .offset = offset, .length = length}, out);
      EXPECT_TRUE(
          std::ranges::equal(out, std::span(bytes_).subspan(offset, length)));
    }
  }
}

TEST_F(SegmentsTest, ScatterWritesWhatItWasGivenAndNoMore) {
  const std::vector<std::byte> before = bytes_;
  const std::vector<std::byte> news(5, std::byte{0xff});
  Scatter(news, segments_, 2);
  EXPECT_TRUE(std::equal(bytes_.begin(), bytes_.begin() + 2, before.begin()));
  EXPECT_TRUE(std::equal(news.begin(), news.end(), bytes_.begin() + 2));
  EXPECT_TRUE(std::equal(bytes_.begin() + 7, bytes_.end(), before.begin() + 7));
}

}  // namespace
}  // namespace nd::soft
