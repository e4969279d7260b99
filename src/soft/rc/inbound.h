// Takes the packets of SENDs and WRITEs, in the order of their PSNs, checks
// them and puts their data where it belongs (IBA vol. 1, ch. 9, validation of
// inbound requests).
#ifndef ND_SOFT_RC_INBOUND_H_
#define ND_SOFT_RC_INBOUND_H_

#include <cstdint>
#include <optional>

#include "absl/base/attributes.h"
#include "soft/rc/memory.h"
#include "soft/rc/qp_config.h"
#include "soft/rc/segments.h"
#include "soft/wire/packet.h"

namespace nd::soft {

enum class Verdict : uint8_t {
  kExecuted,
  kNotReady,  // needs a receive, and none is posted; nothing was executed
  kInvalidRequest,
  kAccessError,
  kOperationalError,
  kLost,  // its payload was not to be had: as if it had not come
};

struct Outcome {
  Verdict verdict = Verdict::kExecuted;
  // On a fault: how the receive in progress ends where the transport tells.
  ibv_wc_status receive_status = IBV_WC_REM_INV_REQ_ERR;
};

// Serves RC, UC and UD. What the references name outlives it. One thread at a
// time.
class Inbound {
 public:
  Inbound(const QpAttributes& attributes, const QpPorts& ports);

  // Forgets the message and its receive.
  void Reset();

  // The next packet of a SEND or WRITE.
  Outcome OnPacket(const Packet& packet);

  // Takes the receive for a SEND that `packet` begins, ahead of OnPacket.
  // False: there is none, or OnPacket will refuse the packet.
  [[nodiscard]] bool TakeReceive(const Packet& packet);
  // Where in the receive that was taken the payload of a packet belongs before
  // which so many bytes have come. Empty: nowhere.
  Slice PlaceOf(const Packet& packet, uint64_t arrived) const;

  // Between the first and the last packet of a message.
  bool busy() const { return message_.has_value(); }
  // Drops the message; its receive serves the next one.
  void Abandon() { message_.reset(); }

  // As Requester's, of the receive in progress: it fails at the next packet.
  void ForgetMemory(NamesMemory names);

  // Completes the receive in progress with an error. False: there is none.
  ABSL_ATTRIBUTE_COLD bool FailReceive(ibv_wc_status status);

 private:
  // What the first packet said, and how far it has come.
  struct Message {
    PacketKind kind = PacketKind::kSend;
    Reth reth{};
    uint64_t arrived = 0;
  };

  // The stages, each with its verdict on the packet.
  bool InSequence(const Packet& packet) const;
  bool Permitted(const Packet& packet) const;
  bool LengthFits(const Packet& packet, const Message& message) const;
  bool ReceiveReady(const Packet& packet);
  Outcome CheckReceive(const Packet& packet, const Message& message) const;
  Verdict Place(const Packet& packet, const Message& message);
  Verdict PlaceWrite(const Packet& packet, const Message& message);
  Outcome Finish(const Packet& packet, const Message& message);
  void Complete(const Packet& packet, const Message& message);

  const QpAttributes& attributes_;
  QpPorts ports_;
  std::optional<Message> message_;
  std::optional<ReceiveWork> receive_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_RC_INBOUND_H_
