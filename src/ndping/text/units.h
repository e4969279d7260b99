// What people type for sizes, durations and rates, and how figures are shown.
//
// Sizes are bytes with K, M and G as powers of 1024, as perftest has it. What
// is counted by the second (rates, bandwidths) has powers of 1000, as networks
// have it; the two never mix in one flag.
//
// An error says what was given and what was expected; the caller puts the
// flag's name before it.
#ifndef ND_NDPING_TEXT_UNITS_H_
#define ND_NDPING_TEXT_UNITS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"

namespace nd::ndping {

// The most sizes a test may have, each a phase of its own.
inline constexpr size_t kMaxSizes = 64;

// "64", "8K", "4M", "1G".
absl::StatusOr<uint64_t> ParseSize(absl::string_view text);

// A size, a sweep "8..1M" (its first, the powers of two between, its last), or
// several of these with commas: "1,8,64..1K,1023".
absl::StatusOr<std::vector<uint64_t>> ParseSizes(absl::string_view text);

// A whole number from `low` to `high`.
absl::StatusOr<uint64_t> ParseNumber(absl::string_view text, uint64_t low,
                                     uint64_t high);

// "500us", "10s", "1h30m": a number with a unit, as absl::ParseDuration reads
// it; zero or more, and less than 292 years.
absl::StatusOr<Duration> ParseTime(absl::string_view text);

// Bytes a second: "1G", "2.5GB/s", "800M", "1000".
absl::StatusOr<double> ParseBandwidth(absl::string_view text);

// Messages a second: "1M", "250K", "1.5Mmsg/s", "1000/s".
absl::StatusOr<double> ParseRate(absl::string_view text);

// "64", "8K", "1023": the shortest exact form, which ParseSize reads back.
std::string FormatSize(uint64_t bytes);

// "823 ns", "12.3 us", "4.56 ms", "1.50 s".
std::string FormatTime(double nanoseconds);

// "1.23", without a unit, for a column headed GB/s (10^9 bytes).
std::string FormatGigabytes(double bytes_per_second);
std::string FormatBandwidth(double bytes_per_second);  // "1.23 GB/s"

std::string FormatCount(double value);  // "18.8 K", "1.23 M", "640"
std::string FormatRate(double messages_per_second);  // "18.8 K msg/s"

// "98.2 %"; 100 % only when nothing is missing.
std::string FormatPercent(double percent);

}  // namespace nd::ndping

#endif  // ND_NDPING_TEXT_UNITS_H_
