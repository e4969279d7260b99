// A link of a session on an RC queue pair.
#ifndef ND_TRANSPORT_LINK_VERBS_CARRIER_H_
#define ND_TRANSPORT_LINK_VERBS_CARRIER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "base/clock.h"
#include "transport/memory/registered_pool.h"
#include "transport/session/carrier.h"
#include "transport/session/session_core.h"
#include "verbs/completion.h"
#include "verbs/queue_pair.h"

namespace nd::transport {

// Belongs to the thread of its session. Whoever polls the QP's completion queue
// gives it what is this QP's (Completion::qp), and calls Advance once a turn.
class VerbsCarrier final : public Carrier {
 public:
  struct Options {
    uint32_t link = 0;
    uint32_t slot_size = 0;
    uint32_t depth = 0;  // requests; the QP's max_send_wr
    // Elements of a request, the QP's max_send_sge.
    uint32_t max_pieces = 1;
    uint64_t max_write = 0;  // the port's max_msg_sz
    // Places of both rings; 0: packets go by SEND into receives.
    uint32_t ring_places = 0;
  };

  // `send_slots` has room for depth packets; `ring`, which the peer may write,
  // for ring_places.
  VerbsCarrier(const Options& options, std::unique_ptr<verbs::QueuePair> qp,
               Buffer send_slots, Buffer ring, SessionCore& core);
  ~VerbsCarrier() override;

  void OnCompletion(const verbs::Completion& completion, Instant now);
  // Tells the session what could not be told inside its own calls; whether
  // there was anything.
  bool Advance(Instant now);

  // Where the peer's begins; before the first packet.
  void set_peer_ring(const RemotePlace& ring) { peer_ring_ = ring; }
  const Buffer& ring() const { return ring_; }
  // READs and atomics at a time, the QP's max_rd_atomic: known once it is in
  // RTS, and 0 before.
  void set_read_depth(uint32_t depth) { read_depth_ = depth; }

  // The session uses it no more.
  bool finished() const { return finished_; }
  // Advance has something to wait for.
  bool ending() const { return shut_ && !finished_; }
  const verbs::QueuePair* qp() const { return qp_.get(); }
  verbs::QueuePair& queue_pair() { return *qp_; }

  // Carrier:
  uint32_t depth() const override { return options_.depth; }
  uint32_t max_pieces() const override { return options_.max_pieces; }
  uint64_t max_write() const override { return options_.max_write; }
  uint32_t read_depth() const override { return read_depth_; }
  std::span<std::byte> SendSlot(uint64_t number) override;
  void Send(uint64_t serial, std::span<std::byte> bytes,
            std::span<const LocalPiece> more, bool signal) override;
  void Write(uint64_t serial, const LocalPiece& from, const RemotePlace& to,
             std::optional<uint32_t> immediate, bool signal) override;
  void Read(uint64_t serial, const LocalPiece& into,
            const RemotePlace& from) override;
  void Atomic(uint64_t serial, const LocalPiece& into, const RemotePlace& at,
              const AtomicRequest& what) override;
  void PostReceive(ReceiveSlot& slot) override;
  void Flush() override;
  void Shut() override;

 private:
  static constexpr size_t kChain = 16;
  using Pieces = std::array<ibv_sge, 2>;

  bool takes() const { return !shut_ && refused_.ok(); }
  verbs::SendRequest& Next(ibv_wr_opcode opcode, uint64_t serial, bool signal);
  void Chain(size_t elements);

  const Options options_;
  std::unique_ptr<verbs::QueuePair> qp_;
  const Buffer send_slots_;
  const Buffer ring_;
  RemotePlace peer_ring_;
  uint64_t taken_ = 0;  // receives of the peer's
  SessionCore& core_;
  // Posted with one doorbell.
  std::array<verbs::SendRequest, kChain> chain_;
  std::array<Pieces, kChain> pieces_;
  size_t chained_ = 0;
  uint32_t read_depth_ = 0;
  absl::Status refused_;  // what the device did not take
  std::optional<Instant> shut_by_;
  bool shut_ = false;
  bool flushes_ = false;  // what is outstanding will complete
  bool finished_ = false;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_LINK_VERBS_CARRIER_H_
