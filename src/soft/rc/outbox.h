// Where a queue pair's packets go.
#ifndef ND_SOFT_RC_OUTBOX_H_
#define ND_SOFT_RC_OUTBOX_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "soft/rc/segments.h"
#include "soft/wire/packet.h"

namespace nd::soft {

// While it has the value that it had when memory was lent, what lies in that
// memory is what was lent. It outlives no one: where it is gone, something else
// lies in its place.
using LoanWord = std::atomic<uint64_t>;

// A packet whose payload still lies where the application has it:
// packet.payload is empty and bth.pad right for `payload`. All of it is good
// until Send returns. The memory that the payload lies in is good for longer if
// the packet `lasts`: until all that was sent is flushed.
struct Outgoing {
  Packet packet;
  Slice payload{};
  uint64_t route = 0;  // of UD's DatagramAddress
  bool lasts = false;
  // The payload, which is in one piece, is lent: whoever takes the packet
  // fetches it from where it lies, after Send.
  const LoanWord* loan = nullptr;
};

class Outbox {
 public:
  virtual ~Outbox() = default;

  // Packets it takes right now: what paces a queue pair.
  virtual size_t room() const = 0;
  // Bytes of payload that several packets sent as one may have; less than an
  // MTU: each packet goes by itself.
  virtual size_t burst_bytes() const { return 0; }
  // The same, of payload that is in one piece.
  virtual size_t lent_burst_bytes() const { return 0; }
  // Short messages of others would wait behind what is in flight.
  virtual bool beside_short() const { return false; }
  // Takes one; room() was not zero. It may still be lost on its way.
  virtual void Send(const Outgoing& outgoing) = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_RC_OUTBOX_H_
