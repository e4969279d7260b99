// A queue pair of the device: verbs' requests in, its protocol underneath.
#ifndef ND_SOFT_DEVICE_QUEUE_PAIR_H_
#define ND_SOFT_DEVICE_QUEUE_PAIR_H_

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/base/attributes.h"
#include "base/clock.h"
#include "soft/device/async_event.h"
#include "soft/device/completion_queue.h"
#include "soft/device/fault_plan.h"
#include "soft/device/memory_table.h"
#include "soft/device/receive_store.h"
#include "soft/device/shuffled_payload.h"
#include "soft/net/network.h"
#include "soft/rc/memory.h"
#include "soft/rc/outbox.h"
#include "soft/rc/qp.h"

namespace nd::soft {

// As verbs hands it out.
struct AddressHandle {
  ibv_ah verbs{};
  PdId pd{};
  Path path{};
};

// Binds a memory window or invalidates a key when its turn comes.
class WindowAction final : public LocalAction {
 public:
  ibv_wc_status Run() override;

  MemoryTable* memory = nullptr;
  Accessor by{};
  bool invalidate = false;
  bool type1 = false;
  uint32_t key = 0;
  uint32_t new_key = 0;
  WindowBind bind{};
};

// How much of what it has a queue pair could send: the network had no room for
// the rest, or its turn was over.
enum class SendOutcome : uint8_t { kAll, kTurn, kSome, kNothing };

// One thread at a time.
class QueuePair final : private RemoteMemory,
                        private ReceiveQueue,
                        private CompletionSink {
 public:
  struct Options {
    Transport transport = Transport::kRc;
    Qpn number{};
    PdId pd{};
    CompletionQueue* send_cq = nullptr;
    CompletionQueue* recv_cq = nullptr;
    SharedReceiveQueue* srq = nullptr;  // or none
    ibv_qp_cap cap{};
    bool signal_all = false;
    bool deaf_to_itself = false;  // to what it sends to groups that it is in
    AsyncSource events{};
    FaultPlan* faults = nullptr;  // or none
    uint64_t loan = 0;            // what its LoanWord says first: by chance
  };
  // What the options and `memory` name outlives it.
  QueuePair(const Options& options, MemoryTable& memory);
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;
  ~QueuePair() override { EndLoans(); }

  // What the verbs do. Each returns 0 or an errno. A change of state takes the
  // attributes that `mask` names, checked by ModifyAllowed; `path` is what
  // attr.ah_attr means where it is among them.
  int Modify(const ibv_qp_attr& attr, int mask,
             const std::optional<Path>& path);
  void Query(ibv_qp_attr& attr) const;
  // Request packets in flight, lossless or not, from the next Modify on.
  void set_window(uint32_t packets) { window_ = max_window_ = packets; }
  int PostSend(const ibv_send_wr& wr);
  int PostReceive(const ibv_recv_wr& wr);
  // Type 1; `new_key` is the window's once it was bound.
  int PostBind(uint64_t wr_id, unsigned flags, uint32_t window_key,
               uint32_t new_key, const WindowBind& bind);

  // The region's key names other memory now, or none: works that were checked
  // with it do not touch what they named.
  void ForgetRegion(uint32_t key);

  void OnArrival(const Arrival& arrival, Instant now);
  void OnTimer(Instant now);
  std::optional<Instant> NextDeadline() const;
  // A turn.
  [[nodiscard]] SendOutcome Transmit(Instant now, Network& network);
  // The same, of its requests only.
  [[nodiscard]] SendOutcome TransmitRequests(Instant now, Network& network);

  size_t send_room() const { return slots_.size() - qp_.sends_queued(); }
  const Options& options() const { return options_; }
  Qpn number() const { return options_.number; }
  ibv_qp_state state() const;
  // Whether a packet has come since RESET: worth an RTU to the CM.
  bool heard() const { return heard_; }

  // For the device's lists.
  bool queued = false;
  uint32_t groups = 0;  // that it is attached to
  std::optional<Instant> timer{};

 private:
  // What a send request keeps outside of the protocol until it leaves its
  // queue.
  struct SendSlot {
    Path path{};  // UD
    Qpn destination{};
    WindowAction action{};
  };
  class NetOutbox;
  // On the wire, where nothing is lost: 1 MiB.
  static constexpr uint32_t kMaxWindow = 256;

  // RemoteMemory
  std::optional<std::span<std::byte>> Find(const MemoryClaim& claim) override;
  bool Invalidate(Rkey rkey) override;
  // ReceiveQueue
  std::optional<ReceiveWork> Take() override;
  bool shared() const override { return options_.srq != nullptr; }
  // CompletionSink
  void SendCompleted(const WorkCompletion& completion) override;
  void ReceiveCompleted(const WorkCompletion& completion) override;
  void Raise(ibv_event_type event) override { options_.events.Raise(event); }

  Accessor accessor() const {
    return {.pd = options_.pd, .qpn = options_.number};
  }
  bool datagram() const { return options_.transport == Transport::kUd; }
  SendSlot& NextSlot() { return slots_[next_slot_]; }
  const SendSlot& OldestSlot() const;
  // Fills `work` with what the request's elements hold.
  int Collect(const ibv_send_wr& wr, SendWork& work);
  int CollectInline(const ibv_send_wr& wr, SendWork& work);
  int PostWork(const SendWork& work);
  [[nodiscard]] ABSL_ATTRIBUTE_NOINLINE bool SplitForGrh();
  void Push(CompletionQueue& cq, const CqEntry& entry);
  // From now on the application may do with the memory of what was sent as it
  // likes, although the peer may not have fetched it.
  void EndLoans();
  // The fault `shuffle`. True: the packet is held back.
  ABSL_ATTRIBUTE_NOINLINE bool HoldBack(const Arrival& arrival, Instant now);
  bool BeginHoldingBack(const Arrival& arrival, Instant now);
  Slice PlaceOf(const Packet& packet, Segment& of_write);
  void TakeHeldBack(Instant now);
  void TakeArrival(const Arrival& arrival, Instant now);
  // What the faults make of a send's outcome, and of the queue pair after it.
  ibv_wc_status WithFaults(ibv_wc_status status);
  void SettleFault();

  const Options options_;
  MemoryTable& memory_;

  size_t next_slot_ = 0;
  std::vector<SendSlot> slots_;
  std::vector<Segment> segments_;          // max_send_sge a slot
  std::vector<uint32_t> keys_;             // theirs; 0 of inline data
  std::unique_ptr<std::byte[]> inline_;    // max_inline_data a slot
  ReceiveStore receives_;                  // without an SRQ
  std::vector<Segment> receive_segments_;  // of the receive in progress
  std::vector<uint32_t> receive_keys_;     // theirs
  std::vector<Segment> grh_segments_;      // UD: its first 40 bytes

  ibv_qp_attr attr_{};  // as last set
  Path path_{};         // RC and UC: to the peer
  uint32_t window_ = QpAttributes().window;
  uint32_t max_window_ = kMaxWindow;
  const Arrival* arrival_ = nullptr;  // in OnArrival
  Network* sending_ = nullptr;        // in Transmit
  bool heard_ = false;
  bool ahead_ = false;    // in Take: of the packet, which is not taken yet
  bool refused_ = false;  // so: it is to find no receive when it is
  bool failing_ = false;  // a send was made to fail: on the way to ERR
  LoanWord loan_;
  ShuffledPayload shuffled_;

  Qp qp_;
};

// Whether these attributes may and must be given for this step, as Linux's
// ib_modify_qp_is_ok has it (IBA vol. 1, ch. 11, modify queue pair).
bool ModifyAllowed(ibv_qp_type type, ibv_qp_state from, ibv_qp_state to,
                   int mask);

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_QUEUE_PAIR_H_
