#include "ndping/report/threshold.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "ndping/text/units.h"

namespace nd::ndping {
namespace {

constexpr absl::string_view kFigures =
    "min, mean, max, stddev, p50, p99.9 (any percentile), bandwidth, rate, "
    "verified, loss";

// "99.9", and nothing but digits and a point: SimpleAtod also reads "inf".
absl::StatusOr<double> ParsePercentNumber(absl::string_view text) {
  double value = 0;
  const bool plain = !text.empty() && std::ranges::all_of(text, [](char c) {
    return absl::ascii_isdigit(c) || c == '.';
  });
  if (!plain || !absl::SimpleAtod(text, &value) || value > 100) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is not a number from 0 to 100"));
  }
  return value;
}

}  // namespace

absl::StatusOr<Threshold> Threshold::Parse(absl::string_view text) {
  const size_t at = text.find_first_of("<>=");
  if (at == absl::string_view::npos || text[at] == '=') {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text,
                     "' has no comparison; expected a figure, one of < <= > >= "
                     "and a value: 'p99>50us'"));
  }
  Threshold threshold;
  threshold.text_ = std::string(text);
  absl::string_view value = text.substr(at + 1);
  const bool or_equal = absl::ConsumePrefix(&value, "=");
  if (text[at] == '<') {
    threshold.comparison_ =
        or_equal ? Comparison::kLessOrEqual : Comparison::kLess;
  } else {
    threshold.comparison_ =
        or_equal ? Comparison::kGreaterOrEqual : Comparison::kGreater;
  }
  ND_RETURN_IF_ERROR(
      threshold.ParseFigure(absl::StripAsciiWhitespace(text.substr(0, at))));
  ND_RETURN_IF_ERROR(
      Annotate(threshold.ParseValue(absl::StripAsciiWhitespace(value)),
               absl::StrCat("'", text, "'")));
  return threshold;
}

absl::Status Threshold::ParseFigure(absl::string_view name) {
  constexpr std::pair<absl::string_view, Figure> kNames[] = {
      {"min", Figure::kMin},
      {"mean", Figure::kMean},
      {"max", Figure::kMax},
      {"stddev", Figure::kStddev},
      {"bandwidth", Figure::kBandwidth},
      {"rate", Figure::kRate},
      {"verified", Figure::kVerified},
      {"loss", Figure::kLoss}};
  for (const auto& [known, figure] : kNames) {
    if (name == known) {
      figure_ = figure;
      return absl::OkStatus();
    }
  }
  if (absl::ConsumePrefix(&name, "p")) {
    const auto percentile = ParsePercentNumber(name);
    if (percentile.ok()) {
      figure_ = Figure::kPercentile;
      percentile_ = *percentile;
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "'", text_, "' names no figure; expected one of ", kFigures));
}

absl::Status Threshold::ParseValue(absl::string_view text) {
  switch (figure_) {
    case Figure::kMin:
    case Figure::kMean:
    case Figure::kMax:
    case Figure::kStddev:
    case Figure::kPercentile: {
      ND_ASSIGN_OR_RETURN(const Duration time, ParseTime(text));
      value_ = static_cast<double>(time.count());
      return absl::OkStatus();
    }
    case Figure::kBandwidth: {
      ND_ASSIGN_OR_RETURN(value_, ParseBandwidth(text));
      return absl::OkStatus();
    }
    case Figure::kRate: {
      ND_ASSIGN_OR_RETURN(value_, ParseRate(text));
      return absl::OkStatus();
    }
    case Figure::kVerified:
    case Figure::kLoss: {
      absl::ConsumeSuffix(&text, "%");
      ND_ASSIGN_OR_RETURN(value_,
                          ParsePercentNumber(absl::StripAsciiWhitespace(text)));
      return absl::OkStatus();
    }
  }
  return absl::InternalError("a figure that is not in the list");
}

absl::Status Threshold::CheckMeasuredBy(const Figures& figures) const {
  const auto measured = [&] {
    switch (figure_) {
      case Figure::kMin:
      case Figure::kMean:
      case Figure::kMax:
      case Figure::kStddev:
      case Figure::kPercentile:
        return figures.latency;
      case Figure::kBandwidth:
        return figures.bandwidth;
      case Figure::kRate:
        return figures.rate;
      case Figure::kVerified:
        return figures.verified;
      case Figure::kLoss:
        return figures.loss;
    }
    return false;
  };
  if (measured()) return absl::OkStatus();
  if (figure_ == Figure::kVerified) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", text_, "' needs --verify: nothing is verified without it"));
  }
  std::string can =
      figures.latency ? ", min, mean, max, stddev, p50, p99.9" : "";
  if (figures.bandwidth) absl::StrAppend(&can, ", bandwidth");
  if (figures.rate) absl::StrAppend(&can, ", rate");
  if (figures.verified) absl::StrAppend(&can, ", verified");
  if (figures.loss) absl::StrAppend(&can, ", loss");
  return absl::InvalidArgumentError(
      absl::StrCat("'", text_, "': this test does not measure that; it has ",
                   absl::StripPrefix(can, ", ")));
}

std::optional<double> Threshold::ValueOf(const Measured& measured) const {
  switch (figure_) {
    case Figure::kBandwidth:
      return measured.bandwidth;
    case Figure::kRate:
      return measured.rate;
    case Figure::kVerified:
      return measured.verified;
    case Figure::kLoss:
      return measured.loss;
    case Figure::kMin:
    case Figure::kMean:
    case Figure::kMax:
    case Figure::kStddev:
    case Figure::kPercentile:
      break;
  }
  if (measured.latencies == nullptr || measured.latencies->count() == 0) {
    return std::nullopt;
  }
  const Histogram& latencies = *measured.latencies;
  if (figure_ == Figure::kMin) return latencies.min();
  if (figure_ == Figure::kMean) return latencies.mean();
  if (figure_ == Figure::kMax) return latencies.max();
  if (figure_ == Figure::kStddev) return latencies.stddev();
  return latencies.ValueAtPercentile(percentile_);
}

std::string Threshold::Format(double value) const {
  switch (figure_) {
    case Figure::kMin:
    case Figure::kMean:
    case Figure::kMax:
    case Figure::kStddev:
    case Figure::kPercentile:
      return FormatTime(value);
    case Figure::kBandwidth:
      return FormatBandwidth(value);
    case Figure::kRate:
      return FormatRate(value);
    case Figure::kVerified:
    case Figure::kLoss:
      return FormatPercent(value);
  }
  return "";
}

std::optional<std::string> Threshold::Check(const Measured& measured) const {
  const std::optional<double> value = ValueOf(measured);
  if (!value.has_value()) return std::nullopt;
  const auto holds = [&] {
    switch (comparison_) {
      case Comparison::kLess:
        return *value < value_;
      case Comparison::kLessOrEqual:
        return *value <= value_;
      case Comparison::kGreater:
        return *value > value_;
      case Comparison::kGreaterOrEqual:
        return *value >= value_;
    }
    return false;
  };
  if (!holds()) return std::nullopt;
  return Format(*value);
}

std::string ThresholdHit::ToString() const {
  return absl::StrCat(phase, ": ", condition, ", it is ", value);
}

std::vector<ThresholdHit> CheckThresholds(
    const std::vector<Threshold>& thresholds,
    const std::vector<Measured>& phases) {
  std::vector<ThresholdHit> hits;
  for (const Measured& phase : phases) {
    for (const Threshold& threshold : thresholds) {
      if (auto value = threshold.Check(phase)) {
        hits.push_back({threshold.text(), phase.phase, *std::move(value)});
      }
    }
  }
  return hits;
}

}  // namespace nd::ndping
