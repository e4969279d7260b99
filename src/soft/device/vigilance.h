// How closely the engine's thread watches an application that polls.
#ifndef ND_SOFT_DEVICE_VIGILANCE_H_
#define ND_SOFT_DEVICE_VIGILANCE_H_

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace nd::soft {

// While the application polls, it serves itself, and the thread naps. One that
// spins on its memory between two polls leaves behind what comes meanwhile;
// while that is found, the naps are short. Each takes the processor that the
// two may share for some 10 us, most of which is the timer's interrupt. So the
// next one is as long as the application has been found to serve itself, and
// the longest end with a tick of the system.
class Vigilance {
 public:
  static constexpr Duration kLongestNap = std::chrono::milliseconds(2);
  static constexpr Duration kShortestNap = std::chrono::microseconds(2);
  // Where it is not known to, or polls now and then only.
  static constexpr Duration kWatchfulNap = std::chrono::microseconds(200);
  // How long after a poll the application is left to serve itself. Where they
  // share a processor, it may not have had the time to poll during a short nap;
  // the thread would take over then, and keep it from polling.
  static constexpr Duration kPresence = std::chrono::microseconds(50);
  // Of a system in which they are far apart.
  static constexpr Duration kTick = std::chrono::milliseconds(4);

  // The next one: how long it is, and how much longer it may take.
  Duration nap() const { return nap_; }
  Duration slack() const { return nap_ == kLongestNap ? kTick : Duration{}; }

  // It was cut short: the application is about to sleep.
  void Interrupt() { nap_ = std::min(nap_, kWatchfulNap); }
  // It is over, and the application is just serving itself.
  void Relax() { nap_ = std::min(2 * nap_, kLongestNap); }
  // It is over: whether to look for what was left behind. `polls`: how many
  // there have been so far, which may wrap around; `alone`: how long the
  // device had been left alone when the nap was due to end.
  bool ShouldLook(uint32_t polls, Duration alone);
  // Something was.
  void Found() { nap_ = kShortestNap; }

 private:
  Duration nap_ = kWatchfulNap;
  uint32_t polls_ = 0;  // when the last one was over
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_VIGILANCE_H_
