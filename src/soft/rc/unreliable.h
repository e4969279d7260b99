// The receiving half of UC and UD queue pairs: what is wrong with a packet
// drops it, and the peer is told nothing (IBA vol. 1, ch. 9, unreliable
// service).
#ifndef ND_SOFT_RC_UNRELIABLE_H_
#define ND_SOFT_RC_UNRELIABLE_H_

#include "soft/rc/inbound.h"
#include "soft/rc/memory.h"
#include "soft/rc/qp_config.h"
#include "soft/wire/packet.h"

namespace nd::soft {

// What the references name is the queue pair's and outlives it. One thread at a
// time.
class UnreliableResponder {
 public:
  UnreliableResponder(const QpOptions& options, const QpAttributes& attributes,
                      const QpPorts& ports);

  // On the way to RTR.
  void Start();
  void OnPacket(const Packet& packet);
  // `packet` begins a SEND, whatever was open.
  [[nodiscard]] bool TakeReceive(const Packet& packet) {
    inbound_.Abandon();
    return inbound_.TakeReceive(packet);
  }
  Slice PlaceOf(const Packet& packet, uint64_t arrived) const {
    return inbound_.PlaceOf(packet, arrived);
  }
  void ForgetMemory(NamesMemory names) { inbound_.ForgetMemory(names); }

  // A receive could not be used: it has completed so, and the queue pair must
  // go to ERR.
  bool failed() const { return failed_; }
  void FlushReceive() { inbound_.FailReceive(IBV_WC_WR_FLUSH_ERR); }

 private:
  void OnDatagram(const Packet& packet);
  void OnConnected(const Packet& packet);
  void Take(const Packet& packet);

  const QpOptions& options_;
  const QpAttributes& attributes_;
  Inbound inbound_;
  Psn expected_;  // UC
  bool failed_ = false;
};

}  // namespace nd::soft

#endif  // ND_SOFT_RC_UNRELIABLE_H_
