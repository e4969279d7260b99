#include "base/histogram.h"

#include <cmath>

namespace nd {
namespace {

// Of a bucket; exact for the narrow ones, whose low and high are the same.
template <typename Bucket>
double Middle(const Bucket& bucket) {
  return (static_cast<double>(bucket.low) + static_cast<double>(bucket.high)) /
         2;
}

// ceil(percentile / 100 * count), in integers so that it is exact.
uint64_t RankOf(double percentile, uint64_t count) {
  constexpr uint64_t kWhole = 100'000'000;  // 100 %, in millionths of a percent
  const uint64_t part = static_cast<uint64_t>(
      std::llround(std::clamp(percentile, 0.0, 100.0) * 1'000'000));
  return count / kWhole * part + (count % kWhole * part + kWhole - 1) / kWhole;
}

}  // namespace

template <int kExactBits>
auto BasicHistogram<kExactBits>::BucketAt(size_t index) const -> Bucket {
  static_assert(IndexOf(kMaxValue) == kBuckets - 1);
  const size_t shift = index < 2 * kHalf ? 0 : index / kHalf - 1;
  const uint64_t low = (index - shift * kHalf) << shift;
  return {.low = low,
          .high = low + (uint64_t{1} << shift) - 1,
          .count = counts_[index]};
}

template <int kExactBits>
void BasicHistogram<kExactBits>::Merge(const BasicHistogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  saturated_ += other.saturated_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

template <int kExactBits>
double BasicHistogram<kExactBits>::mean() const {
  if (count_ == 0) return 0;
  double sum = 0;
  for (const Bucket& bucket : Buckets()) {
    sum += Middle(bucket) * static_cast<double>(bucket.count);
  }
  return sum / static_cast<double>(count_);
}

template <int kExactBits>
double BasicHistogram<kExactBits>::stddev() const {
  if (count_ == 0) return 0;
  const double mean = this->mean();
  double sum = 0;
  for (const Bucket& bucket : Buckets()) {
    const double deviation = Middle(bucket) - mean;
    sum += deviation * deviation * static_cast<double>(bucket.count);
  }
  return std::sqrt(sum / static_cast<double>(count_));
}

template <int kExactBits>
uint64_t BasicHistogram<kExactBits>::ValueAtPercentile(
    double percentile) const {
  const uint64_t rank = std::max<uint64_t>(RankOf(percentile, count_), 1);
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += counts_[i];
    if (seen >= rank) return std::min(BucketAt(i).high, max_);
  }
  return 0;
}

template <int kExactBits>
auto BasicHistogram<kExactBits>::Buckets() const -> std::vector<Bucket> {
  std::vector<Bucket> buckets;
  for (size_t i = 0; i < kBuckets; ++i) {
    if (counts_[i] != 0) buckets.push_back(BucketAt(i));
  }
  return buckets;
}

template class BasicHistogram<11>;
template class BasicHistogram<6>;

}  // namespace nd
