// What is fixed about a queue pair, and its states.
//
//   RESET -> INIT -> RTR -> RTS <-> SQD     SQE -> RTS
//
// From any state to RESET and to ERR. SQE is where a send that failed locally
// takes UC and UD; it takes RC to ERR (IBA vol. 1, 10.3.1).
#ifndef ND_SOFT_RC_QP_CONFIG_H_
#define ND_SOFT_RC_QP_CONFIG_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "soft/wire/headers.h"
#include "soft/wire/opcode.h"
#include "soft/wire/serial.h"

namespace nd::soft {

enum class QpState : uint8_t { kReset, kInit, kRtr, kRts, kSqd, kSqe, kErr };

// Whether the verbs allow the step; a step that changes attributes only leads
// from a state to itself. SQE is entered by the queue pair alone.
bool MayMove(Transport transport, QpState from, QpState to);

// Fixed when it is created.
struct QpOptions {
  Transport transport = Transport::kRc;
  Qpn number{};
  size_t send_depth = 1;  // works in the send queue
};

// Fixed on the way to RTR and RTS; some may change later.
struct QpAttributes {
  uint16_t pkey = kDefaultPkey;
  unsigned access = 0;       // IBV_ACCESS_REMOTE_*: what the peer may do
  uint32_t mtu_bytes = 256;  // of payload, both ways
  Qkey qkey{};               // UD

  // RTR
  Qpn destination{};
  Psn receive_psn{};               // the first to come
  uint8_t max_dest_rd_atomic = 0;  // READs and atomics served at a time
  uint8_t min_rnr_timer = 0;       // code in the RNR NAKs sent

  // RTS
  Psn send_psn{};               // the first to go
  uint8_t max_rd_atomic = 0;    // READs and atomics in flight at a time
  uint8_t retry_cnt = 0;        // repeats without progress
  uint8_t rnr_retry = 0;        // repeats after RNR NAKs, 7: for ever
  uint8_t ack_timeout = 0;      // exponent, 0: for ever
  uint32_t window = 64;         // request packets in flight, at least 2
  uint32_t max_window = 0;      // it grows to while nothing is lost
  uint32_t read_packets = 128;  // most that one READ request asks for
};

// Packets that may go at a time where that many bytes may.
constexpr uint64_t PacketsOfBurst(size_t burst_bytes, uint32_t mtu_bytes) {
  return std::clamp<uint64_t>(burst_bytes / mtu_bytes, 1, UINT8_MAX);
}

inline constexpr uint8_t kRnrRetryForever = 7;

}  // namespace nd::soft

#endif  // ND_SOFT_RC_QP_CONFIG_H_
