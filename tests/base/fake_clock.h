// A clock that stands still until a test moves it.
#ifndef ND_TESTS_BASE_FAKE_CLOCK_H_
#define ND_TESTS_BASE_FAKE_CLOCK_H_

#include <atomic>

#include "base/clock.h"

namespace nd {

// Starts an hour after the beginning of its time line, so that a test may also
// speak of earlier instants. Any thread may read and advance it.
class FakeClock final : public Clock {
 public:
  Instant Now() const override { return Instant(Duration(now_ns_.load())); }

  void Advance(Duration by) { now_ns_.fetch_add(by.count()); }

 private:
  std::atomic<Duration::rep> now_ns_{Duration(std::chrono::hours(1)).count()};
};

}  // namespace nd

#endif  // ND_TESTS_BASE_FAKE_CLOCK_H_
