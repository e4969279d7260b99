#include "soft/rc/unreliable.h"

namespace nd::soft {

UnreliableResponder::UnreliableResponder(const QpOptions& options,
                                         const QpAttributes& attributes,
                                         const QpPorts& ports)
    : options_(options), attributes_(attributes), inbound_(attributes, ports) {}

void UnreliableResponder::Start() {
  expected_ = attributes_.receive_psn;
  failed_ = false;
  inbound_.Reset();
}

void UnreliableResponder::OnPacket(const Packet& packet) {
  if (options_.transport == Transport::kUd) return OnDatagram(packet);
  OnConnected(packet);
}

void UnreliableResponder::OnDatagram(const Packet& packet) {
  if (packet.deth.qkey == attributes_.qkey) Take(packet);
}

// A gap drops the message it is in; the next FIRST or ONLY begins anew, also
// where one was open.
void UnreliableResponder::OnConnected(const Packet& packet) {
  if (packet.bth.psn != expected_ || packet.facts().first) inbound_.Abandon();
  expected_ = packet.bth.psn + 1;
  Take(packet);
}

void UnreliableResponder::Take(const Packet& packet) {
  const Outcome outcome = inbound_.OnPacket(packet);
  if (outcome.verdict == Verdict::kExecuted) return;
  if (outcome.verdict == Verdict::kOperationalError) {
    failed_ = inbound_.FailReceive(outcome.receive_status);
    return;
  }
  inbound_.Abandon();
}

}  // namespace nd::soft
