// Conditions under which a test counts as failed: --fail-if 'p99>50us'.
#ifndef ND_NDPING_REPORT_THRESHOLD_H_
#define ND_NDPING_REPORT_THRESHOLD_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/histogram.h"

namespace nd::ndping {

// What conditions look at: the figures of one phase. A figure that the test
// does not measure has no value.
struct Measured {
  std::string phase;                     // "size 64"
  const Histogram* latencies = nullptr;  // nanoseconds
  std::optional<double> bandwidth;       // bytes a second
  std::optional<double> rate;            // messages a second
  std::optional<double> verified;        // percent of the messages
  std::optional<double> loss;            // percent of the pings
};

// Which figures a test measures, to tell a condition that can never be met
// from one that was not.
struct Figures {
  bool latency = false;
  bool bandwidth = false;
  bool rate = false;
  bool verified = false;
  bool loss = false;
};

// One condition: a figure, a comparison and a value. Immutable.
class Threshold {
 public:
  // "p99>50us", "mean>=3us", "bandwidth<1GB/s", "rate<1M", "verified<100%",
  // "loss>0%". Figures of latency: min, mean, max, stddev, and p0 to p100 with
  // decimals (p99.9). Spaces around the comparison do not matter.
  static absl::StatusOr<Threshold> Parse(absl::string_view text);

  // INVALID_ARGUMENT unless the test measures the figure.
  absl::Status CheckMeasuredBy(const Figures& figures) const;

  // The figure's value in words when the condition holds ("61.2 us"), nothing
  // when it does not or when nothing was measured.
  std::optional<std::string> Check(const Measured& measured) const;

  const std::string& text() const { return text_; }

 private:
  enum class Figure {
    kMin,
    kMean,
    kMax,
    kStddev,
    kPercentile,
    kBandwidth,
    kRate,
    kVerified,
    kLoss
  };
  enum class Comparison { kLess, kLessOrEqual, kGreater, kGreaterOrEqual };

  Threshold() = default;
  absl::Status ParseFigure(absl::string_view name);
  absl::Status ParseValue(absl::string_view text);
  std::optional<double> ValueOf(const Measured& measured) const;
  std::string Format(double value) const;

  std::string text_;  // as it was given
  Figure figure_ = Figure::kMin;
  Comparison comparison_ = Comparison::kLess;
  double percentile_ = 0;  // of kPercentile
  double value_ = 0;       // nanoseconds, bytes or messages a second, percent
};

// A condition that holds.
struct ThresholdHit {
  std::string condition;  // "p99>50us"
  std::string phase;      // "size 64"
  std::string value;      // "61.2 us"

  std::string ToString() const;  // "size 64: p99>50us, it is 61.2 us"
};

// Every condition against every phase.
std::vector<ThresholdHit> CheckThresholds(
    const std::vector<Threshold>& thresholds,
    const std::vector<Measured>& phases);

}  // namespace nd::ndping

#endif  // ND_NDPING_REPORT_THRESHOLD_H_
