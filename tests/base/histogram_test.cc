#include "base/histogram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"

namespace nd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Bucket = Histogram::Bucket;

constexpr double kPercentiles[] = {0,  1,  10,   25,    50,     75,      90,
                                   95, 99, 99.9, 99.99, 99.999, 99.9999, 100};

Histogram HistogramOf(const std::vector<uint64_t>& values) {
  Histogram histogram;
  for (const uint64_t value : values) histogram.Record(value);
  return histogram;
}

TEST(Histogram, OfNothingIsZero) {
  const Histogram histogram;

  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.min(), 0u);
  EXPECT_EQ(histogram.max(), 0u);
  EXPECT_EQ(histogram.mean(), 0);
  EXPECT_EQ(histogram.stddev(), 0);
  EXPECT_EQ(histogram.ValueAtPercentile(50), 0u);
  EXPECT_THAT(histogram.Buckets(), IsEmpty());
}

TEST(Histogram, OfOneValueIsThatValueAtEveryPercentile) {
  const Histogram histogram = HistogramOf({123'456'789});

  for (const double p : kPercentiles) {
    EXPECT_EQ(histogram.ValueAtPercentile(p), 123'456'789u) << p;
  }
}

TEST(Histogram, MinMaxAndCountAreExact) {
  const Histogram histogram = HistogramOf({3'600'000'000'001, 1'000'001, 5000});

  EXPECT_EQ(histogram.count(), 3u);
  EXPECT_EQ(histogram.min(), 5000u);
  EXPECT_EQ(histogram.max(), 3'600'000'000'001u);
}

TEST(Histogram, ValuesBelow2048AreExact) {
  Histogram histogram;
  for (uint64_t value = 0; value < 2048; ++value) histogram.Record(value);

  for (const Bucket& bucket : histogram.Buckets()) {
    EXPECT_EQ(bucket.low, bucket.high);
    EXPECT_EQ(bucket.count, 1u);
  }
  EXPECT_EQ(histogram.ValueAtPercentile(50), 1023u);
  EXPECT_EQ(histogram.mean(), 2047 / 2.0);
}

TEST(Histogram, BucketsAreListedWithTheirBoundsLowestFirst) {
  const Histogram histogram = HistogramOf({4097, 2047, 2048, 2049, 4096, 4099});

  EXPECT_THAT(histogram.Buckets(),
              ElementsAre(Bucket{2047, 2047, 1}, Bucket{2048, 2049, 2},
                          Bucket{4096, 4099, 3}));
}

TEST(Histogram, EveryPowerOfTwoBeginsABucketNarrowerThanAThousandth) {
  for (uint64_t power = 1; power <= Histogram::kMaxValue; power *= 2) {
    const Histogram histogram = HistogramOf({power - 1, power});
    const std::vector<Bucket> buckets = histogram.Buckets();

    ASSERT_EQ(buckets.size(), 2u) << power;
    EXPECT_EQ(buckets[0].high, power - 1);
    EXPECT_EQ(buckets[1].low, power);
    EXPECT_LE((buckets[1].high - buckets[1].low) * 1000, power);
  }
}

TEST(Histogram, BucketOfAnyValueContainsItAndIsNarrow) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SeededRandom random(seed);
    const uint64_t value =
        random.Next() & (Histogram::kMaxValue >> random.Below(42));
    const Bucket bucket = HistogramOf({value}).Buckets().front();

    ASSERT_LE(bucket.low, value) << "seed " << seed;
    ASSERT_GE(bucket.high, value) << "seed " << seed;
    ASSERT_LE((bucket.high - bucket.low) * 1000, value) << "seed " << seed;
  }
}

TEST(Histogram, PercentilesAreTheRanksOfADecimalNotOfADouble) {
  Histogram histogram;
  for (uint64_t value = 1; value <= 1000; ++value) histogram.Record(value);

  EXPECT_EQ(histogram.ValueAtPercentile(0), 1u);
  EXPECT_EQ(histogram.ValueAtPercentile(0.1), 1u);
  EXPECT_EQ(histogram.ValueAtPercentile(0.11), 2u);
  EXPECT_EQ(histogram.ValueAtPercentile(55), 550u);
  EXPECT_EQ(histogram.ValueAtPercentile(55.1), 551u);
  EXPECT_EQ(histogram.ValueAtPercentile(99.9), 999u);
  EXPECT_EQ(histogram.ValueAtPercentile(99.91), 1000u);
  EXPECT_EQ(histogram.ValueAtPercentile(100), 1000u);
}

TEST(Histogram, PercentilesOutsideTheScaleAreClamped) {
  const Histogram histogram = HistogramOf({1, 2, 3});

  EXPECT_EQ(histogram.ValueAtPercentile(-5), 1u);
  EXPECT_EQ(histogram.ValueAtPercentile(1000), 3u);
}

TEST(Histogram, PercentileRanksDoNotOverflow) {
  Histogram histogram;
  histogram.RecordMany(1, uint64_t{1} << 62);
  histogram.RecordMany(2, uint64_t{1} << 62);

  EXPECT_EQ(histogram.ValueAtPercentile(50), 1u);
  EXPECT_EQ(histogram.ValueAtPercentile(50.000001), 2u);
}

TEST(Histogram, ValuesTooLargeSaturateAndAreCounted) {
  const Histogram histogram = HistogramOf(
      {1, Histogram::kMaxValue, Histogram::kMaxValue + 1, ~uint64_t{0}});

  EXPECT_EQ(histogram.saturated(), 2u);
  EXPECT_EQ(histogram.count(), 4u);
  EXPECT_EQ(histogram.max(), ~uint64_t{0});
  EXPECT_EQ(histogram.ValueAtPercentile(100), Histogram::kMaxValue);
  EXPECT_EQ(histogram.Buckets().back().count, 3u);
}

TEST(Histogram, RecordManyIsManyRecords) {
  Histogram many;
  many.RecordMany(5'000'000, 3);
  many.RecordMany(1, 0);
  const Histogram each = HistogramOf({5'000'000, 5'000'000, 5'000'000});

  EXPECT_EQ(many.Buckets(), each.Buckets());
  EXPECT_EQ(many.count(), 3u);
  EXPECT_EQ(many.min(), 5'000'000u);
}

TEST(Histogram, MergeIsTheHistogramOfAllValues) {
  SeededRandom random(1);
  Histogram first, second, all;
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t value = random.Below(uint64_t{1} << 43);
    (random.OneIn(3) ? first : second).Record(value);
    all.Record(value);
  }

  first.Merge(second);

  EXPECT_EQ(first.Buckets(), all.Buckets());
  EXPECT_EQ(first.count(), all.count());
  EXPECT_EQ(first.min(), all.min());
  EXPECT_EQ(first.max(), all.max());
  EXPECT_EQ(first.saturated(), all.saturated());
}

TEST(Histogram, MergeOfNothingChangesNothing) {
  Histogram histogram = HistogramOf({7});
  histogram.Merge(Histogram());

  EXPECT_EQ(histogram.min(), 7u);
  EXPECT_EQ(histogram.max(), 7u);
}

TEST(Histogram, ResetForgetsEverything) {
  Histogram histogram = HistogramOf({1, ~uint64_t{0}});
  histogram.Reset();
  histogram.Record(5);

  EXPECT_EQ(histogram.count(), 1u);
  EXPECT_EQ(histogram.min(), 5u);
  EXPECT_EQ(histogram.max(), 5u);
  EXPECT_EQ(histogram.saturated(), 0u);
}

struct Distribution {
  std::string name;
  double (*draw)(Random&);  // nanoseconds
};

void PrintTo(const Distribution& distribution, std::ostream* os) {
  *os << distribution.name;
}

class HistogramOfDistribution : public ::testing::TestWithParam<Distribution> {
};

// Compares with the definition, computed on the sorted values themselves.
TEST_P(HistogramOfDistribution, AgreesWithTheSortedValuesToThreeDigits) {
  constexpr uint64_t kSeed = 20240501;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  SeededRandom random(kSeed);
  std::vector<uint64_t> values(200'000);
  for (uint64_t& value : values) {
    value = static_cast<uint64_t>(GetParam().draw(random));
  }
  const Histogram histogram = HistogramOf(values);
  std::sort(values.begin(), values.end());

  const auto count = static_cast<double>(values.size());
  for (const double p : kPercentiles) {
    const double rank = std::ceil(p / 100 * count - 1e-6);
    const uint64_t exact = values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
    EXPECT_GE(histogram.ValueAtPercentile(p), exact) << "p" << p;
    EXPECT_LE(histogram.ValueAtPercentile(p), exact + exact / 1000) << "p" << p;
  }
  double sum = 0, squares = 0;
  for (const uint64_t value : values) sum += static_cast<double>(value);
  const double mean = sum / count;
  for (const uint64_t value : values) {
    squares += std::pow(static_cast<double>(value) - mean, 2);
  }
  const double stddev = std::sqrt(squares / count);
  EXPECT_NEAR(histogram.mean(), mean, mean / 2000);
  EXPECT_NEAR(histogram.stddev(), stddev, mean / 2000 + stddev / 1000);
}

TEST(CoarseHistogram, IsExactBelow64AndWithinA32ndAbove) {
  for (uint64_t value = 1; value <= CoarseHistogram::kMaxValue; value *= 3) {
    CoarseHistogram histogram;
    histogram.Record(value);
    histogram.Record(2 * value);
    const uint64_t median = histogram.ValueAtPercentile(50);
    EXPECT_GE(median, value);
    EXPECT_LE(median, value < 64 ? value : value + value / 32);
    EXPECT_EQ(histogram.min(), value);
    EXPECT_EQ(histogram.max(), 2 * value);
  }
}

INSTANTIATE_TEST_SUITE_P(
    , HistogramOfDistribution,
    ::testing::Values(
        Distribution{"Constant", [](Random&) { return 1'234'567.0; }},
        Distribution{"UniformToAnHour",
                     [](Random& r) { return r.Fraction() * 3.6e12; }},
        Distribution{
            "Exponential",
            [](Random& r) { return -20'000 * std::log1p(-r.Fraction()); }},
        Distribution{"LogUniform",
                     [](Random& r) { return std::exp2(r.Fraction() * 41); }},
        Distribution{"NarrowBell",
                     [](Random& r) {
                       double sum = 0;
                       for (int i = 0; i < 12; ++i) sum += r.Fraction();
                       return 5'000'000 + 1'000 * (sum - 6);
                     }},
        Distribution{"LongTail",
                     [](Random& r) {
                       return r.OneIn(1000) ? 1e9 * r.Fraction()
                                            : 2'000 + 500 * r.Fraction();
                     }},
        Distribution{"PowersOfTwo",
                     [](Random& r) { return std::exp2(r.Below(42)); }}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace nd
