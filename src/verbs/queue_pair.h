// Queue pairs and shared receive queues: work goes in here and comes out of a
// CompletionQueue.
#ifndef ND_VERBS_QUEUE_PAIR_H_
#define ND_VERBS_QUEUE_PAIR_H_

#include <infiniband/verbs.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "verbs/completion.h"
#include "verbs/memory.h"

namespace nd::verbs {

// A receive queue that several QPs share. Thread-safe as its device is.
class SharedReceiveQueue {
 public:
  struct Options {
    uint32_t max_wr = 256;
    uint32_t max_sge = 1;
  };
  static absl::StatusOr<std::shared_ptr<SharedReceiveQueue>> Create(
      std::shared_ptr<ProtectionDomain> pd, const Options& options);

  ~SharedReceiveQueue();
  SharedReceiveQueue(const SharedReceiveQueue&) = delete;
  SharedReceiveQueue& operator=(const SharedReceiveQueue&) = delete;

  // `wr_id` below 2^62: nd keeps the two upper bits.
  absl::Status PostReceive(uint64_t wr_id, std::span<const ibv_sge> sges);

  // Asks for one IBV_EVENT_SRQ_LIMIT_REACHED when fewer than `limit` receives
  // are left.
  absl::Status SetLimit(uint32_t limit);

  const std::shared_ptr<ProtectionDomain>& pd() const { return pd_; }
  ibv_srq* get() const { return srq_; }

 private:
  SharedReceiveQueue(std::shared_ptr<ProtectionDomain> pd, ibv_srq* srq);

  const std::shared_ptr<ProtectionDomain> pd_;
  ibv_srq* const srq_;
};

// One request of the send queue. What each opcode reads:
//   IBV_WR_SEND[_WITH_IMM|_WITH_INV]     sges, imm_data | invalidate_rkey
//   IBV_WR_RDMA_WRITE[_WITH_IMM], _READ  sges, remote_addr, rkey, imm_data
//   IBV_WR_ATOMIC_CMP_AND_SWP            one sge of 8 bytes, remote_addr, rkey,
//                                        compare_add, swap
//   IBV_WR_ATOMIC_FETCH_AND_ADD          the same without swap
//   IBV_WR_BIND_MW                       window, bind, rkey: the new R_Key
//   IBV_WR_LOCAL_INV                     invalidate_rkey
struct SendRequest {
  ibv_wr_opcode opcode = IBV_WR_SEND;
  unsigned flags = 0;  // IBV_SEND_SIGNALED | FENCE | SOLICITED | INLINE
  uint64_t wr_id = 0;
  std::span<const ibv_sge> sges{};
  uint64_t remote_addr = 0;
  uint32_t rkey = 0;
  uint32_t imm_data = 0;  // host byte order
  uint32_t invalidate_rkey = 0;
  uint64_t compare_add = 0;
  uint64_t swap = 0;
  MemoryWindow* window = nullptr;
  ibv_mw_bind_info bind{};
};

// "INIT", "RTR", ...
const char* QpStateName(ibv_qp_state state);

// A reliable connected queue pair. Owned by one thread at a time.
//
// The send queue cannot overflow: a request takes a place that is released when
// its completion, or a later one's, is polled; where the application leaves too
// many requests unsignalled, nd signals one in between and keeps that
// completion to itself.
class QueuePair {
 public:
  struct Options {
    std::shared_ptr<CompletionQueue> send_cq{};
    std::shared_ptr<CompletionQueue> recv_cq{};  // null: the same as send_cq
    std::shared_ptr<SharedReceiveQueue> srq{};   // null: a receive queue
    uint32_t max_send_wr = 128;
    uint32_t max_recv_wr = 128;
    uint32_t max_send_sge = 1;
    uint32_t max_recv_sge = 1;
    uint32_t max_inline = 0;      // bytes; the device may grant more
    uint32_t max_unsignaled = 0;  // in a row; 0: half of max_send_wr
    bool with_mw_and_invalidate =
        false;  // ask for BIND_MW, LOCAL_INV, SEND_INV
  };

  static absl::StatusOr<std::unique_ptr<QueuePair>> Create(
      std::shared_ptr<ProtectionDomain> pd, const Options& options);

  ~QueuePair();
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  // Moves the QP by hand, or with what rdma_init_qp_attr returned; `mask` says
  // which fields of `attr` count. Errors name the state, the QP and the peer.
  absl::Status Modify(ibv_qp_attr& attr, int mask);

  // The path to a peer's QP when there is no connection manager.
  struct Path {
    uint8_t port = 1;
    uint32_t gid_index = 0;
    std::array<uint8_t, 16> remote_gid{};
    uint32_t remote_qpn = 0;
    uint32_t local_psn = 0;   // of the first packet sent, 24 bits
    uint32_t remote_psn = 0;  // of the first packet expected, 24 bits
    ibv_mtu mtu = IBV_MTU_1024;
    uint8_t sl = 0;
    uint8_t traffic_class = 0;
    uint8_t hop_limit = 64;
    uint8_t max_rd_atomic = 1;       // READs and atomics sent at a time
    uint8_t max_dest_rd_atomic = 1;  // and served at a time
    uint8_t min_rnr_timer = 12;      // code of IBA table 45: 12 is 0.64 ms
    uint8_t ack_timeout = 14;        // 4.096 us * 2^n
    uint8_t retry_count = 7;
    uint8_t rnr_retry = 7;  // 7: for ever
    unsigned access = 0;    // IBV_ACCESS_* that the peer has
  };
  absl::Status ToInit(const Path& path);  // RESET to INIT
  absl::Status ToRtr(const Path& path);   // INIT to RTR: can receive
  absl::Status ToRts(const Path& path);   // RTR to RTS: can send
  absl::Status ToError();                 // flushes all outstanding work
  absl::Status ToReset();                 // drops all outstanding work

  absl::StatusOr<ibv_qp_attr> Query(int mask) const;

  // Posts all requests with one doorbell. RESOURCE_EXHAUSTED when the send
  // queue has no place for all of them: poll the completion queue first.
  // INVALID_ARGUMENT names the request and what is wrong with it. In both cases
  // none was posted; where the device itself refuses, the message says how many
  // went out before.
  absl::Status Post(std::span<const SendRequest> requests);
  absl::Status Post(const SendRequest& request) { return Post({&request, 1}); }

  absl::Status PostReceive(uint64_t wr_id, std::span<const ibv_sge> sges);

  // Binds a type 1 window; its completion has opcode IBV_WC_BIND_MW.
  absl::Status BindWindow(MemoryWindow& window, const ibv_mw_bind_info& bind,
                          uint64_t wr_id);

  // Moves the QP to ERR and polls both CQs until every request of this QP has
  // come back. Every completion, of other QPs on these CQs too, is handed to
  // `sink`. DEADLINE_EXCEEDED says how many are still out.
  absl::Status Drain(const Deadline& deadline,
                     absl::FunctionRef<void(const Completion&)> sink);

  // The same in steps, for who polls the CQs anyway: StartDrain, and then until
  // drained() the completions of what was posted come.
  absl::Status StartDrain();
  bool drained() const { return sends_out() == 0 && receives_posted() == 0; }

  uint32_t qpn() const { return qp_->qp_num; }
  uint32_t max_inline() const { return max_inline_; }
  // Requests that Post would take now.
  uint32_t send_room() const { return max_send_wr_ - sends_out(); }
  // Receives not yet completed; 0 with an SRQ.
  uint32_t receives_posted() const { return recv_head_ - recv_tail_; }
  bool uses_wr_api() const { return qp_ex_ != nullptr; }  // ibv_wr_*
  ibv_qp* get() const { return qp_; }
  const std::shared_ptr<ProtectionDomain>& pd() const { return pd_; }

  // Who is at the other end, for messages: "10.0.0.2:9999".
  void set_peer(std::string peer) { peer_ = std::move(peer); }
  const std::string& peer() const { return peer_; }
  std::string ToString() const;  // "qpn 0x11, peer 10.0.0.2:9999"

 private:
  friend class CompletionQueue;
  friend struct Completion;

  // What a request asked, until its place is taken again.
  struct SendRecord {
    uint64_t wr_id = 0;
    uint64_t remote_addr = 0;
    uint32_t rkey = 0;
    uint32_t length = 0;
    ibv_wr_opcode opcode = IBV_WR_SEND;
    bool wanted = false;  // the application asked for the completion
    bool marker = false;  // Drain's own: never handed out
  };

  QueuePair(std::shared_ptr<ProtectionDomain> pd, const Options& options,
            ibv_qp* qp, const ibv_qp_cap& cap);

  const char* Fault(const SendRequest& request, uint64_t length) const;
  ABSL_ATTRIBUTE_COLD absl::Status Refuse(const SendRequest& request,
                                          uint64_t length,
                                          const char* fault) const;
  ABSL_ATTRIBUTE_COLD absl::Status DeviceRefused(int error, size_t posted,
                                                 size_t wanted) const;
  uint64_t Record(const SendRequest& request, uint32_t length, unsigned* flags);
  void SetInlineData(std::span<const ibv_sge> sges);
  // Record the requests and hand them to the device. Where that fails, Post
  // takes back the records of those that were not `posted`.
  absl::Status PostByWrApi(std::span<const SendRequest> requests);
  ABSL_ATTRIBUTE_NOINLINE absl::Status PostByList(
      std::span<const SendRequest> requests, uint32_t* posted);
  absl::Status PostMarker();
  bool CompleteSend(uint32_t place, Completion& out);
  bool CompleteReceive(uint32_t place, Completion& out);
  std::string DescribeRequest(const Completion& completion) const;
  uint32_t sends_out() const { return send_head_ - send_tail_; }

  const std::shared_ptr<ProtectionDomain> pd_;
  const std::shared_ptr<CompletionQueue> send_cq_, recv_cq_;
  const std::shared_ptr<SharedReceiveQueue> srq_;
  ibv_qp* const qp_;
  ibv_qp_ex* qp_ex_ = nullptr;
  const uint32_t max_send_wr_, max_recv_wr_, max_send_sge_, max_inline_;
  const uint32_t max_unsignaled_;

  // The places of both queues, as rings of a power of two; head and tail count
  // on and wrap at 2^32.
  std::vector<SendRecord> send_records_;
  std::vector<uint64_t> recv_wr_ids_;
  uint32_t send_head_ = 0, send_tail_ = 0;
  uint32_t recv_head_ = 0, recv_tail_ = 0;
  uint32_t unsignaled_ = 0;  // in a row, up to the newest request

  // Kept between posts so that posting does not allocate.
  std::vector<ibv_send_wr> wrs_;
  std::vector<std::byte> gathered_;
  std::string peer_ = "unconnected";
};

}  // namespace nd::verbs

#endif  // ND_VERBS_QUEUE_PAIR_H_
