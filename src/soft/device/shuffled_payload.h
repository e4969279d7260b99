// The fault `shuffle`: payload that is placed in another order than it was
// sent, and before its message is complete. IBA promises an application no more
// than that all of it is there once a completion says so; what polls the last
// byte of a buffer goes by a promise that nobody made.
#ifndef ND_SOFT_DEVICE_SHUFFLED_PAYLOAD_H_
#define ND_SOFT_DEVICE_SHUFFLED_PAYLOAD_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "soft/net/network.h"
#include "soft/rc/segments.h"
#include "soft/wire/packet.h"

namespace nd::soft {

// A packet that comes later, with the bytes of its payload.
struct LateArrival {
  Path path;
  Packet packet;
  std::vector<std::byte> payload;
};

// What comes to a queue pair from the first packet of a WRITE, a SEND or a
// READ's answer on is held back, for a while; some cache lines of that message,
// drawn by chance, are placed as they come. The queue pair then takes all of it
// in its order, as ever, so that what is checked, placed in the end, answered
// and completed is what it always is. One thread at a time.
class ShuffledPayload {
 public:
  // From the first packet on.
  static constexpr Duration kHeldFor = std::chrono::microseconds(500);
  // Packets; when they are there, no more is waited for.
  static constexpr size_t kMaxHeld = 512;
  // What is placed at a time begins and ends where cache lines do.
  static constexpr size_t kPieceBytes = 64;

  // Whether packets are held back, and until when.
  bool holding() const { return until_.has_value(); }
  std::optional<Instant> until() const { return until_; }

  // `packet` is the next that the queue pair expects, permitted, and the first
  // of its message: it and what follows is held back.
  void Begin(const Packet& packet, Instant now);

  // Whether a packet goes on with that message, and how many bytes of it came
  // before.
  bool GoesOn(const Packet& packet) const;
  uint64_t arrived() const { return arrived_; }
  // Of a WRITE.
  const Reth& reth() const { return reth_; }

  // Holds a packet, and places some of its payload where `place` says, which is
  // as long as that or, where nothing is to be placed, empty. False: it was the
  // last for which there is room.
  [[nodiscard]] bool Hold(const Arrival& arrival, const Slice& place,
                          Random& random);
  // What was held, in its order; nothing is from now on.
  std::vector<LateArrival> Take();

 private:
  std::optional<Instant> until_;
  std::vector<LateArrival> held_;
  PacketKind kind_ = PacketKind::kWrite;
  Reth reth_;
  uint64_t arrived_ = 0;
  // The packet that goes on with it; nothing once it is over.
  std::optional<Psn> next_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_SHUFFLED_PAYLOAD_H_
