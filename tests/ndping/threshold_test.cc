#include "ndping/report/threshold.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace nd::ndping {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// 1 us to 100 us, evenly.
Histogram Hundred() {
  Histogram latencies;
  for (uint64_t i = 1; i <= 100; ++i) latencies.Record(i * 1000);
  return latencies;
}

std::optional<std::string> Check(const char* condition,
                                 const Measured& measured) {
  const auto threshold = Threshold::Parse(condition);
  EXPECT_TRUE(threshold.ok()) << threshold.status();
  return threshold->Check(measured);
}

TEST(Threshold, ComparesLatencies) {
  const Histogram latencies = Hundred();
  Measured phase;
  phase.latencies = &latencies;
  EXPECT_EQ(Check("p99>50us", phase), "99.0 us");
  EXPECT_EQ(Check("p99>99.1us", phase), std::nullopt);
  EXPECT_EQ(Check("min<1us", phase), std::nullopt);
  EXPECT_EQ(Check("min<=1us", phase), "1.00 us");
  EXPECT_EQ(Check("max>=100us", phase), "100 us");
  EXPECT_EQ(Check("max>100us", phase), std::nullopt);
  EXPECT_EQ(Check("mean>=50us", phase), "50.5 us");
  EXPECT_EQ(Check("p99.9 > 0.05ms", phase), "100 us");
  EXPECT_EQ(Check("stddev<1us", phase), std::nullopt);
}

TEST(Threshold, ComparesBandwidthRateAndShares) {
  Measured phase;
  phase.bandwidth = 0.9e9;
  phase.rate = 1.5e6;
  phase.verified = 99.99;
  phase.loss = 1;
  EXPECT_EQ(Check("bandwidth<1GB/s", phase), "0.900 GB/s");
  EXPECT_EQ(Check("bandwidth<900MB/s", phase), std::nullopt);
  EXPECT_EQ(Check("rate<1M", phase), std::nullopt);
  EXPECT_EQ(Check("rate<2M", phase), "1.50 M msg/s");
  EXPECT_EQ(Check("verified<100%", phase), "99.99 %");
  EXPECT_EQ(Check("loss>0%", phase), "1.0 %");
}

TEST(Threshold, DoesNotJudgeWhatWasNotMeasured) {
  const Histogram nothing;
  Measured phase;
  phase.latencies = &nothing;
  EXPECT_EQ(Check("p99<50us", phase), std::nullopt);
  EXPECT_EQ(Check("bandwidth<1GB/s", phase), std::nullopt);
}

TEST(Threshold, SaysWhatIsWrongWithACondition) {
  const std::pair<const char*, const char*> kWrong[] = {
      {"p99", "'p99' has no comparison; expected a figure"},
      {"p99=50us", "has no comparison"},
      {"p99>50", "'p99>50': '50' is not a time"},
      {"p99>", "'p99>': '' is not a time"},
      {"p101>50us", "names no figure; expected one of min, mean, max"},
      {"pinf>50us", "names no figure"},
      {"speed>50us", "names no figure"},
      {">50us", "names no figure"},
      {"bandwidth<50us", "is not a bandwidth"},
      {"verified<200%", "'200' is not a number from 0 to 100"},
  };
  for (const auto& [condition, message] : kWrong) {
    const auto threshold = Threshold::Parse(condition);
    ASSERT_FALSE(threshold.ok()) << condition;
    EXPECT_THAT(std::string(threshold.status().message()), HasSubstr(message));
  }
}

TEST(Threshold, RefusesFiguresThatTheTestDoesNotMeasure) {
  const Figures latency = {.latency = true};
  EXPECT_TRUE(Threshold::Parse("p50>1us")->CheckMeasuredBy(latency).ok());
  EXPECT_EQ(
      Threshold::Parse("rate<1M")->CheckMeasuredBy(latency).message(),
      "'rate<1M': this test does not measure that; it has min, mean, max, "
      "stddev, p50, p99.9");
  EXPECT_EQ(
      Threshold::Parse("verified<100%")->CheckMeasuredBy(latency).message(),
      "'verified<100%' needs --verify: nothing is verified without it");
}

TEST(CheckThresholds, NamesConditionPhaseAndValue) {
  const Histogram latencies = Hundred();
  Measured fast, slow;
  fast.phase = "size 8";
  slow.phase = "size 64K";
  slow.latencies = &latencies;
  const std::vector<Threshold> thresholds = {*Threshold::Parse("p99>50us")};
  const auto hits = CheckThresholds(thresholds, {fast, slow});
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_EQ(hits[0].ToString(), "size 64K: p99>50us, it is 99.0 us");
  EXPECT_THAT(CheckThresholds({}, {fast, slow}), IsEmpty());
}

}  // namespace
}  // namespace nd::ndping
