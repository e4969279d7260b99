#include "base/clock.h"

#include <time.h>

#include <limits>

namespace nd {
namespace {

class MonotonicClock final : public Clock {
 public:
  // steady_clock's time line, without the way through the C++ library: this is
  // read once a message where latencies are measured.
  Instant Now() const override {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return Instant(std::chrono::seconds(now.tv_sec) + Duration(now.tv_nsec));
  }
};

}  // namespace

const Clock& Clock::Monotonic() {
  static const MonotonicClock* const clock = new MonotonicClock;
  return *clock;
}

Deadline Deadline::After(Duration timeout, const Clock& clock) {
  const Instant now = clock.Now();
  const Duration longest = Instant::max() - now;
  return Deadline(now + std::clamp(timeout, Duration::zero(), longest), clock);
}

int Deadline::RemainingMillis() const {
  using std::chrono::milliseconds;
  const auto millis = std::chrono::ceil<milliseconds>(Remaining()).count();
  constexpr decltype(millis) kMax = std::numeric_limits<int>::max();
  return static_cast<int>(std::min(millis, kMax));
}

}  // namespace nd
