// How often and how long something could not go on, and for want of what.
#ifndef ND_TRANSPORT_SESSION_STALLS_H_
#define ND_TRANSPORT_SESSION_STALLS_H_

#include <cstdint>

#include "base/clock.h"
#include "nd/statistics.h"

namespace nd::transport {

// What was wanting; each is a member of Stalls.
enum class Lack : uint8_t {
  kNothing,
  kConnection,
  kCredit,
  kDepth,
  kWindow,
  kTransfers,
  kMemory,
};

class StallTimer {
 public:
  Lack lack() const { return lack_; }
  // From now on it can go on, or not for want of this. True: a stall begins.
  bool Set(Lack lack, Instant now) {
    if (lack == lack_) return false;
    if (lack_ != Lack::kNothing) Of(stalls_, lack_).time += now - since_;
    lack_ = lack;
    since_ = now;
    if (lack == Lack::kNothing) return false;
    ++Of(stalls_, lack).count;
    return true;
  }
  // Adds what was counted, and of a stall that lasts its time so far.
  void AddTo(Stalls& sum, Instant now) const;

 private:
  static Stall& Of(Stalls& stalls, Lack lack);

  Lack lack_ = Lack::kNothing;
  Instant since_{};
  Stalls stalls_;
};

void Add(const Stalls& stalls, Stalls& sum);

}  // namespace nd::transport

#endif  // ND_TRANSPORT_SESSION_STALLS_H_
