#include "soft/device/vigilance.h"

#include <algorithm>
#include <utility>

namespace nd::soft {
namespace {

// How long after a poll the next one may still be about to come.
constexpr Duration kAttention = std::chrono::microseconds(10);
// One that polled that often was there all the time, however long ago the
// device has last seen it: it notes that once in many polls, and this thread
// may have the processor that the application would poll on.
constexpr Duration kBetweenPolls = std::chrono::microseconds(4);

}  // namespace

bool Vigilance::ShouldLook(uint32_t polls, Duration alone) {
  const Duration napped = nap_;
  Relax();
  const uint32_t since = polls - std::exchange(polls_, polls);
  if (since * kBetweenPolls >= napped) return false;
  if (alone >= kPresence) nap_ = std::min(nap_, kWatchfulNap);
  return alone >= std::min(kAttention, napped / 4);
}

}  // namespace nd::soft
