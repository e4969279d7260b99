// The sending half of a queue pair: works in, request packets out, answers in,
// completions out (IBA vol. 1, ch. 9, reliable service, the requester).
//
// Every packet of every work has a position, a count that never wraps; its PSN
// is the position's lower 24 bits off the first PSN. Three positions say it
// all:
//
//   unacked_ <= send_at_ <= max_sent_
//   |           |           `- where no packet has ever been sent
//   |           `- the next to be sent; going back to unacked_ is a retry
//   `- the first without an answer; progress is that it moves
//
// A READ takes a position for each packet of its answer (IBA ch. 9, PSNs), so a
// READ that was answered in part is asked again from unacked_ on like any other
// work, and a long one is asked for in parts, since a responder may answer all
// of a request at once.
#ifndef ND_SOFT_RC_REQUESTER_H_
#define ND_SOFT_RC_REQUESTER_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/base/attributes.h"
#include "base/clock.h"
#include "soft/rc/fixed_ring.h"
#include "soft/rc/memory.h"
#include "soft/rc/outbox.h"
#include "soft/rc/qp_config.h"
#include "soft/rc/work.h"
#include "soft/wire/packet.h"

namespace nd::soft {

// Serves RC, UC and UD; the latter two complete a work with its last packet.
// `options`, `attributes` and `completions` are the queue pair's and outlive
// it. One thread at a time.
class Requester {
 public:
  Requester(const QpOptions& options, const QpAttributes& attributes,
            CompletionSink& completions);

  // Forgets everything: the queue pair was reset.
  void Reset();

  bool full() const { return queue_.full(); }
  // Works that have not left the queue; they leave it in order.
  size_t queued() const { return queue_.size(); }
  // There is room: !full().
  void Post(const SendWork& work);
  // The memory of works whose segments `names` may not be touched any more:
  // such a work fails when its turn comes, its next packet or its answer.
  void ForgetMemory(NamesMemory names);

  // Whether a packet is the next of a READ's answer that OnPacket would take.
  bool IsNextAnswer(const Packet& packet) const;
  // Where its payload belongs, or that of one behind it which goes on with the
  // same READ. Empty: nowhere.
  Slice PlaceOf(const Packet& packet) const;

  // An answer of the peer.
  void OnPacket(const Packet& packet, Instant now);
  void OnTimer(Instant now);
  std::optional<Instant> NextDeadline() const;

  // Sends what may be sent, up to the outbox's room.
  void Transmit(Instant now, Outbox& outbox);

  // While `draining`, no work is begun; those begun go on.
  void SetDraining(bool draining) { draining_ = draining; }
  // All that was begun has been answered.
  bool drained() const;

  // A work has failed and completed so: the send queue must be flushed.
  bool failed() const { return failed_; }
  // Completes all that is left as flushed.
  ABSL_ATTRIBUTE_COLD void Flush();
  void ClearFailure() { failed_ = false; }

 private:
  struct Request {
    SendWork work;
    uint32_t length = 0;
    uint64_t begin = 0;  // positions
    uint64_t end = 0;
    bool has_run = false;  // kLocal
  };

  bool reliable() const { return options_.transport == Transport::kRc; }
  Psn PsnAt(uint64_t position) const;
  uint64_t PositionsOf(const SendWork& work, uint64_t length) const;

  // What goes out.
  Request* NextToSend();
  bool Begun(const Request& request) const;
  bool MaySend(const Request& request) const;
  uint32_t own_window() const { return attributes_.window + grown_; }
  // In half of which acknowledgements are asked for inside of long messages.
  uint32_t copied_window() const {
    return beside_short_ ? std::min(own_window(), kBesideShort) : own_window();
  }
  uint32_t window(const Request& request) const {
    const bool is_long = request.end - request.begin > 1;
    if (is_long && beside_short_) return copied_window();
    return own_window() * (lends_ ? kWiderWhereLent : 1);
  }
  uint64_t Room(const Request& request) const;
  bool WindowHasRoom(const Request& request) const;
  uint64_t EndOfPart(const Request& request, uint64_t position) const;
  ibv_wc_status LocalFault(const Request& request) const;
  void RunLocal(Request& request);
  uint64_t EndOfBurst(const Request& request, const Outbox& outbox) const;
  static size_t BurstBytes(const Request& request, const Outbox& outbox);
  void SendPart(Request& request, uint64_t up_to, Outbox& outbox);
  Outgoing MakeData(const Request& request, uint64_t up_to);
  Qkey QkeyOf(const SendWork& work) const;
  ABSL_ATTRIBUTE_NOINLINE Outgoing MakeRead(const Request& request) const;
  ABSL_ATTRIBUTE_NOINLINE Outgoing MakeAtomic(const Request& request) const;
  bool WantsAck(bool last, uint32_t packets);
  void Sent(Request& request, uint64_t up_to, Instant now);

  // What comes in; `position` is that of the answer's PSN.
  std::optional<uint64_t> PositionOf(const Packet& packet) const;
  const Request* ReadAt(uint64_t position) const;
  void OnAcknowledge(const Packet& packet, uint64_t position, Instant now);
  ABSL_ATTRIBUTE_COLD void OnNak(NakCode code, uint64_t position, Instant now);
  ABSL_ATTRIBUTE_COLD void OnRnrNak(uint8_t timer_code, uint64_t position,
                                    Instant now);
  ABSL_ATTRIBUTE_NOINLINE void OnReadResponse(const Packet& packet,
                                              uint64_t position, Instant now);
  ABSL_ATTRIBUTE_NOINLINE void OnAtomicAcknowledge(const Packet& packet,
                                                   uint64_t position,
                                                   Instant now);
  bool Acknowledge(uint64_t end, Instant now);
  bool IsNext(uint64_t position, Instant now);
  void Advance(uint64_t position, Instant now);
  void Widen(uint64_t position);
  void StartAckTimer(Instant now);
  void AnswerTaken(uint64_t position, uint64_t packets, Instant now);
  void GoOn(Instant now);

  // Retries and ends.
  void AskAgain();
  void Retry();
  void GoBack();
  bool doubting() const { return unacked_ < doubted_; }
  void Retire();
  void Complete(ibv_wc_status status);
  ABSL_ATTRIBUTE_COLD void Fail(ibv_wc_status status);

  const QpOptions& options_;
  const QpAttributes& attributes_;
  CompletionSink& completions_;

  FixedRing<Request> queue_;
  uint64_t posted_ = 0;  // positions given to works
  uint64_t unacked_ = 0;
  uint64_t send_at_ = 0;
  uint64_t max_sent_ = 0;
  size_t send_index_ = 0;  // the work in queue_ that send_at_ is in

  // What is lent lies in no queue, and goes in larger bursts.
  static constexpr uint32_t kWiderWhereLent = 8;
  bool lends_ = false;  // in the last Transmit
  // Packets of long messages in flight beside short ones of others: 64 KiB,
  // which a receiver takes in a few microseconds.
  static constexpr uint32_t kBesideShort = 16;
  bool beside_short_ = false;  // in the last Transmit
  // The window grows while it is made use of and nothing is lost.
  uint32_t grown_ = 0;
  uint64_t answered_ = 0;  // packets, since it grew

  // Since the last time it went back:
  uint64_t awaited_ = 0;     // answers that READs in flight still bring
  uint32_t rd_atomics_ = 0;  // READs and atomics in flight
  uint32_t since_ack_req_ = 0;
  // After silence: what was in flight up to there may be lost or late, and so
  // many READs and atomics of it may be asked for again at a time.
  uint64_t doubted_ = 0;
  uint32_t repeats_ = 0;

  // Since the last progress:
  uint8_t retries_ = 0;
  uint8_t rnr_retries_ = 0;
  bool asked_again_ = false;
  bool probing_ = false;  // after silence, one packet and no more

  // Written for each packet and read at once behind what goes into a ring: in
  // one word, which need not wait until all of that has reached the cache.
  static constexpr Instant kNever = Instant::max();
  Instant ack_deadline_ = kNever;
  Instant rnr_until_ = kNever;
  bool draining_ = false;
  bool failed_ = false;
};

}  // namespace nd::soft

#endif  // ND_SOFT_RC_REQUESTER_H_
