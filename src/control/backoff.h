// How long to wait before a refused call is tried again.
#ifndef ND_CONTROL_BACKOFF_H_
#define ND_CONTROL_BACKOFF_H_

#include "base/clock.h"
#include "base/random.h"

namespace nd::control {

// Each pause is drawn between half of a bound and the bound, which doubles with
// each: those who were refused together do not come back together. One thread
// at a time.
class Backoff {
 public:
  struct Options {
    Duration first = std::chrono::milliseconds(10);
    Duration longest = std::chrono::seconds(1);
  };
  // `random` outlives it.
  Backoff(const Options& options, Random& random)
      : options_(options), random_(random), bound_(options.first) {}

  Duration Next();

 private:
  const Options options_;
  Random& random_;
  Duration bound_;
};

}  // namespace nd::control

#endif  // ND_CONTROL_BACKOFF_H_
