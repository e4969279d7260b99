#include "base/clock.h"

#include <limits>

namespace nd {
namespace {

class MonotonicClock final : public Clock {
 public:
  Instant Now() const override { return std::chrono::steady_clock::now(); }
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
