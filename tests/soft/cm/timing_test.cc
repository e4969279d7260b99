#include "soft/cm/timing.h"

#include <gtest/gtest.h>

#include <optional>

#include "soft/cm/deadline_queue.h"

namespace nd::soft {
namespace {

using std::chrono::milliseconds;

TEST(CmTiming, CodesAreTimesRoundedDown) {
  EXPECT_EQ(IbTime(0), milliseconds(1));
  EXPECT_EQ(IbTime(8), milliseconds(1));
  EXPECT_EQ(IbTime(18), milliseconds(1024));
  EXPECT_EQ(IbTime(20), milliseconds(4096));
  EXPECT_EQ(IbTime(24), milliseconds(65536));
}

TEST(CmTiming, AckTimeoutIsTheLongerOrOneMore) {
  EXPECT_EQ(AckTimeout(15, 18), 19);
  EXPECT_EQ(AckTimeout(18, 18), 20);
  EXPECT_EQ(AckTimeout(20, 18), 21);
  EXPECT_EQ(AckTimeout(21, 18), 21);
  EXPECT_EQ(AckTimeout(31, 31), 31);
}

TEST(DeadlineQueue, GivesWhatIsDueInOrder) {
  DeadlineQueue<int> queue;
  const Instant start{};
  queue.Set(1, start + milliseconds(30));
  queue.Set(2, start + milliseconds(10));
  queue.Set(3, start + milliseconds(20));
  EXPECT_EQ(queue.Next(), start + milliseconds(10));
  EXPECT_EQ(queue.PopDue(start + milliseconds(20)), 2);
  EXPECT_EQ(queue.PopDue(start + milliseconds(20)), 3);
  EXPECT_EQ(queue.PopDue(start + milliseconds(20)), std::nullopt);
  EXPECT_EQ(queue.Next(), start + milliseconds(30));
}

TEST(DeadlineQueue, KeyHasOneDeadlineOrNone) {
  DeadlineQueue<int> queue;
  const Instant start{};
  queue.Set(1, start + milliseconds(30));
  queue.Set(1, start + milliseconds(50));
  EXPECT_EQ(queue.Next(), start + milliseconds(50));
  queue.Set(1, std::nullopt);
  EXPECT_EQ(queue.Next(), std::nullopt);
}

}  // namespace
}  // namespace nd::soft
