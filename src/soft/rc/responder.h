// The receiving half of a RC queue pair: requests in, answers out (IBA vol. 1,
// ch. 9, reliable service, the responder). A request passes these stages, and
// the first that refuses it says what the answer is:
//
//   PSN -> opcode sequence -> permission -> length -> resources -> R_Key
//       -> execute -> acknowledge
//
// Answers wait in order until the outbox has room. A READ is one of them, with
// how far it has come, so that a long one flows at the outbox's pace; an
// acknowledgement behind one that has not left yet takes its place (9.7.5.1.2).
#ifndef ND_SOFT_RC_RESPONDER_H_
#define ND_SOFT_RC_RESPONDER_H_

#include <cstddef>
#include <cstdint>

#include "absl/base/attributes.h"
#include "soft/rc/fixed_ring.h"
#include "soft/rc/inbound.h"
#include "soft/rc/memory.h"
#include "soft/rc/outbox.h"
#include "soft/rc/qp_config.h"
#include "soft/wire/packet.h"

namespace nd::soft {

// What the references name is the queue pair's and outlives it. One thread at a
// time.
class Responder {
 public:
  Responder(const QpAttributes& attributes, const QpPorts& ports);

  // On the way to RTR: begins with the attributes' first PSN.
  void Start();

  // A request of the peer.
  void OnPacket(const Packet& packet);

  // Whether OnPacket would take it as the first of a message.
  bool Begins(const Packet& packet) const {
    return packet.bth.psn == expected_ && packet.facts().first &&
           !inbound_.busy();
  }

  // As Inbound's.
  [[nodiscard]] bool TakeReceive(const Packet& packet) {
    return inbound_.TakeReceive(packet);
  }
  Slice PlaceOf(const Packet& packet, uint64_t arrived) const {
    return inbound_.PlaceOf(packet, arrived);
  }

  // Sends the answers that wait, up to the outbox's room.
  void Transmit(Outbox& outbox);
  bool has_answers() const { return !replies_.empty(); }

  // The peer broke a rule, or its receive did: it has been told, and the queue
  // pair must go to ERR. What waits may still be sent.
  bool failed() const { return failed_; }

  // Forgets what waits to be sent, and completes the receive in progress with
  // `status`.
  void Stop() { replies_.Clear(); }
  void ForgetMemory(NamesMemory names) { inbound_.ForgetMemory(names); }
  // As Qp's.
  bool HasRead(NamesKey names) const;
  void FlushReceive() { inbound_.FailReceive(IBV_WC_WR_FLUSH_ERR); }

 private:
  // A READ or atomic that was executed, kept for its repetitions.
  struct Served {
    Opcode opcode = Opcode::kRcReadRequest;
    Psn psn{};
    uint32_t packets = 1;   // of the answer
    Reth reth{};            // READ
    uint64_t original = 0;  // atomic
    Msn msn{};
  };

  // An answer that waits to be sent.
  struct Reply {
    bool acknowledges = true;  // else it is the answer of a Served
    Syndrome syndrome{};
    Psn psn{};
    Msn msn{};
    uint64_t served = 0;  // its number, counted from Start()
    uint32_t begin = 0;   // packets of the READ: first and next to be sent
    uint32_t next = 0;
    bool fresh = false;  // not a repetition
  };

  // Requests.
  void OnExpected(const Packet& packet);
  void AskForMissing();
  void OnMessagePacket(const Packet& packet);
  void OnRead(const Packet& packet);
  void OnAtomic(const Packet& packet);
  bool MayServe(unsigned access) const;
  size_t InService() const;
  void Serve(const Served& served);

  // Repetitions.
  void OnDuplicate(const Packet& packet);
  void OnDuplicateRead(const Packet& packet);
  void OnDuplicateAtomic(const Packet& packet);
  void ServeAgain(uint64_t number, uint32_t from);
  Reply* FindReply(uint64_t number);
  void RemoveReply(const Reply* reply);

  // Answers.
  void Acknowledge();
  void Answer(Syndrome syndrome, Psn psn);
  ABSL_ATTRIBUTE_COLD void Refuse(NakCode code, const Outcome& outcome);
  bool SendReply(Reply& reply, Outbox& outbox);
  ABSL_ATTRIBUTE_NOINLINE bool SendReadPart(Reply& reply, const Served& served,
                                            Outbox& outbox);
  Bth MakeBth(Opcode opcode, Psn psn) const;
  void OnReadLost(const Reply& reply, const Served& served, Psn psn,
                  Outbox& outbox);

  Served& NumberedServed(uint64_t number);

  const QpAttributes& attributes_;
  QpPorts ports_;
  Inbound inbound_;

  Psn expected_;
  Psn acknowledged_;   // newest SEND or WRITE packet executed
  Msn msn_;            // messages completed
  bool told_ = false;  // that expected_ is missing; silence until it comes
  bool failed_ = false;

  FixedRing<Served> served_;
  uint64_t first_served_ = 0;  // number of served_[0]
  FixedRing<Reply> replies_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_RC_RESPONDER_H_
