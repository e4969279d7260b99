#include "ndping/engine/flow.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

#include "base/random.h"

namespace nd::ndping {
namespace {

TEST(Counts, ExpandAcrossTheWrapOf32Bits) {
  EXPECT_EQ(ExpandCount(5, 5), 5u);
  EXPECT_EQ(ExpandCount(0xfffffffe, 1), uint64_t{0x100000001});
  EXPECT_EQ(ExpandCount(uint64_t{7} << 32, 3), (uint64_t{7} << 32) + 3);
}

TEST(Credit, ComesBackAsItWentUnlessItIsTorn) {
  for (const uint32_t count : {0u, 1u, 255u, 256u, 0xffffffffu}) {
    EXPECT_EQ(DecodeCredit(EncodeCredit(count)), count);
  }
  EXPECT_EQ(DecodeCredit(0), std::nullopt);
}

// However many bytes of the new word have arrived, from either end, what is
// read is the old count, the new one, or nothing.
TEST(Credit, HalfWrittenWordIsNeverAThirdCount) {
  SeededRandom random(7);
  for (int i = 0; i < 10000; ++i) {
    const auto before = static_cast<uint32_t>(random.Next());
    const uint32_t after = before + static_cast<uint32_t>(random.Below(1000));
    const uint64_t bits = 8 * random.Below(9);
    const uint64_t low = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
    const uint64_t mask = random.OneIn(2) ? low : ~low;
    const auto read = DecodeCredit((EncodeCredit(after) & mask) |
                                   (EncodeCredit(before) & ~mask));
    EXPECT_TRUE(!read.has_value() || *read == before || *read == after)
        << before << " to " << after << ", mask " << mask;
  }
}

TEST(SendWindow, IsLimitedByWhatIsInFlight) {
  SendWindow window({.in_flight = 4});
  EXPECT_EQ(window.Room(), 4u);
  window.OnPosted(4);
  EXPECT_EQ(window.Room(), 0u);
  EXPECT_FALSE(window.WaitsForCredit());
  window.OnCompleted(3);
  EXPECT_EQ(window.Room(), 3u);
}

TEST(SendWindow, IsLimitedByCredits) {
  SendWindow window({.in_flight = 4, .uncredited = 6});
  window.OnPosted(4);
  window.OnCompleted(4);
  EXPECT_EQ(window.Room(), 2u);
  window.OnPosted(2);
  window.OnCompleted(6);
  EXPECT_EQ(window.Room(), 0u);
  EXPECT_TRUE(window.WaitsForCredit());
  EXPECT_TRUE(window.OnCredit(1));
  EXPECT_EQ(window.Room(), 1u);
}

TEST(SendWindow, RefusesACreditForMoreThanWasSent) {
  SendWindow window({.in_flight = 4, .uncredited = 6});
  window.OnPosted(3);
  EXPECT_FALSE(window.OnCredit(4));
  EXPECT_EQ(window.Room(), 1u);
}

TEST(CreditReturn, OneIsUnderWayAtATime) {
  CreditReturn credits(4);
  credits.OnTaken(3);
  EXPECT_FALSE(credits.Due());
  credits.OnTaken(1);
  ASSERT_TRUE(credits.Due());
  EXPECT_EQ(credits.Start(), 4u);
  credits.OnTaken(9);
  EXPECT_FALSE(credits.Due());
  credits.OnDone();
  ASSERT_TRUE(credits.Due());
  EXPECT_EQ(credits.Start(), 13u);
}

TEST(CreditReturn, NeverWhereThereAreNone) {
  CreditReturn credits(0);
  credits.OnTaken(100);
  EXPECT_FALSE(credits.Due());
}

// Sender and receiver with a wire of chance between them: all messages arrive,
// and none finds the receiver without a posted receive.
class FlowModel : public ::testing::TestWithParam<uint32_t> {};

TEST_P(FlowModel, NeverStallsAndNeverOverruns) {
  constexpr uint64_t kMessages = 5000;
  const uint32_t receives = GetParam();
  SeededRandom random(receives);
  SendWindow window({.in_flight = 3, .uncredited = receives});
  CreditReturn credits(std::max(1u, receives / 4));
  uint64_t arrived = 0;
  std::deque<uint32_t> credits_on_the_wire;
  for (int turns = 0; credits.taken() < kMessages; ++turns) {
    ASSERT_LT(turns, 1000000) << "stalled";
    if (random.OneIn(2) && window.Room() > 0) window.OnPosted(1);
    if (random.OneIn(2) && arrived < window.posted()) {
      ++arrived;
      ASSERT_LE(arrived - credits.taken(), receives);
      window.OnCompleted(static_cast<uint32_t>(arrived));
    }
    if (random.OneIn(2) && credits.taken() < arrived) credits.OnTaken(1);
    if (credits.Due()) credits_on_the_wire.push_back(credits.Start());
    if (random.OneIn(3) && !credits_on_the_wire.empty()) {
      ASSERT_TRUE(window.OnCredit(credits_on_the_wire.front()));
      credits_on_the_wire.pop_front();
      credits.OnDone();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Receives, FlowModel,
                         ::testing::Values(1, 2, 3, 4, 5, 7, 8, 64));

}  // namespace
}  // namespace nd::ndping
