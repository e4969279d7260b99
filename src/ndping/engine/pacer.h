// Keeps an initiator to a rate, or to a pace.
#ifndef ND_NDPING_ENGINE_PACER_H_
#define ND_NDPING_ENGINE_PACER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/wait.h"

namespace nd::ndping {

// A token bucket, kept as the instant at which all that was sent so far is paid
// for. After a pause up to `burst` of time may be caught up. One thread.
class Pacer {
 public:
  struct Options {
    uint64_t bytes_per_second = 0;  // 0: no limit
    Duration burst = std::chrono::milliseconds(2);
  };
  Pacer(const Options& options, const Clock& clock);

  bool limits() const { return options_.bytes_per_second != 0; }

  // How many messages of `size` bytes, of those wanted, may start now. One may
  // start whenever all before are paid for, however large it is.
  uint64_t Allowed(uint64_t size, uint64_t wanted) const;

  // They have started.
  void Spend(uint64_t bytes);

  // Until Allowed is more than none; zero if it is.
  Duration Wait() const;

 private:
  double NowNs() const;

  const Options options_;
  const Clock& clock_;
  const Instant start_;
  double paid_ns_;  // since start_; a fraction, as a byte may take less than 1
};

// Sleeps until `at` on the monotonic clock, or, without an error, a little
// while at most; the caller looks at what else there is and calls again.
// CANCELLED when `cancel` says so.
absl::Status SleepTowards(Instant at, const Cancellation* cancel);

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_PACER_H_
