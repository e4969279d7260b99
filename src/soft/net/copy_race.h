// Whether to lend large payload to a peer, or to copy it for it.
#ifndef ND_SOFT_NET_COPY_RACE_H_
#define ND_SOFT_NET_COPY_RACE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace nd::soft {

// Two copies, one by each CPU at the same time, are faster than a single one
// where the CPUs share a cache, and far slower where they do not; and a virtual
// machine's CPUs may do either in turn. So a stream goes each way for a while,
// and then the faster one for long. What is too short for that is copied.
class CopyRace {
 public:
  // Each way; of these, at first some that are not timed: what went before is
  // still on its way, and memory is not in the cache of who reads it now.
  static constexpr size_t kTrialBytes = size_t{8} << 20;
  static constexpr size_t kUntimedBytes = size_t{2} << 20;
  // The faster way. The first time it is less, and then twice as much each
  // time: what has just begun is not as fast as it will be.
  static constexpr size_t kFirstRunBytes = size_t{32} << 20;
  static constexpr size_t kRunBytes = size_t{512} << 20;
  // A trial begins anew after so long without anything to send.
  static constexpr Duration kPause = std::chrono::microseconds(500);

  // Which way what is sent now is to go.
  bool lends() const { return lends_; }
  // So much went that way.
  void OnSent(size_t bytes, Instant now);
  // Something could not go the way that it was to: a trial begins anew.
  void Disturb() {
    if (stage_ != Stage::kRun) sent_ = 0;
  }

 private:
  enum class Stage : uint8_t { kCopying, kLending, kRun };

  void Enter(Stage stage, bool lends);
  double RateSoFar(Instant now) const;

  Stage stage_ = Stage::kCopying;
  bool lends_ = false;
  size_t sent_ = 0;  // in this stage
  size_t run_bytes_ = kFirstRunBytes;
  Instant last_{};
  Instant timed_since_{};
  size_t untimed_ = 0;       // of sent_
  double copying_rate_ = 0;  // of the last trial, bytes a nanosecond
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_COPY_RACE_H_
