// How long the communication manager waits, and how often.
#ifndef ND_SOFT_CM_TIMING_H_
#define ND_SOFT_CM_TIMING_H_

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace nd::soft {

// What nd asks for in a REQ, and Linux too.
inline constexpr uint8_t kCmResponseTimeout = 20;
inline constexpr uint8_t kMaxCmRetries = 15;
inline constexpr uint8_t kPacketLifeTime = 18;
// What an MRA asks for: about a minute.
inline constexpr uint8_t kMraServiceTimeout = 24;

// 4.096 us * 2^code, rounded to milliseconds down as Linux does: never later
// than the peer expects.
constexpr Duration IbTime(uint8_t code) {
  return std::chrono::milliseconds(int64_t{1} << std::max(code - 8, 0));
}

// A peer's idea of a response time, made sane: 256 ms to 17 s.
constexpr Duration PeerResponseTime(uint8_t code) {
  return IbTime(std::clamp<uint8_t>(code, 16, 22));
}

// What the peer asked for in an MRA, at most what nd itself would ask for.
constexpr Duration PeerServiceTime(uint8_t code) {
  return IbTime(std::min(code, kMraServiceTimeout));
}

// How long a QPN stays out of use (IBA vol. 1, ch. 12, timewait): as long as a
// packet of the connection may still be under way, at most 17 s.
constexpr Duration TimewaitLength(uint8_t ack_timeout) {
  return IbTime(std::min<uint8_t>(ack_timeout, 22));
}

// The QP timeout that allows for a packet's way out and back and the peer's
// delay: about the sum of both, in codes.
constexpr uint8_t AckTimeout(uint8_t ack_delay, uint8_t packet_life_time) {
  const int both_ways = packet_life_time + 1;
  const int longer = std::max<int>(both_ways, ack_delay);
  const int shorter = std::min<int>(both_ways, ack_delay);
  return static_cast<uint8_t>(std::min(31, longer + (shorter + 1 >= longer)));
}

// A message that is sent again until it is answered.
struct RepeatSchedule {
  Duration every{};
  int retries = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_CM_TIMING_H_
