// Monotonic time, passed in: code that waits or measures takes a Clock, so that
// a test decides what time it is.
#ifndef ND_BASE_CLOCK_H_
#define ND_BASE_CLOCK_H_

#include <algorithm>
#include <chrono>

namespace nd {

using Duration = std::chrono::nanoseconds;

// A point on a monotonic time line; only differences mean anything.
using Instant = std::chrono::time_point<std::chrono::steady_clock, Duration>;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant Now() const = 0;

  // The process's CLOCK_MONOTONIC. Thread-safe, lives for ever.
  static const Clock& Monotonic();
};

// The instant after which a wait gives up. Every wait in nd takes one, so there
// is no "for ever": a caller that may wait long waits again.
class Deadline {
 public:
  // `timeout` from now: at once if it is negative, the end of the time line if
  // it is longer than that, like Duration::max(). `clock` must outlive the
  // deadline.
  static Deadline After(Duration timeout,
                        const Clock& clock = Clock::Monotonic());

  bool Passed() const { return clock_->Now() >= at_; }
  Instant at() const { return at_; }

  // What is left, zero once it has passed.
  Duration Remaining() const {
    return std::max(Duration::zero(), at_ - clock_->Now());
  }

  // What is left for poll(2): milliseconds, rounded up so that a wait never
  // ends early and spins, and bounded by what an int holds.
  int RemainingMillis() const;

 private:
  Deadline(Instant at, const Clock& clock) : at_(at), clock_(&clock) {}

  Instant at_;
  const Clock* clock_;
};

}  // namespace nd

#endif  // ND_BASE_CLOCK_H_
