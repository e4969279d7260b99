#include "control/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/random.h"

namespace nd::control {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Valid with any one field at either end of its range.
SessionLayout Roomy() {
  SessionLayout layout;
  layout.eager_limit = 0;
  layout.max_streams = 1;
  layout.stream_window = 4096;
  layout.receive_budget = uint64_t{1} << 46;
  return layout;
}

std::string MessageOf(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

class LayoutFieldTest : public ::testing::TestWithParam<LayoutField> {
 protected:
  absl::Status CheckWith(uint64_t value) {
    SessionLayout layout = Roomy();
    // The largest eager limit needs the largest packet and window.
    if (GetParam().name == "eager_limit") {
      layout.slot_size = 1 << 20;
      layout.stream_window = 1 << 30;
    }
    // The smallest budget needs the smallest windows, which those are.
    layout.*GetParam().value = value;
    return CheckLayout(layout);
  }
  std::string name() const { return absl::StrCat("layout.", GetParam().name); }
};

TEST_P(LayoutFieldTest, IsTakenAtTheEdgesOfItsRange) {
  EXPECT_TRUE(CheckWith(GetParam().min).ok()) << CheckWith(GetParam().min);
  EXPECT_TRUE(CheckWith(GetParam().max).ok()) << CheckWith(GetParam().max);
}

TEST_P(LayoutFieldTest, IsRefusedAboveItsRange) {
  EXPECT_EQ(MessageOf(CheckWith(GetParam().max + 1)),
            absl::StrCat(name(), ": ", GetParam().max + 1, " is above ",
                         GetParam().max));
  EXPECT_THAT(MessageOf(CheckWith(std::numeric_limits<uint64_t>::max())),
              StartsWith(name()));
}

// Of the fields that have one: nothing is below 0.
class LayoutFieldWithAFloorTest : public LayoutFieldTest {};

TEST_P(LayoutFieldWithAFloorTest, IsRefusedBelowItsRange) {
  EXPECT_EQ(MessageOf(CheckWith(GetParam().min - 1)),
            absl::StrCat(name(), ": ", GetParam().min - 1, " is below ",
                         GetParam().min));
}

INSTANTIATE_TEST_SUITE_P(Each, LayoutFieldTest,
                         ::testing::ValuesIn(LayoutFields()),
                         [](const auto& each) {
                           return std::string(each.param.name);
                         });

std::vector<LayoutField> FieldsWithAFloor() {
  std::vector<LayoutField> fields;
  std::ranges::copy_if(LayoutFields(), std::back_inserter(fields),
                       [](const LayoutField& field) { return field.min > 0; });
  return fields;
}

INSTANTIATE_TEST_SUITE_P(Each, LayoutFieldWithAFloorTest,
                         ::testing::ValuesIn(FieldsWithAFloor()),
                         [](const auto& each) {
                           return std::string(each.param.name);
                         });

TEST(LayoutFields, AreWhatTheProtocolSays) {
  std::string table;
  for (const LayoutField& field : LayoutFields()) {
    absl::StrAppend(&table, field.name, " ", field.min, "..", field.max, " /",
                    field.multiple_of, field.zero_is_never ? " or 0" : "",
                    "\n");
  }
  EXPECT_EQ(table,
            "latency_connections 1..16 /1\n"
            "bulk_connections 1..16 /1\n"
            "slots 4..4096 /1\n"
            "slot_size 320..1048576 /64\n"
            "eager_limit 0..1048544 /1\n"
            "keepalive_ns 10000000..3600000000000 /1 or 0\n"
            "stream_window 4096..1073741824 /1\n"
            "max_streams 1..65536 /1\n"
            "receive_budget 4096..70368744177664 /1\n");
}

TEST(CheckLayout, TakesTheDefaults) {
  EXPECT_TRUE(CheckLayout(SessionLayout()).ok());
}

TEST(CheckLayout, KeepaliveMayBeOff) {
  SessionLayout layout;
  layout.keepalive_ns = 0;
  EXPECT_TRUE(CheckLayout(layout).ok());
  layout.keepalive_ns = 1;
  EXPECT_EQ(MessageOf(CheckLayout(layout)),
            "layout.keepalive_ns: 1 is below 10000000");
}

TEST(CheckLayout, SlotSizeIsAMultipleOf64) {
  SessionLayout layout = Roomy();
  layout.slot_size = 320;
  EXPECT_TRUE(CheckLayout(layout).ok());
  layout.slot_size = 321;
  EXPECT_EQ(MessageOf(CheckLayout(layout)),
            "layout.slot_size: 321 is not a multiple of 64");
}

TEST(CheckLayout, LargestEagerMessageFitsIntoAPacket) {
  SessionLayout layout;
  layout.slot_size = 4096;
  layout.eager_limit = 4064;
  EXPECT_TRUE(CheckLayout(layout).ok());
  layout.eager_limit = 4065;
  EXPECT_EQ(MessageOf(CheckLayout(layout)),
            "layout.eager_limit: 4065 is above slot_size - 32, 4064");
}

TEST(CheckLayout, LargestEagerMessageFitsIntoAWindow) {
  SessionLayout layout;
  layout.stream_window = 4096;
  layout.eager_limit = 3840;
  EXPECT_TRUE(CheckLayout(layout).ok());
  layout.eager_limit = 3841;
  EXPECT_EQ(MessageOf(CheckLayout(layout)),
            "layout.eager_limit: 3841 is above stream_window - 256, 3840");
}

TEST(CheckLayout, BudgetHoldsTheWindowsOfAllStreams) {
  SessionLayout layout;
  layout.max_streams = 4;
  layout.stream_window = 8192;
  layout.eager_limit = 0;
  layout.receive_budget = 32768;
  EXPECT_TRUE(CheckLayout(layout).ok());
  layout.receive_budget = 32767;
  EXPECT_EQ(MessageOf(CheckLayout(layout)),
            "layout.receive_budget: 32767 is below max_streams * "
            "stream_window, 32768");
}

TEST(CheckLayout, EagerModeIsOneOfTwo) {
  SessionLayout layout;
  layout.eager_mode = EagerMode::kRing;
  EXPECT_TRUE(CheckLayout(layout).ok());
  layout.eager_mode = EagerMode{0};
  EXPECT_EQ(MessageOf(CheckLayout(layout)),
            "layout.eager_mode: 0 is neither SEND nor RING");
}

TEST(CheckLimits, TakesTheDefaults) {
  EXPECT_TRUE(CheckLimits(LayoutLimits()).ok()) << CheckLimits(LayoutLimits());
}

TEST(CheckLimits, NamesTheBoundThatIsWrong) {
  LayoutLimits limits;
  limits.at_most.slots = 5000;
  EXPECT_EQ(MessageOf(CheckLimits(limits)),
            "limits.at_most.slots: 5000 is above 4096");
  limits.at_most.slots = 8;
  limits.at_least.slots = 16;
  EXPECT_EQ(MessageOf(CheckLimits(limits)),
            "limits.at_most.slots: 8 is below at_least, 16");
}

TEST(CheckLimits, WhatIsAskedForAtLeastIsALayout) {
  LayoutLimits limits;
  limits.at_least.max_streams = 2;
  EXPECT_THAT(MessageOf(CheckLimits(limits)),
              HasSubstr("limits.at_least.receive_budget"));
}

TEST(CheckLimits, NoKeepaliveIsLongerThanAny) {
  LayoutLimits limits;
  limits.at_least.keepalive_ns = 0;
  EXPECT_TRUE(CheckLimits(limits).ok());
  limits.at_most.keepalive_ns = 20'000'000;
  EXPECT_THAT(MessageOf(CheckLimits(limits)),
              HasSubstr("limits.at_most.keepalive_ns"));
}

TEST(CheckLimits, SwitchesAreOrderedToo) {
  LayoutLimits limits;
  limits.at_least.digest = true;
  limits.at_most.digest = false;
  EXPECT_THAT(MessageOf(CheckLimits(limits)), HasSubstr("digest"));
  limits = LayoutLimits();
  limits.at_least.eager_mode = EagerMode::kRing;
  limits.at_most.eager_mode = EagerMode::kSend;
  EXPECT_THAT(MessageOf(CheckLimits(limits)), HasSubstr("eager_mode"));
}

TEST(Agree, WishWithinTheLimitsHolds) {
  const SessionLayout wish;
  EXPECT_EQ(Agree(wish, LayoutLimits()), wish);
}

class AgreeFieldTest : public ::testing::TestWithParam<LayoutField> {};

TEST_P(AgreeFieldTest, IsLoweredToTheLimit) {
  const auto value = GetParam().value;
  SessionLayout wish = Roomy();
  wish.*value = GetParam().max;
  if (GetParam().name == "eager_limit") {
    wish.slot_size = 1 << 20;
    wish.stream_window = 1 << 30;
  }
  LayoutLimits limits;
  limits.at_most.*value = GetParam().min;
  ASSERT_TRUE(CheckLimits(limits).ok()) << CheckLimits(limits);
  EXPECT_EQ(Agree(wish, limits).*value, GetParam().min);
}

TEST_P(AgreeFieldTest, IsRaisedToWhatIsAskedForAtLeast) {
  const auto value = GetParam().value;
  SessionLayout wish = Roomy();
  wish.*value = GetParam().min;
  LayoutLimits limits;
  limits.at_most.receive_budget = uint64_t{1} << 46;
  limits.at_least.receive_budget = uint64_t{1} << 46;
  limits.at_least.slot_size = 1 << 20;
  limits.at_least.stream_window = 1 << 30;
  limits.at_least.*value = GetParam().max;
  limits.at_most.*value = GetParam().max;
  ASSERT_TRUE(CheckLimits(limits).ok()) << CheckLimits(limits);
  EXPECT_EQ(Agree(wish, limits).*value, GetParam().max);
}

INSTANTIATE_TEST_SUITE_P(Each, AgreeFieldTest,
                         ::testing::ValuesIn(LayoutFields()),
                         [](const auto& each) {
                           return std::string(each.param.name);
                         });

TEST(Agree, KeepaliveThatIsOffCanBeAskedFor) {
  SessionLayout wish;
  wish.keepalive_ns = 0;
  EXPECT_EQ(Agree(wish, LayoutLimits()).keepalive_ns, 0u);
  LayoutLimits limits;
  limits.at_most.keepalive_ns = 30'000'000;
  EXPECT_EQ(Agree(wish, limits).keepalive_ns, 30'000'000u);
}

TEST(Agree, SwitchesFollowTheLimits) {
  SessionLayout wish;
  LayoutLimits limits;
  limits.at_least.digest = true;
  limits.at_least.eager_mode = EagerMode::kRing;
  EXPECT_TRUE(Agree(wish, limits).digest);
  EXPECT_EQ(Agree(wish, limits).eager_mode, EagerMode::kRing);
  wish.digest = true;
  wish.eager_mode = EagerMode::kRing;
  limits = LayoutLimits();
  limits.at_most.digest = false;
  limits.at_most.eager_mode = EagerMode::kSend;
  EXPECT_FALSE(Agree(wish, limits).digest);
  EXPECT_EQ(Agree(wish, limits).eager_mode, EagerMode::kSend);
}

TEST(Agree, SmallerBudgetMeansFewerStreams) {
  const SessionLayout wish;  // 64 streams of 1 MiB
  LayoutLimits limits;
  limits.at_most.receive_budget = 10 << 20;
  const SessionLayout agreed = Agree(wish, limits);
  EXPECT_EQ(agreed.max_streams, 10u);
  EXPECT_EQ(agreed.stream_window, wish.stream_window);
}

TEST(Agree, WhereStreamsAreAskedForTheWindowIsSmaller) {
  const SessionLayout wish;
  LayoutLimits limits;
  limits.at_most.receive_budget = 1 << 20;
  limits.at_least.max_streams = 16;
  limits.at_least.receive_budget = 1 << 17;
  const SessionLayout agreed = Agree(wish, limits);
  EXPECT_EQ(agreed.max_streams, 16u);
  EXPECT_EQ(agreed.stream_window, 65536u);
}

uint64_t Draw(Random& random, const LayoutField& field, uint64_t low,
              uint64_t high) {
  // Small numbers as often as large ones.
  const uint64_t span = (high - low) >> random.Below(40);
  const uint64_t value = low + random.Below(span + 1);
  return value - value % field.multiple_of;
}

// Any layout or bounds; most are not valid.
SessionLayout AnyLayout(Random& random) {
  SessionLayout layout;
  for (const LayoutField& field : LayoutFields()) {
    layout.*field.value = field.zero_is_never && random.OneIn(4)
                              ? 0
                              : Draw(random, field, field.min, field.max);
  }
  layout.eager_limit = std::min(layout.eager_limit, layout.slot_size - 32);
  layout.eager_limit = std::min(layout.eager_limit, layout.stream_window - 256);
  layout.receive_budget = std::max(layout.receive_budget,
                                   layout.max_streams * layout.stream_window);
  layout.eager_mode = random.OneIn(2) ? EagerMode::kSend : EagerMode::kRing;
  layout.digest = random.OneIn(2);
  return layout;
}

TEST(Agree, OfAnyWishAndLimitsIsALayoutWithinTheLimits) {
  int tried = 0;
  for (uint64_t seed = 1; seed <= 20000; ++seed) {
    SeededRandom random(seed);
    const SessionLayout wish = AnyLayout(random);
    LayoutLimits limits{.at_least = AnyLayout(random),
                        .at_most = AnyLayout(random)};
    for (const LayoutField& field : LayoutFields()) {
      // Otherwise one pair of bounds in 2^11 is in order.
      uint64_t& low = limits.at_least.*field.value;
      if (random.OneIn(2) || low > limits.at_most.*field.value) {
        low = std::min(low, LayoutLimits().at_least.*field.value);
      }
    }
    ASSERT_TRUE(CheckLayout(wish).ok()) << "seed " << seed;
    if (!CheckLimits(limits).ok()) continue;
    ++tried;
    const SessionLayout agreed = Agree(wish, limits);
    ASSERT_TRUE(CheckLayout(agreed).ok())
        << "seed " << seed << ": " << CheckLayout(agreed);
    // An agreed layout is as good a limit as any.
    LayoutLimits low{.at_least = limits.at_least, .at_most = agreed};
    LayoutLimits high{.at_least = agreed, .at_most = limits.at_most};
    ASSERT_TRUE(CheckLimits(low).ok())
        << "seed " << seed << ": " << CheckLimits(low);
    ASSERT_TRUE(CheckLimits(high).ok())
        << "seed " << seed << ": " << CheckLimits(high);
  }
  EXPECT_GT(tried, 1000);
}

}  // namespace
}  // namespace nd::control
