// A link of a session: its credits, and what is under way on it.
#ifndef ND_TRANSPORT_SESSION_LINK_H_
#define ND_TRANSPORT_SESSION_LINK_H_

#include <algorithm>
#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "nd/statistics.h"
#include "transport/frame/frame.h"
#include "transport/session/carrier.h"
#include "transport/session/fifo.h"
#include "transport/session/stalls.h"

namespace nd::transport {

// Bytes of one request, at most: what is behind it on its link waits for it.
inline constexpr uint64_t kMaxChunk = 1 << 20;

// Counts run on for ever here and travel as their low 32 bits: the first from
// `base` on that `low` abbreviates.
constexpr uint64_t ExpandCount(uint64_t base, uint32_t low) {
  return base + static_cast<uint32_t>(low - static_cast<uint32_t>(base));
}

// A request that was posted on a link. Its number is its serial.
struct LinkWork {
  enum class Kind : uint8_t { kControl, kFrames, kWrite, kAccess };
  Kind kind = Kind::kControl;
  bool takes_receive = true;  // of the peer's
  bool mark = false;          // kWrite: the mark behind the link's WRITEs
  FrameType control = FrameType::kCredit;
  // kFrames: of the lane, from `first`; kWrite: of the transfer, bytes;
  // kAccess: of the access.
  MessageClass lane = MessageClass::kLatency;
  uint32_t transfer = 0;  // or access; kControl: the serial of a Gone
  bool reads = false;     // kAccess: a READ or an atomic
  uint8_t staged = 0;     // kWrite: 1 + the stage that it is out of
  uint64_t first = 0;
  uint64_t count = 0;
};

struct Link {
  enum class State : uint8_t {
    kNone,     // no connection
    kWaiting,  // receives are posted, sending is not possible yet
    kUp,
    kAborting,  // the Abort is under way, nothing else is
    kDraining,  // shut, and not all of it was reported
  };

  uint32_t index = 0;
  uint32_t incarnation = 0;
  State state = State::kNone;
  uint32_t next_incarnation = 0;  // the first that was never heard of
  Carrier* carrier = nullptr;

  // Receives that wait for packets, oldest first; counts since the link was
  // made.
  Fifo<ReceiveSlot*> receives;
  Fifo<ReceiveSlot*> to_post{};  // behind what is to be sent
  uint64_t received = 0;
  uint64_t told = 0;     // receives posted, as the peer knows
  uint64_t credits = 0;  // receives of the peer's
  uint64_t sent = 0;     // that consume one
  Fifo<LinkWork> works{};
  uint32_t reads = 0;       // READs and atomics among them
  uint64_t send_slots = 0;  // packets posted, which number the slots
  uint64_t unsignaled = 0;

  Instant heard{};
  Instant abort_by{};
  std::optional<uint64_t> pong;  // owed
  bool deaf = false;             // what comes now is not looked at
  bool ping_due = false;
  bool pinged = false;
  std::optional<uint32_t> peer_received;  // from the peer's Gone
  // Of all connections that the link has had; what is now is not filled in.
  ConnectionStatistics counters{};

  uint64_t posted() const { return receives.end(); }
  // What the peer believes it may still send.
  uint64_t PeerRoom() const { return told - received; }
  // `keep_one`: one receive is kept for the news that there are more.
  bool CanSend(bool keep_one) const {
    return state == State::kUp && credits - sent > (keep_one ? 1u : 0u) &&
           works.size() < carrier->depth();
  }
  // For what takes no receive: some requests of the queue are left to packets.
  // `read`: a READ or an atomic.
  bool MayPost(bool read) const {
    return state == State::kUp &&
           works.size() + std::max(carrier->depth() / 4, 1u) <
               carrier->depth() &&
           (!read || reads < carrier->read_depth());
  }
  Lack WhyNotSend() const {
    if (state != State::kUp) return Lack::kConnection;
    return credits - sent <= 1 ? Lack::kCredit : Lack::kDepth;
  }
  void CountStall(Lack lack) {
    if (lack == Lack::kCredit) ++counters.credit_stalls;
    if (lack == Lack::kDepth) ++counters.depth_stalls;
  }
};

// A link that is no more at this end, until both ends know what has arrived.
struct DepartedLink {
  uint32_t serial = 0;  // which of them
  uint32_t index = 0;
  uint32_t incarnation = 0;
  uint64_t received = 0;
  uint64_t sent = 0;
  Fifo<LinkWork> works{};
  std::optional<uint32_t> peer_received;
  bool settled = false;  // what was sent on it is
  enum class Gone : uint8_t { kDue, kSent, kDelivered };
  Gone gone = Gone::kDue;  // this side's
  uint32_t gone_by = 0;    // the link that it was sent on
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_SESSION_LINK_H_
