// Latencies with three significant digits, or nearly two, in constant memory.
#ifndef ND_BASE_HISTOGRAM_H_
#define ND_BASE_HISTOGRAM_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace nd {

// Counts values, meant as nanoseconds, in buckets whose width grows with the
// value (HdrHistogram's idea): exact below 2^kExactBits, above that no wider
// than 2 / 2^kExactBits of the values in them. Allocated once; Record allocates
// nothing and has no branch. One thread at a time: give each recording thread
// its own and Merge them. Only assign to or destroy one that was moved from.
template <int kExactBits>
class BasicHistogram {
 public:
  // 73 minutes. Larger values are counted in the topmost bucket.
  static constexpr uint64_t kMaxValue = (uint64_t{1} << 42) - 1;

  // `count` > 0 values lie in [low, high].
  struct Bucket {
    uint64_t low;
    uint64_t high;
    uint64_t count;
    bool operator==(const Bucket&) const = default;
  };

  BasicHistogram() : counts_(kBuckets) {}

  void Record(uint64_t value) { RecordMany(value, 1); }

  // The same as `times` calls of Record.
  void RecordMany(uint64_t value, uint64_t times);

  // Adds everything that `other` has recorded.
  void Merge(const BasicHistogram& other);

  // Forgets everything.
  void Reset() { *this = BasicHistogram(); }

  // Exact, also for values above kMaxValue; min() and max() of nothing are 0.
  uint64_t count() const { return count_; }
  uint64_t min() const { return count_ == 0 ? 0 : min_; }
  uint64_t max() const { return max_; }

  // How many values were above kMaxValue.
  uint64_t saturated() const { return saturated_; }

  // As if every value lay in the middle of its bucket, which is off by less
  // than 1 / 2^kExactBits of a value up to kMaxValue; 0 if nothing was
  // recorded. stddev() is that of the whole population, not of a sample.
  double mean() const;
  double stddev() const;

  // The nearest-rank percentile. Let the values be sorted and let r be
  // ceil(p / 100 * count()), at least 1: the result is the r-th smallest value
  // v, or the highest value of v's bucket, but not above max(). So p = 100
  // gives max(). If v was saturated the result is kMaxValue. `percentile` is
  // clamped to [0, 100] and taken to the nearest millionth, so that 99.9 means
  // 999 of 1000 although no double is 99.9. 0 if empty.
  uint64_t ValueAtPercentile(double percentile) const;

  // The buckets that hold values, lowest first.
  std::vector<Bucket> Buckets() const;

 private:
  // Values of up to kExactBits bits have a bucket each; every further bit
  // doubles the width and adds half as many buckets.
  static constexpr size_t kHalf = size_t{1} << (kExactBits - 1);
  static constexpr size_t kBuckets =
      kHalf * (std::bit_width(kMaxValue) - kExactBits + 2);

  static constexpr size_t IndexOf(uint64_t value) {
    const int shift =
        static_cast<int>(std::bit_width(value | (2 * kHalf - 1))) - kExactBits;
    return static_cast<size_t>(shift) * kHalf + (value >> shift);
  }
  Bucket BucketAt(size_t index) const;

  std::vector<uint64_t> counts_;
  uint64_t count_ = 0;
  uint64_t saturated_ = 0;
  uint64_t min_ = std::numeric_limits<uint64_t>::max();
  uint64_t max_ = 0;
};

template <int kExactBits>
void BasicHistogram<kExactBits>::RecordMany(uint64_t value, uint64_t times) {
  if (times == 0) return;
  counts_[IndexOf(std::min(value, kMaxValue))] += times;
  count_ += times;
  saturated_ += value > kMaxValue ? times : 0;
  min_ = std::min(min_, value);
  max_ = std::max(max_, value);
}

extern template class BasicHistogram<11>;
extern template class BasicHistogram<6>;

// Off by less than 0.1 %; 264 KiB.
using Histogram = BasicHistogram<11>;
// Off by less than 3.2 %; 10 KiB: for what there are thousands of.
using CoarseHistogram = BasicHistogram<6>;

}  // namespace nd

#endif  // ND_BASE_HISTOGRAM_H_
