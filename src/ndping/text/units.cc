#include "ndping/text/units.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "base/status.h"

namespace nd::ndping {
namespace {

absl::Status Expected(absl::string_view text, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("'", text, "' is not ", what));
}

// How many times the unit the letter stands for, as a power of the base.
int PrefixPower(char letter) {
  switch (absl::ascii_toupper(letter)) {
    case 'K':
      return 1;
    case 'M':
      return 2;
    case 'G':
      return 3;
    default:
      return 0;
  }
}

bool AllDigits(absl::string_view text) {
  return !text.empty() && std::ranges::all_of(text, absl::ascii_isdigit);
}

// "2.5M" with powers of 1000.
std::optional<double> ParseDecimal(absl::string_view text) {
  if (text.empty()) return std::nullopt;
  const int power = PrefixPower(text.back());
  if (power > 0) text.remove_suffix(1);
  text = absl::StripTrailingAsciiWhitespace(text);
  // SimpleAtod also reads "inf", "nan", "-1" and "1e3".
  const bool plain = !text.empty() && std::ranges::all_of(text, [](char c) {
    return absl::ascii_isdigit(c) || c == '.';
  });
  double value = 0;
  if (!plain || !absl::SimpleAtod(text, &value)) return std::nullopt;
  return value * std::pow(1000.0, power);
}

// Three significant digits of a value that is zero or more, without an
// exponent, and at most six digits behind the point.
std::string ThreeDigits(double value) {
  int decimals = 0;
  for (double limit = 99.95; value < limit && decimals < 6; limit /= 10) {
    ++decimals;
  }
  // Nothing is exactly nothing: "0", not "0.000000".
  return value == 0 ? "0" : absl::StrFormat("%.*f", decimals, value);
}

struct Unit {
  double factor;
  absl::string_view name;
};

// The value in the first unit in which it shows as less than 1000.
std::string InUnits(double value, const Unit* units, size_t count) {
  size_t i = 0;
  while (i + 1 < count && value / units[i].factor >= 999.5) ++i;
  const std::string digits = ThreeDigits(value / units[i].factor);
  return units[i].name.empty() ? digits
                               : absl::StrCat(digits, " ", units[i].name);
}

// A part of a list: "64" or "8..1M".
absl::Status AppendSizes(absl::string_view part, std::vector<uint64_t>& sizes) {
  const std::vector<absl::string_view> ends = absl::StrSplit(part, "..");
  if (ends.size() > 2) {
    return Expected(part, "a sweep such as 8..1M");
  }
  ND_ASSIGN_OR_RETURN(const uint64_t first, ParseSize(ends.front()));
  ND_ASSIGN_OR_RETURN(const uint64_t last, ParseSize(ends.back()));
  if (last < first) {
    return Expected(part, "a sweep from a smaller size to a larger one");
  }
  sizes.push_back(first);
  if (last == first) return absl::OkStatus();
  // A size has at most 63 bits, so the power above it exists.
  for (uint64_t size = std::bit_ceil(first + 1); size < last; size *= 2) {
    sizes.push_back(size);
  }
  sizes.push_back(last);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<uint64_t> ParseSize(absl::string_view text) {
  constexpr absl::string_view kWhat =
      "a size; expected bytes, with K, M or G for powers of 1024: 64, 8K, 4M, "
      "1G";
  absl::string_view digits = text;
  const int power = text.empty() ? 0 : PrefixPower(text.back());
  if (power > 0) digits.remove_suffix(1);
  uint64_t value = 0;
  if (!AllDigits(digits) || !absl::SimpleAtoi(digits, &value)) {
    return Expected(text, kWhat);
  }
  if (value >> (63 - 10 * power) != 0) {
    return Expected(text, "a size that a computer has: it is over 2^63 bytes");
  }
  return value << (10 * power);
}

absl::StatusOr<std::vector<uint64_t>> ParseSizes(absl::string_view text) {
  std::vector<uint64_t> sizes;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    ND_RETURN_IF_ERROR(AppendSizes(part, sizes));
    if (sizes.size() > kMaxSizes) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", text, "' has more than ", kMaxSizes,
                       " sizes, which is the most that one test may have"));
    }
  }
  return sizes;
}

absl::StatusOr<uint64_t> ParseNumber(absl::string_view text, uint64_t low,
                                     uint64_t high) {
  uint64_t value = 0;
  if (AllDigits(text) && absl::SimpleAtoi(text, &value) && value >= low &&
      value <= high) {
    return value;
  }
  if (high == std::numeric_limits<uint64_t>::max()) {
    return Expected(text, absl::StrCat("a whole number of ", low, " or more"));
  }
  return Expected(text,
                  absl::StrCat("a whole number from ", low, " to ", high));
}

absl::StatusOr<Duration> ParseTime(absl::string_view text) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) ||
      duration < absl::ZeroDuration() ||
      duration > absl::FromChrono(Duration::max())) {
    return Expected(text,
                    "a time; expected a number with a unit (ns, us, ms, s, m, "
                    "h): 500us, 10s, 1m30s");
  }
  return absl::ToChronoNanoseconds(duration);
}

absl::StatusOr<double> ParseBandwidth(absl::string_view text) {
  absl::string_view number = text;
  absl::ConsumeSuffix(&number, "/s");
  absl::ConsumeSuffix(&number, "B");
  const auto value = ParseDecimal(absl::StripTrailingAsciiWhitespace(number));
  if (!value.has_value()) {
    return Expected(text,
                    "a bandwidth; expected bytes a second, with K, M or G for "
                    "powers of 1000: 800M, 1.5G, 2GB/s");
  }
  return *value;
}

absl::StatusOr<double> ParseRate(absl::string_view text) {
  absl::string_view number = text;
  absl::ConsumeSuffix(&number, "/s");
  absl::ConsumeSuffix(&number, "msg");
  const auto value = ParseDecimal(absl::StripTrailingAsciiWhitespace(number));
  if (!value.has_value()) {
    return Expected(text,
                    "a rate; expected a number a second, with K, M or G for "
                    "powers of 1000: 250K, 1.5M, 1M/s");
  }
  return *value;
}

std::string FormatSize(uint64_t bytes) {
  constexpr std::pair<int, absl::string_view> kSuffixes[] = {
      {30, "G"}, {20, "M"}, {10, "K"}};
  for (const auto& [shift, suffix] : kSuffixes) {
    const uint64_t unit = uint64_t{1} << shift;
    if (bytes >= unit && bytes % unit == 0) {
      return absl::StrCat(bytes / unit, suffix);
    }
  }
  return absl::StrCat(bytes);
}

std::string FormatTime(double nanoseconds) {
  constexpr Unit kUnits[] = {{1, "ns"}, {1e3, "us"}, {1e6, "ms"}, {1e9, "s"}};
  return InUnits(nanoseconds, kUnits, std::size(kUnits));
}

std::string FormatGigabytes(double bytes_per_second) {
  return ThreeDigits(bytes_per_second / 1e9);
}

std::string FormatBandwidth(double bytes_per_second) {
  return absl::StrCat(FormatGigabytes(bytes_per_second), " GB/s");
}

std::string FormatCount(double value) {
  constexpr Unit kUnits[] = {{1, ""}, {1e3, "K"}, {1e6, "M"}, {1e9, "G"}};
  if (value < 1000 && value == std::floor(value)) {
    return absl::StrFormat("%.0f", value);
  }
  return InUnits(value, kUnits, std::size(kUnits));
}

std::string FormatRate(double messages_per_second) {
  return absl::StrCat(FormatCount(messages_per_second), " msg/s");
}

std::string FormatPercent(double percent) {
  if (percent == 0 || percent == 100)
    return absl::StrFormat("%.0f %%", percent);
  // 99.999 % must not read as all, nor 0.001 % as nothing.
  if (percent < 100) percent = std::clamp(percent, 0.01, 99.99);
  const bool fine = percent < 0.1 || (percent > 99.9 && percent < 100);
  return absl::StrFormat("%.*f %%", fine ? 2 : 1, percent);
}

}  // namespace nd::ndping
