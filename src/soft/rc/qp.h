// A queue pair: requester and responder joined by their state (IBA vol. 1,
// 10.3.1).
#ifndef ND_SOFT_RC_QP_H_
#define ND_SOFT_RC_QP_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/base/attributes.h"
#include "base/clock.h"
#include "soft/rc/memory.h"
#include "soft/rc/outbox.h"
#include "soft/rc/qp_config.h"
#include "soft/rc/requester.h"
#include "soft/rc/responder.h"
#include "soft/rc/unreliable.h"
#include "soft/rc/work.h"
#include "soft/wire/packet.h"

namespace nd::soft {

enum class PostResult : uint8_t { kPosted, kWrongState, kFull };

// The device parses packets, checks their ICRC and addresses, and finds the
// queue pair; it calls Transmit after every other call that may leave something
// to send, and OnTimer when NextDeadline has come. Completions arrive from
// within these calls. What the ports name outlives the queue pair. One thread
// at a time.
class Qp {
 public:
  Qp(const QpOptions& options, const QpPorts& ports);
  Qp(const Qp&) = delete;
  Qp& operator=(const Qp&) = delete;

  QpState state() const { return state_; }
  const QpOptions& options() const { return options_; }
  const QpAttributes& attributes() const { return attributes_; }

  // Takes the step with these attributes, all of them, changed or not. False:
  // MayMove does not allow it, and nothing has changed.
  [[nodiscard]] bool Modify(QpState to, const QpAttributes& attributes);

  [[nodiscard]] PostResult Post(const SendWork& work);
  // Works that hold on to their segments still.
  size_t sends_queued() const { return requester_.queued(); }
  // Segments that `names` are not touched any more; the works that have them
  // end with a local protection error.
  void ForgetMemory(NamesMemory names);
  // Whether one of the peer's last READs was with a key that `names`: it may
  // still have to fetch what was lent to it.
  bool HasRead(NamesKey names) const { return responder_.HasRead(names); }
  // A receive was posted: in ERR it is flushed.
  void OnReceivePosted();

  void OnPacket(const Packet& packet, Instant now);
  // Whether OnPacket would take it as the first of a WRITE that is permitted,
  // of a SEND, or of a READ's answer.
  bool BeginsPayload(const Packet& packet) const;
  // Takes the receive that a SEND which begins so is for. False: there is none,
  // or it is refused.
  [[nodiscard]] bool TakeReceive(const Packet& packet);
  // Where the payload of a packet of a SEND or a READ's answer belongs, the
  // SEND being one whose receive was taken and of which so many bytes have
  // come. Empty: nowhere.
  Slice PlaceOf(const Packet& packet, uint64_t arrived) const;
  void OnTimer(Instant now);
  std::optional<Instant> NextDeadline() const;
  // Sends what it has, up to the outbox's room.
  void Transmit(Instant now, Outbox& outbox);
  // Of that, what its works ask for.
  void TransmitRequests(Instant now, Outbox& outbox);

 private:
  bool Accepts(const Packet& packet) const;
  bool sends() const;
  bool receives() const;
  void Reset();
  ABSL_ATTRIBUTE_COLD void EnterError();
  ABSL_ATTRIBUTE_COLD void FlushReceives();
  void OnPacketOfPeer(const Packet& packet, Instant now);
  void TransmitAnswers(Outbox& outbox);
  void Settle() {
    if (requester_.failed() || responder_.failed() || unreliable_.failed() ||
        state_ == QpState::kSqd) {
      Conclude();
    }
  }
  void Conclude();

  const QpOptions options_;
  QpAttributes attributes_;
  QpPorts ports_;
  QpState state_ = QpState::kReset;
  bool heard_ = false;          // a packet has come since RTR
  bool drained_ = false;        // SQD has been told so
  bool answers_first_ = false;  // in the next Transmit

  Requester requester_;
  Responder responder_;
  UnreliableResponder unreliable_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_RC_QP_H_
