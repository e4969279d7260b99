#include <algorithm>
#include <limits>

#include "ndping/harness/harness_internal.h"

namespace nd::ndping {
namespace {

// Slower than this no sane fabric is, even when every byte is checked by a
// build with sanitizers.
constexpr uint64_t kSlowestBytesPerSecond = 10'000'000;
// What rdma_cm may take for each connection.
constexpr Duration kEachConnection = std::chrono::milliseconds(20);

Duration TimeFor(uint64_t bytes, uint64_t bytes_per_second) {
  const double seconds =
      static_cast<double>(bytes) / static_cast<double>(bytes_per_second);
  return WireDuration(static_cast<uint64_t>(std::min(seconds, 1e9) * 1e9));
}

}  // namespace

Duration WireDuration(uint64_t nanoseconds) {
  constexpr uint64_t kMost = std::numeric_limits<Duration::rep>::max() / 16;
  return Duration(static_cast<Duration::rep>(std::min(nanoseconds, kMost)));
}

PhaseLimits LimitsOfPhase(const v1::TestSpec& spec, uint64_t size,
                          const v1::Limits& limits, const Timing& timing) {
  PhaseLimits result;
  result.silence = timing.silence + WireDuration(spec.interval_ns()) +
                   TimeFor(size, kSlowestBytesPerSecond);
  if (spec.rate_limit() > 0) {
    result.silence += TimeFor(size, spec.rate_limit());
  }
  // A warm-up is counted in messages, and has the time of a phase too.
  const bool timed = spec.duration_ns() > 0 && spec.warmup() == 0;
  result.longest = WireDuration(spec.duration_ns()) + 3 * result.silence;
  if (!timed) result.longest += WireDuration(limits.max_duration_ns());
  return result;
}

Duration ConnectLimit(const v1::TestSpec& spec, const v1::Limits& limits,
                      const Timing& timing) {
  if (spec.kind() != v1::TEST_KIND_CONNECT) {
    return timing.connect + spec.qps() * kEachConnection;
  }
  return timing.connect + WireDuration(spec.duration_ns()) +
         WireDuration(limits.max_duration_ns());
}

}  // namespace nd::ndping
