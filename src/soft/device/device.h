// The device of this process: its objects, the protocol of its queue pairs, its
// communication manager, and what drives them.
#ifndef ND_SOFT_DEVICE_DEVICE_H_
#define ND_SOFT_DEVICE_DEVICE_H_

#include <infiniband/verbs.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/random.h"
#include "soft/cm/deadline_queue.h"
#include "soft/cm/manager.h"
#include "soft/cm/port_table.h"
#include "soft/device/async_event.h"
#include "soft/device/completion_queue.h"
#include "soft/device/fault_plan.h"
#include "soft/device/gid_table.h"
#include "soft/device/limits.h"
#include "soft/device/memory_table.h"
#include "soft/device/queue_pair.h"
#include "soft/device/receive_store.h"
#include "soft/net/network.h"

namespace nd::soft {

// All of its state is behind one lock, but for the completion queues, which
// have their own. Progress is made by whoever holds the lock: a thread that
// polls an empty completion queue, and the engine's thread when nobody does.
class Device final : private ArrivalSink {
 public:
  struct Options {
    Limits limits{};
    HostAddresses host{};
    FaultPlan* faults = nullptr;  // or none
  };
  // The clock, the source of chance and the faults outlive it.
  Device(const Options& options, std::unique_ptr<Network> network,
         const Clock& clock, Random& random);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const Limits& limits() const { return limits_; }
  // As it is now.
  std::shared_ptr<const HostAddresses> host() const;
  // The host has these addresses. Where that is new, IBV_EVENT_GID_CHANGE
  // tells.
  void SetAddresses(const HostAddresses& host);
  ibv_mtu active_mtu() const { return active_mtu_; }
  const Clock& clock() const { return clock_; }
  std::optional<int> GidIndex(const Gid& gid) const;
  bool IsLocal(const Gid& gid) const { return GidIndex(gid).has_value(); }
  // Nothing: not an address that RoCE can use, or no such sgid_index.
  std::optional<Path> PathOf(const ibv_ah_attr& attr) const;

  // ---- Verbs. They take the lock. Those that return an int return an errno.
  absl::StatusOr<PdId> AllocatePd();
  void FreePd();
  absl::StatusOr<uint32_t> RegisterMemory(
      const MemoryTable::RegionOptions& options);
  absl::Status ChangeMemory(uint32_t key,
                            const MemoryTable::RegionChange& change);
  absl::Status DeregisterMemory(uint32_t key);
  absl::StatusOr<uint32_t> AllocateWindow(PdId pd, ibv_mw_type type);
  void FreeWindow(uint32_t key);

  absl::StatusOr<std::unique_ptr<CompletionQueue>> CreateCq(
      uint32_t capacity, CompletionChannel* channel, void* owner);
  void DestroyCq(std::unique_ptr<CompletionQueue> cq);
  // False: more completions are queued than would fit.
  [[nodiscard]] bool ResizeCq(CompletionQueue& cq, uint32_t capacity);
  // Makes progress when there is nothing.
  int Poll(CompletionQueue& cq, std::span<ibv_wc> out);

  absl::StatusOr<std::unique_ptr<SharedReceiveQueue>> CreateSrq(
      const SharedReceiveQueue::Options& options);
  void DestroySrq(std::unique_ptr<SharedReceiveQueue> srq);
  int PostSrqReceive(SharedReceiveQueue& srq, ibv_recv_wr* wr,
                     ibv_recv_wr** bad);
  // False: the SRQ holds more than `capacity`.
  [[nodiscard]] bool ResizeSrq(SharedReceiveQueue& srq, size_t capacity);
  void SetSrqLimit(SharedReceiveQueue& srq, uint32_t limit);
  uint32_t SrqLimit(SharedReceiveQueue& srq);

  // options.number is chosen here.
  absl::StatusOr<QueuePair*> CreateQp(QueuePair::Options options);
  // EBUSY: it is attached to a group, and the device is there still (IBA
  // o10-2.2.3; Linux's uverbs detaches it only where the device goes).
  int DestroyQp(QueuePair* qp);
  int ModifyQp(QueuePair& qp, ibv_qp_type type, const ibv_qp_attr& attr,
               int mask);
  void QueryQp(QueuePair& qp, ibv_qp_attr& attr);
  // ENOMEM, and none is posted, where not so many as are to go `together` fit.
  int PostSend(QueuePair& qp, ibv_send_wr* wr, ibv_send_wr** bad,
               size_t together = 0);
  int PostReceive(QueuePair& qp, ibv_recv_wr* wr, ibv_recv_wr** bad);
  int PostBind(QueuePair& qp, uint64_t wr_id, unsigned flags,
               uint32_t window_key, uint32_t new_key, const WindowBind& bind);

  // What is sent to the group comes to the queue pair as well, however often it
  // is attached, once it can receive. EOPNOTSUPP: the device has no groups.
  // EINVAL: no datagram queue pair, or not the address of a group. ENOMEM: as
  // many groups, or queue pairs of one, as there may be, or the network has no
  // room for it.
  int AttachToGroup(QueuePair& qp, const Gid& group);
  // EINVAL: it is not attached.
  int DetachFromGroup(QueuePair& qp, const Gid& group);

  // ---- The communication manager, for whoever holds the lock.
  Lock& mutex() ABSL_LOCK_RETURNED(mutex_) { return mutex_; }
  CmManager& cm() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return cm_; }
  void set_cm_events(std::function<void(const CmEvent&)> take)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    take_cm_event_ = std::move(take);
  }
  // Sends the MADs and hands the events on.
  void Deliver(const CmOutput& output) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Network& network() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return *network_; }

  // Tells of events of the port and of the device until it is forgotten.
  void AddListener(AsyncEvents& events);
  void ForgetListener(AsyncEvents& events);
  bool port_up() const { return port_up_.load(); }
  // It is gone; what verbs ask of it fails, but for giving things back.
  bool removed() const { return removed_.load(); }
  // Called with the lock held when it goes.
  void set_on_removal(std::function<void()> call)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    on_removal_ = std::move(call);
  }

  // The application is about to wait for an event of this queue.
  void Arm(CompletionQueue& cq, bool solicited_only);

  // In a child of fork, where the device is of no use: lets go of what would
  // make peers take the child for its parent.
  void LeaveInChild() ABSL_NO_THREAD_SAFETY_ANALYSIS { network_.reset(); }

  // ---- For the engine's thread.
  // Does what there is to do; false: there was nothing.
  bool Progress() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // From now on arrivals make the network's descriptor readable: nobody polls.
  // False: something has come. The thread may sleep until rest_until().
  [[nodiscard]] bool Rest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<Instant> rest_until() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return rest_until_;
  }
  // Whether the application polled since this was last asked, and has not gone
  // to wait for an event.
  bool TakePolled() { return polled_.exchange(false); }
  // When the application last made progress itself, to some microseconds.
  Instant attended() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return attended_;
  }
  // How often it has looked for something to do by polling. Wraps around.
  uint32_t inline_looks() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return inline_looks_;
  }
  // The thread sleeps because the application polls; arrivals do not wake it.
  void set_napping(bool napping) { napping_.store(napping); }
  // An eventfd that only the thread reads: where it is told to look again. -1:
  // there is none.
  void set_wake_fd(int fd) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    wake_fd_ = fd;
  }

 private:
  // ArrivalSink
  void OnArrival(const Arrival& arrival) override
      ABSL_NO_THREAD_SAFETY_ANALYSIS;
  ABSL_ATTRIBUTE_COLD void OnPeerGone(uint32_t slot) override
      ABSL_NO_THREAD_SAFETY_ANALYSIS;
  bool has_enough() const override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  size_t Receive(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ABSL_ATTRIBUTE_NOINLINE void OnGroupArrival(const Arrival& arrival)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ABSL_ATTRIBUTE_COLD void OnMad(const Arrival& arrival)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void ForgetRegion(uint32_t key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  QueuePair* Find(Qpn qpn) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Detach(QueuePair& qp, const Gid& group)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void ForgetCompletions(const QueuePair& qp);
  ABSL_ATTRIBUTE_COLD void SendMad(const CmDatagram& datagram)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Enqueue(QueuePair& qp) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Lets the queue pairs send what they have.
  void Pump(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What is to become of it after it has sent that much.
  void Requeue(QueuePair& qp, SendOutcome sent)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendRequests(QueuePair& qp) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RetryStarved() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetTimer(QueuePair& qp) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Before packets are received and after.
  void MarkForTimers(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool RunTimers(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool RunTimersOfQps(Instant due, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ABSL_ATTRIBUTE_COLD void TellListeners(ibv_event_type type);
  bool RunFaults(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ABSL_ATTRIBUTE_COLD void Remove() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Answers new requests for connections that are to be rejected.
  ABSL_ATTRIBUTE_COLD void RejectSome(Instant now, CmOutput& output)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<Instant> NextDeadline() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The engine's thread sleeps, and there is something to do for it or will be
  // before it wakes.
  void WakeForWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeEngine() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ProgressInline(CompletionQueue& cq, size_t wanted);
  void ReceiveInline(const CompletionQueue& cq)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Limits limits_;
  // Of its own: whoever asks for an address need not wait for progress.
  mutable Lock host_lock_;
  std::shared_ptr<const HostAddresses> host_ ABSL_GUARDED_BY(host_lock_);
  const ibv_mtu active_mtu_;
  const Clock& clock_;
  std::atomic<bool> polled_{false};
  std::atomic<bool> napping_{false};
  std::atomic<bool> port_up_{true};
  std::atomic<bool> removed_{false};

  // Of its own, and rarely held: a child of fork may close what it got from its
  // parent.
  Lock listeners_lock_;
  std::vector<AsyncEvents*> listeners_ ABSL_GUARDED_BY(listeners_lock_);

  Lock mutex_;
  std::unique_ptr<Network> network_ ABSL_GUARDED_BY(mutex_);
  CmManager cm_ ABSL_GUARDED_BY(mutex_);
  std::function<void(const CmEvent&)> take_cm_event_ ABSL_GUARDED_BY(mutex_);
  FaultPlan* const faults_ ABSL_PT_GUARDED_BY(mutex_);
  std::function<void()> on_removal_ ABSL_GUARDED_BY(mutex_);
  MemoryTable memory_ ABSL_GUARDED_BY(mutex_);
  uint32_t last_pd_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t pds_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t cqs_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t srqs_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t qp_count_ ABSL_GUARDED_BY(mutex_) = 0;
  // By the lower bits of their numbers.
  std::vector<std::unique_ptr<QueuePair>> qps_ ABSL_GUARDED_BY(mutex_);
  uint32_t last_qp_index_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<QueuePair*> all_qps_ ABSL_GUARDED_BY(mutex_);
  // Multicast groups that queue pairs are attached to, none of them empty.
  std::map<Gid, std::vector<QueuePair*>> groups_ ABSL_GUARDED_BY(mutex_);
  uint32_t inline_looks_ ABSL_GUARDED_BY(mutex_) = 0;
  // While a poll makes progress: of which queue, and for how many completions.
  const CompletionQueue* polling_ ABSL_GUARDED_BY(mutex_) = nullptr;
  size_t wanted_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t arrived_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of payload, in a call
  Instant now_ ABSL_GUARDED_BY(mutex_){};  // while packets are received
  Instant attended_ ABSL_GUARDED_BY(mutex_){};
  // Those that have something to send; those that found no room at all, and
  // those that found too little.
  std::vector<QueuePair*> ready_ ABSL_GUARDED_BY(mutex_);
  std::vector<QueuePair*> starved_ ABSL_GUARDED_BY(mutex_);
  std::vector<QueuePair*> cut_short_ ABSL_GUARDED_BY(mutex_);
  std::vector<QueuePair*> turn_ ABSL_GUARDED_BY(mutex_);
  bool has_more_ ABSL_GUARDED_BY(mutex_) = false;  // who has had a turn
  DeadlineQueue<uint32_t> timers_ ABSL_GUARDED_BY(mutex_);  // by index
  // Timers that are due by then run out once the network has passed its mark.
  std::optional<Instant> marked_ ABSL_GUARDED_BY(mutex_);
  Psn mad_psn_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_loan_ ABSL_GUARDED_BY(mutex_);
  int wake_fd_ ABSL_GUARDED_BY(mutex_) = -1;
  // The engine's thread sleeps, until then or something comes.
  bool resting_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Instant> rest_until_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_DEVICE_H_
