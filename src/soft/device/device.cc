#include "soft/device/device.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "base/lock.h"
#include "soft/rc/segments.h"

namespace nd::soft {
namespace {

constexpr uint32_t kIndexMask = (1u << kQpnIndexBits) - 1;
// IPv6, UDP, BTH with the longest extension, ICRC: what a packet needs beside
// its payload (as Linux's rxe counts it).
constexpr uint32_t kHeaderBytes = 80;
// What is copied in less than a microsecond or two.
constexpr size_t kMuch = size_t{8} << 10;
// Packets in flight to a peer of this host: rings have their own bound.
constexpr uint32_t kWindowWithinHost = 64;
// What is taken before something is sent: less than a ring.
constexpr size_t kMuchToTake = size_t{60} << 10;
// Values of a LoanWord between those with which two queue pairs begin.
constexpr uint64_t kLoansOfOne = uint64_t{1} << 32;
// Polls of a CQ that stays empty while there is something to do.
constexpr int kInlineRounds = 4;
// Of so many looks that a polling thread takes, one looks at everything.
constexpr uint32_t kInlineLooks = 512;

ibv_mtu LargestMtu(uint32_t link_bytes) {
  for (const ibv_mtu mtu :
       {IBV_MTU_4096, IBV_MTU_2048, IBV_MTU_1024, IBV_MTU_512}) {
    if ((128u << mtu) + kHeaderBytes <= link_bytes) return mtu;
  }
  return IBV_MTU_256;
}

// Of an enumerator that an application gave, which may be none.
template <typename Enum>
uint32_t NumberOf(const Enum& given) {
  uint32_t number = 0;
  static_assert(sizeof(number) == sizeof(given));
  std::memcpy(&number, &given, sizeof(number));
  return number;
}

absl::Status TooMany(absl::string_view what, uint32_t limit) {
  return absl::ResourceExhaustedError(
      absl::StrCat("the device has at most ", limit, " ", what));
}

absl::Status Gone() { return absl::UnavailableError("the device was removed"); }

}  // namespace

Device::Device(const Options& options, std::unique_ptr<Network> network,
               const Clock& clock, Random& random)
    : limits_(options.limits),
      host_(std::make_shared<const HostAddresses>(options.host)),
      active_mtu_(LargestMtu(options.host.mtu_bytes)),
      clock_(clock),
      network_(std::move(network)),
      cm_({.device = {.guid = options.host.guid,
                      .gids = options.host.addresses(),
                      .max_path_mtu = static_cast<uint8_t>(IBV_MTU_4096),
                      .max_responder_resources =
                          static_cast<uint8_t>(options.limits.max_rd_atomic),
                      .max_initiator_depth =
                          static_cast<uint8_t>(options.limits.max_rd_atomic)},
           .comm_ids = {.first = network_->slot() << kCommIdIndexBits,
                        .bits = kCommIdIndexBits}},
          random),
      faults_(options.faults),
      memory_(options.limits.max_regions),
      qps_(size_t{1} << kQpnIndexBits),
      last_qp_index_(static_cast<uint32_t>(random.Below(kIndexMask))),
      mad_psn_(static_cast<uint32_t>(random.Next())),
      next_loan_(random.Next()) {}

std::optional<int> Device::GidIndex(const Gid& gid) const {
  const auto table = host();
  const auto found = std::ranges::find(table->gids, gid, &GidEntry::gid);
  if (gid == Gid{} || found == table->gids.end()) return std::nullopt;
  return static_cast<int>(found - table->gids.begin());
}

std::shared_ptr<const HostAddresses> Device::host() const {
  Holding lock(host_lock_);
  return host_;
}

void Device::SetAddresses(const HostAddresses& host) {
  Holding lock(mutex_);
  const auto before = this->host();
  auto updated = std::make_shared<const HostAddresses>(Updated(*before, host));
  if (updated->gids == before->gids) return;
  network_->SetLocalGids(updated->addresses());
  cm_.set_gids(updated->addresses());
  {
    Holding host_lock(host_lock_);
    host_ = std::move(updated);
  }
  if (!removed()) TellListeners(IBV_EVENT_GID_CHANGE);
}

std::optional<Path> Device::PathOf(const ibv_ah_attr& attr) const {
  const auto table = host();
  if (attr.is_global == 0 || attr.grh.sgid_index >= table->gids.size() ||
      table->gids[attr.grh.sgid_index].gid == Gid{} || attr.port_num != 1) {
    return std::nullopt;
  }
  Path path{.source = table->gids[attr.grh.sgid_index].gid,
            .flow_label = attr.grh.flow_label,
            .traffic_class = attr.grh.traffic_class,
            .hop_limit = attr.grh.hop_limit};
  std::ranges::copy(attr.grh.dgid.raw, path.destination.begin());
  if (IsIpv4(path.source) != IsIpv4(path.destination)) return std::nullopt;
  return path;
}

// ---- Objects.

absl::StatusOr<PdId> Device::AllocatePd() {
  if (removed()) return Gone();
  Holding lock(mutex_);
  if (pds_ >= limits_.max_pds) {
    return TooMany("protection domains", limits_.max_pds);
  }
  ++pds_;
  return PdId(++last_pd_);
}

void Device::FreePd() {
  Holding lock(mutex_);
  --pds_;
}

absl::StatusOr<uint32_t> Device::RegisterMemory(
    const MemoryTable::RegionOptions& options) {
  if (removed()) return Gone();
  Holding lock(mutex_);
  return memory_.AddRegion(options);
}

absl::Status Device::ChangeMemory(uint32_t key,
                                  const MemoryTable::RegionChange& change) {
  Holding lock(mutex_);
  absl::Status changed = memory_.ChangeRegion(key, change);
  if (changed.ok() && (change.range || change.pd)) ForgetRegion(key);
  return changed;
}

absl::Status Device::DeregisterMemory(uint32_t key) {
  Holding lock(mutex_);
  absl::Status removed = memory_.RemoveRegion(key);
  if (removed.ok()) ForgetRegion(key);
  return removed;
}

// Works are checked when they are posted, so that packets need no look-up; the
// price is paid here.
void Device::ForgetRegion(uint32_t key) {
  for (QueuePair* const qp : all_qps_) qp->ForgetRegion(key);
}

absl::StatusOr<uint32_t> Device::AllocateWindow(PdId pd, ibv_mw_type type) {
  Holding lock(mutex_);
  return memory_.AddWindow(pd, type);
}

void Device::FreeWindow(uint32_t key) {
  Holding lock(mutex_);
  memory_.RemoveWindow(key);
}

absl::StatusOr<std::unique_ptr<CompletionQueue>> Device::CreateCq(
    uint32_t capacity, CompletionChannel* channel, void* owner) {
  if (removed()) return Gone();
  if (capacity == 0 || capacity > limits_.max_cqes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a completion queue of ", capacity, " entries, not 1 to ",
                     limits_.max_cqes));
  }
  Holding lock(mutex_);
  if (cqs_ >= limits_.max_cqs) {
    return TooMany("completion queues", limits_.max_cqs);
  }
  ++cqs_;
  return std::make_unique<CompletionQueue>(capacity, channel, owner);
}

void Device::DestroyCq(std::unique_ptr<CompletionQueue>) {
  Holding lock(mutex_);
  --cqs_;
}

bool Device::ResizeCq(CompletionQueue& cq, uint32_t capacity) {
  Holding lock(mutex_);
  return cq.Resize(capacity);
}

absl::StatusOr<std::unique_ptr<SharedReceiveQueue>> Device::CreateSrq(
    const SharedReceiveQueue::Options& options) {
  if (removed()) return Gone();
  if (!limits_.srqs) return absl::UnimplementedError("no SRQs");
  if (options.capacity == 0 || options.capacity > limits_.max_wrs ||
      options.max_sges > limits_.max_sges) {
    return absl::InvalidArgumentError(absl::StrCat(
        "an SRQ of ", options.capacity, " receives of ", options.max_sges,
        " elements, at most ", limits_.max_wrs, " of ", limits_.max_sges));
  }
  Holding lock(mutex_);
  if (srqs_ >= limits_.max_srqs) return TooMany("SRQs", limits_.max_srqs);
  ++srqs_;
  return std::make_unique<SharedReceiveQueue>(options);
}

void Device::DestroySrq(std::unique_ptr<SharedReceiveQueue>) {
  Holding lock(mutex_);
  --srqs_;
}

int Device::PostSrqReceive(SharedReceiveQueue& srq, ibv_recv_wr* wr,
                           ibv_recv_wr** bad) {
  if (removed()) {
    *bad = wr;
    return EIO;
  }
  Holding lock(mutex_);
  for (; wr != nullptr; wr = wr->next) {
    const std::span sges(wr->sg_list, static_cast<size_t>(wr->num_sge));
    const bool too_many = sges.size() > srq.store().max_sges();
    if (too_many || !srq.Post(wr->wr_id, sges)) {
      *bad = wr;
      return too_many ? EINVAL : ENOMEM;
    }
  }
  return 0;
}

bool Device::ResizeSrq(SharedReceiveQueue& srq, size_t capacity) {
  Holding lock(mutex_);
  return srq.store().Resize(capacity);
}

void Device::SetSrqLimit(SharedReceiveQueue& srq, uint32_t limit) {
  Holding lock(mutex_);
  srq.set_limit(limit);
}

uint32_t Device::SrqLimit(SharedReceiveQueue& srq) {
  Holding lock(mutex_);
  return srq.limit();
}

// ---- Queue pairs.

QueuePair* Device::Find(Qpn qpn) {
  QueuePair* const qp = qps_[ToUint(qpn) & kIndexMask].get();
  return qp != nullptr && qp->number() == qpn ? qp : nullptr;
}

// Numbers are given out in turn: one that was in use is not met again soon.
absl::StatusOr<QueuePair*> Device::CreateQp(QueuePair::Options options) {
  if (removed()) return Gone();
  options.faults = faults_;
  Holding lock(mutex_);
  options.loan = next_loan_ += kLoansOfOne;
  if (qp_count_ >= limits_.max_qps) {
    return TooMany("queue pairs", limits_.max_qps);
  }
  for (uint32_t tried = 0; tried <= kIndexMask; ++tried) {
    last_qp_index_ = (last_qp_index_ + 1) & kIndexMask;
    options.number = Qpn(network_->slot() << kQpnIndexBits | last_qp_index_);
    if (qps_[last_qp_index_] == nullptr && !cm_.HoldsQpn(options.number) &&
        options.number != kMulticastQpn) {
      break;
    }
    if (tried == kIndexMask) {
      return absl::ResourceExhaustedError(
          "all queue pair numbers are in use or in timewait");
    }
  }
  ++qp_count_;
  auto& place = qps_[last_qp_index_];
  place = std::make_unique<QueuePair>(options, memory_);
  all_qps_.push_back(place.get());
  return place.get();
}

int Device::DestroyQp(QueuePair* qp) {
  Holding lock(mutex_);
  while (qp->groups > 0) {
    if (!removed()) return EBUSY;
    const auto in = std::ranges::find_if(groups_, [qp](const auto& group) {
      return std::ranges::find(group.second, qp) != group.second.end();
    });
    Detach(*qp, Gid(in->first));
  }
  // Its last acknowledgements may wait still.
  if (qp->queued) Pump(clock_.Now());
  const uint32_t index = ToUint(qp->number()) & kIndexMask;
  timers_.Set(index, std::nullopt);
  std::erase(all_qps_, qp);
  std::erase(ready_, qp);
  std::erase(starved_, qp);
  std::erase(cut_short_, qp);
  ForgetCompletions(*qp);
  qps_[index].reset();
  --qp_count_;
  return 0;
}

void Device::ForgetCompletions(const QueuePair& qp) {
  qp.options().send_cq->Forget(ToUint(qp.number()));
  qp.options().recv_cq->Forget(ToUint(qp.number()));
}

int Device::ModifyQp(QueuePair& qp, ibv_qp_type type, const ibv_qp_attr& attr,
                     int mask) {
  if (removed()) return EIO;
  Holding lock(mutex_);
  const ibv_qp_state from = qp.state();
  if ((mask & IBV_QP_CUR_STATE) != 0 && NumberOf(attr.cur_qp_state) != from) {
    return EINVAL;
  }
  if ((mask & IBV_QP_STATE) != 0 && NumberOf(attr.qp_state) > IBV_QPS_ERR) {
    return EINVAL;
  }
  const ibv_qp_state to = (mask & IBV_QP_STATE) != 0 ? attr.qp_state : from;
  if (!ModifyAllowed(type, from, to, mask)) return EINVAL;
  if ((mask & IBV_QP_PORT) != 0 && attr.port_num != 1) return EINVAL;
  if ((mask & IBV_QP_PKEY_INDEX) != 0 && attr.pkey_index != 0) return EINVAL;
  const uint32_t mtu = NumberOf(attr.path_mtu);
  if ((mask & IBV_QP_PATH_MTU) != 0 &&
      (mtu < IBV_MTU_256 || mtu > IBV_MTU_4096)) {
    return EINVAL;
  }
  if ((mask & IBV_QP_MAX_QP_RD_ATOMIC) != 0 &&
      attr.max_rd_atomic > limits_.max_rd_atomic) {
    return EINVAL;
  }
  if ((mask & IBV_QP_MAX_DEST_RD_ATOMIC) != 0 &&
      attr.max_dest_rd_atomic > limits_.max_rd_atomic) {
    return EINVAL;
  }
  std::optional<Path> path;
  if ((mask & IBV_QP_AV) != 0) {
    path = PathOf(attr.ah_attr);
    if (!path) return EINVAL;
    if (IsLocal(path->destination)) qp.set_window(kWindowWithinHost);
  }
  const int error = qp.Modify(attr, mask, path);
  // What came before belongs to a life of the queue pair that is over.
  if (error == 0 && to == IBV_QPS_RESET) ForgetCompletions(qp);
  if (error == 0) {
    Enqueue(qp);
    Pump(clock_.Now());
  }
  return error;
}

// What Linux checks of it (ib_attach_mcast), with rxe's answer where there is
// no room.
int Device::AttachToGroup(QueuePair& qp, const Gid& group) {
  if (removed()) return EIO;
  if (limits_.max_groups == 0) return EOPNOTSUPP;
  if (qp.options().transport != Transport::kUd || !IsMulticast(group)) {
    return EINVAL;
  }
  Holding lock(mutex_);
  const auto found = groups_.find(group);
  if (found == groups_.end()) {
    if (groups_.size() >= limits_.max_groups) return ENOMEM;
    if (!network_->JoinGroup(group).ok()) return ENOMEM;
    groups_[group].push_back(&qp);
    ++qp.groups;
    return 0;
  }
  std::vector<QueuePair*>& qps = found->second;
  if (std::ranges::find(qps, &qp) != qps.end()) return 0;
  if (qps.size() >= limits_.max_group_qps) return ENOMEM;
  qps.push_back(&qp);
  ++qp.groups;
  return 0;
}

int Device::DetachFromGroup(QueuePair& qp, const Gid& group) {
  if (removed()) return EIO;
  if (limits_.max_groups == 0) return EOPNOTSUPP;
  Holding lock(mutex_);
  return Detach(qp, group) ? 0 : EINVAL;
}

bool Device::Detach(QueuePair& qp, const Gid& group) {
  const auto found = groups_.find(group);
  if (found == groups_.end() || std::erase(found->second, &qp) == 0) {
    return false;
  }
  --qp.groups;
  if (found->second.empty()) {
    groups_.erase(found);
    network_->LeaveGroup(group);
  }
  return true;
}

void Device::QueryQp(QueuePair& qp, ibv_qp_attr& attr) {
  Holding lock(mutex_);
  qp.Query(attr);
}

ABSL_ATTRIBUTE_HOT int Device::PostSend(QueuePair& qp, ibv_send_wr* wr,
                                        ibv_send_wr** bad, size_t together) {
  if (removed()) [[unlikely]] {
    *bad = wr;
    return EIO;
  }
  Holding lock(mutex_);
  if (qp.send_room() < together) [[unlikely]] {
    *bad = wr;
    return ENOMEM;
  }
  int error = 0;
  for (; wr != nullptr; wr = wr->next) {
    error = qp.PostSend(*wr);
    if (error == 0) [[likely]]
      continue;
    *bad = wr;
    break;
  }
  if (polled_.load(std::memory_order_relaxed)) [[likely]] {
    SendRequests(qp);
  } else {
    Enqueue(qp);
    Pump(clock_.Now());
  }
  return error;
}

// Acknowledgements wait for the application's next poll.
void Device::SendRequests(QueuePair& qp) {
  const SendOutcome sent = qp.TransmitRequests(clock_.Now(), *network_);
  if (sent != SendOutcome::kAll) [[unlikely]] {
    Enqueue(qp);
    attended_ = clock_.Now();
  }
  network_->Flush();
  SetTimer(qp);
  WakeForWork();
}

int Device::PostReceive(QueuePair& qp, ibv_recv_wr* wr, ibv_recv_wr** bad) {
  if (removed()) [[unlikely]] {
    *bad = wr;
    return EIO;
  }
  Holding lock(mutex_);
  for (; wr != nullptr; wr = wr->next) {
    if (const int error = qp.PostReceive(*wr)) [[unlikely]] {
      *bad = wr;
      return error;
    }
  }
  return 0;
}

int Device::PostBind(QueuePair& qp, uint64_t wr_id, unsigned flags,
                     uint32_t window_key, uint32_t new_key,
                     const WindowBind& bind) {
  if (removed()) return EIO;
  Holding lock(mutex_);
  const int error = qp.PostBind(wr_id, flags, window_key, new_key, bind);
  Enqueue(qp);
  Pump(clock_.Now());
  return error;
}

// ---- Progress.

int Device::Poll(CompletionQueue& cq, std::span<ibv_wc> out) {
  if (cq.empty()) ProgressInline(cq, out.size());
  return cq.Poll(out);
}

// A thread that polls makes progress itself: peers need not wake the engine's
// thread, which looks now and then whether that is still so. One that has armed
// the queue looks for the last time before it sleeps, and leaves things as they
// are.
ABSL_ATTRIBUTE_HOT void Device::ProgressInline(CompletionQueue& cq,
                                               size_t wanted) {
  const bool last_look = cq.armed();
  if (!last_look) polled_.store(true, std::memory_order_relaxed);
  // Whoever has the lock makes progress already.
  if (!mutex_.TryAcquire()) return;
  polling_ = &cq;
  wanted_ = wanted;
  cq.BeginLook(last_look);
  const bool resting = std::exchange(resting_, false);
  const std::optional<Instant> sleeps_until = rest_until_;
  if (last_look || resting || ++inline_looks_ % kInlineLooks == 0) {
    for (int i = 0; i < kInlineRounds && cq.empty() && Progress(); ++i)
      continue;
    attended_ = now_;
  } else if (!ready_.empty() || !starved_.empty() || !cut_short_.empty() ||
             network_->MayHaveArrivals()) {
    ReceiveInline(cq);
  }
  if (resting) [[unlikely]] {
    // The thread sleeps on, if it will be awake when there is something to do.
    const bool in_time =
        last_look && Rest() &&
        (!rest_until_ || (sleeps_until && *sleeps_until <= *rest_until_));
    if (!in_time) WakeEngine();
    rest_until_ = sleeps_until;
  }
  polling_ = nullptr;
  mutex_.Release();
}

// What comes behind the completions that are polled for waits until they have
// been taken, and what comes behind much data until what is due is sent. Behind
// a message that was waited for there is mostly an acknowledgement only, which
// its answer need not wait for.
bool Device::has_enough() const {
  return arrived_bytes_ >= kMuchToTake ||
         (polling_ != nullptr &&
          (polling_->size() >= wanted_ || polling_->has_awaited_receive() ||
           (arrived_bytes_ >= kMuch && !polling_->empty())));
}

ABSL_ATTRIBUTE_HOT size_t Device::Receive(Instant now) {
  arrived_bytes_ = 0;
  return network_->Receive(now, *this);
}

// Acknowledgements of what came last, a receive that is complete or a WRITE
// that the application finds in its memory, wait for what the application says
// next: its answer, which they would delay, or its next look. If it says
// nothing, the engine's thread sends them after its nap.
ABSL_ATTRIBUTE_HOT void Device::ReceiveInline(const CompletionQueue& cq) {
  now_ = attended_ = clock_.Now();
  RetryStarved();
  Pump(now_);
  for (int i = 0; i < kInlineRounds && cq.empty(); ++i) {
    const bool any = network_->MayHaveArrivals();
    if (!any && !has_more_) break;
    if (i > 0) Pump(now_);
    if (any) Receive(now_);
  }
  // Much data takes longer than the engine's thread is patient.
  if (arrived_bytes_ >= kMuch || !ready_.empty()) attended_ = clock_.Now();
}

void Device::Arm(CompletionQueue& cq, bool solicited_only) {
  Holding lock(mutex_);
  cq.Arm(solicited_only);
  if (polled_.exchange(false) || napping_.load()) WakeEngine();
}

void Device::WakeEngine() {
  if (wake_fd_ >= 0) eventfd_write(wake_fd_, 1);
}

bool Device::Rest() {
  if (!ready_.empty() || !network_->Rest()) return false;
  resting_ = true;
  rest_until_ = NextDeadline();
  return true;
}

// What was sent within the process waits for somebody to take it.
ABSL_ATTRIBUTE_HOT void Device::WakeForWork() {
  if (!resting_) [[likely]]
    return;
  if (!ready_.empty() || !network_->Rest()) return WakeEngine();
  const auto next = NextDeadline();
  if (!next || (rest_until_ && *rest_until_ <= *next)) return;
  rest_until_ = next;
  WakeEngine();
}

ABSL_ATTRIBUTE_HOT bool Device::Progress() {
  resting_ = false;  // if it was the engine's thread that called
  const Instant now = now_ = clock_.Now();
  MarkForTimers(now);
  bool any = Receive(now) > 0;
  any |= RunTimers(now);
  if (faults_ != nullptr) [[unlikely]]
    any |= RunFaults(now);
  RetryStarved();
  Pump(now);
  return any || !ready_.empty();
}

// Who got nothing comes first, and last who took what room there was: one with
// much to send must not starve the others.
ABSL_ATTRIBUTE_HOT void Device::RetryStarved() {
  if (starved_.empty() && cut_short_.empty()) [[likely]]
    return;
  starved_.insert(starved_.end(), ready_.begin(), ready_.end());
  starved_.insert(starved_.end(), cut_short_.begin(), cut_short_.end());
  ready_.swap(starved_);
  starved_.clear();
  cut_short_.clear();
}

std::optional<Instant> Device::NextDeadline() {
  std::optional<Instant> next = network_->NextDeadline();
  const auto fault = faults_ != nullptr ? faults_->Next() : std::nullopt;
  for (const auto& other : {timers_.Next(), cm_.NextDeadline(), fault}) {
    if (other && (!next || *other < *next)) next = other;
  }
  return next;
}

void Device::Enqueue(QueuePair& qp) {
  if (qp.queued) return;
  qp.queued = true;
  ready_.push_back(&qp);
}

// A turn for each. What a queue pair has beyond its turn is for the next call:
// with all of a large message sent at once, what others send, and what comes,
// would wait for it here, and behind it in the ring to the peer.
ABSL_ATTRIBUTE_HOT void Device::Pump(Instant now) {
  has_more_ = false;
  if (ready_.empty()) return;
  turn_.swap(ready_);
  for (QueuePair* const qp : turn_) {
    qp->queued = false;
    Requeue(*qp, qp->Transmit(now, *network_));
  }
  network_->Flush();
  for (QueuePair* const qp : turn_) SetTimer(*qp);
  turn_.clear();
  WakeForWork();
}

ABSL_ATTRIBUTE_HOT void Device::Requeue(QueuePair& qp, SendOutcome sent) {
  switch (sent) {
    case SendOutcome::kAll:
      return;
    case SendOutcome::kTurn:
      has_more_ = true;
      return Enqueue(qp);
    case SendOutcome::kSome:
      cut_short_.push_back(&qp);
      break;
    case SendOutcome::kNothing:
      starved_.push_back(&qp);
      break;
  }
  qp.queued = true;
}

// A timer that is set too early looks again when it comes; so acknowledgements,
// each of which moves the deadline, cost nothing.
ABSL_ATTRIBUTE_HOT void Device::SetTimer(QueuePair& qp) {
  const auto deadline = qp.NextDeadline();
  if (!deadline || (qp.timer && *qp.timer <= *deadline)) return;
  qp.timer = deadline;
  timers_.Set(ToUint(qp.number()) & kIndexMask, deadline);
}

// A turn takes only so many packets, and whoever did not get a CPU for a while
// finds timers due and their answers unread: those come first.
void Device::MarkForTimers(Instant now) {
  if (marked_) return;
  for (const auto& due : {timers_.Next(), cm_.NextDeadline()}) {
    if (!due || *due > now) continue;
    network_->Mark();
    marked_ = now;
    return;
  }
}

bool Device::RunTimers(Instant now) {
  if (!marked_ || !network_->PassedMark()) [[likely]]
    return false;
  const Instant due = *std::exchange(marked_, std::nullopt);
  bool any = RunTimersOfQps(due, now);
  if (const auto next = cm_.NextDeadline(); next && *next <= due) {
    CmOutput output;
    cm_.Expire(now, output);
    Deliver(output);
    any = true;
  }
  return any;
}

bool Device::RunTimersOfQps(Instant due, Instant now) {
  bool any = false;
  while (const auto index = timers_.PopDue(due)) {
    QueuePair& qp = *qps_[*index];
    qp.timer.reset();
    const auto deadline = qp.NextDeadline();
    if (deadline && *deadline <= due) {
      qp.OnTimer(now);
      Enqueue(qp);
      any = true;
    } else {
      SetTimer(qp);
    }
  }
  return any;
}

// ---- Faults.

void Device::AddListener(AsyncEvents& events) {
  Holding lock(listeners_lock_);
  listeners_.push_back(&events);
}

void Device::ForgetListener(AsyncEvents& events) {
  Holding lock(listeners_lock_);
  std::erase(listeners_, &events);
}

bool Device::RunFaults(Instant now) {
  bool any = false;
  while (const auto event = faults_->TakeDue(now)) {
    any = true;
    if (removed()) continue;
    if (*event == IBV_EVENT_PORT_ERR) port_up_ = false;
    if (*event == IBV_EVENT_PORT_ACTIVE) port_up_ = true;
    if (*event == IBV_EVENT_DEVICE_FATAL) Remove();
    TellListeners(*event);
  }
  return any;
}

void Device::TellListeners(ibv_event_type type) {
  Holding lock(listeners_lock_);
  for (AsyncEvents* const events : listeners_) events->Push({.type = type});
}

// What is queued ends as flushed: nobody waits for ever.
void Device::Remove() {
  removed_ = true;
  port_up_ = false;
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_ERR;
  for (const auto& qp : qps_) {
    if (qp == nullptr || qp->state() == IBV_QPS_RESET) continue;
    qp->Modify(attr, IBV_QP_STATE, std::nullopt);
  }
  if (on_removal_) on_removal_();
}

void Device::RejectSome(Instant now, CmOutput& output) {
  FaultPlan* const faults = faults_;
  std::vector<CmHandle> rejected;
  std::erase_if(output.events, [&](const CmEvent& event) {
    if (event.type != CmEventType::kConnectRequest ||
        !faults->RejectConnection()) {
      return false;
    }
    rejected.push_back(event.handle);
    return true;
  });
  for (const CmHandle request : rejected) {
    cm_.RequestFetched(request);
    cm_.Reject(request, {}, now, output).IgnoreError();
    cm_.Destroy(request, now, output).IgnoreError();
  }
}

// Called from within network_->Receive, under the lock.
ABSL_ATTRIBUTE_HOT void Device::OnArrival(const Arrival& arrival) {
  arrived_bytes_ += arrival.packet.payload_bytes();
  if (arrival.packet.bth.destination == kGsiQpn) return OnMad(arrival);
  if (arrival.packet.bth.destination == kMulticastQpn) {
    return OnGroupArrival(arrival);
  }
  QueuePair* const qp = Find(arrival.packet.bth.destination);
  if (qp == nullptr) return;
  const bool heard = qp->heard();
  qp->OnArrival(arrival, now_);
  Enqueue(*qp);
  if (heard || !qp->heard()) return;
  CmOutput output;
  cm_.NotifyFirstPacket(qp->number(), now_, output);
  Deliver(output);
}

// Who sends to a group and is in it hears itself, unless it wants not to.
void Device::OnGroupArrival(const Arrival& arrival) {
  const auto group = groups_.find(arrival.path.destination);
  if (group == groups_.end()) return;
  const Qpn sender = arrival.packet.deth.source;
  const bool from_here = IsLocal(arrival.path.source);
  for (QueuePair* const qp : group->second) {
    if (qp->options().deaf_to_itself && from_here && qp->number() == sender) {
      continue;
    }
    qp->OnArrival(arrival, now_);
    Enqueue(*qp);
  }
}

void Device::OnPeerGone(uint32_t slot) {
  CmOutput output;
  cm_.HandleGonePeers(
      [this, slot](const Gid& address, CommId id) {
        return SlotOf(id) == slot && IsLocal(address);
      },
      clock_.Now(), output);
  Deliver(output);
}

// ---- QP1.

void Device::OnMad(const Arrival& arrival) {
  if (arrival.packet.bth.opcode != Opcode::kUdSendOnly ||
      arrival.packet.deth.qkey != kGsiQkey) {
    return;
  }
  auto mad = ParseCmMad(arrival.packet.payload);
  if (!mad) return;
  const Instant now = clock_.Now();
  CmOutput output;
  cm_.HandleMad({.source = arrival.path.source,
                 .destination = arrival.path.destination,
                 .mad = *mad},
                now, output);
  if (faults_ != nullptr) RejectSome(now, output);
  Deliver(output);
}

void Device::Deliver(const CmOutput& output) {
  for (const CmDatagram& datagram : output.datagrams) SendMad(datagram);
  if (!output.datagrams.empty()) network_->Flush();
  WakeForWork();
  if (!take_cm_event_) return;
  for (const CmEvent& event : output.events) take_cm_event_(event);
}

void Device::SendMad(const CmDatagram& datagram) {
  std::array<std::byte, kMadBytes> bytes;
  WriteCmMad(datagram.mad, bytes);
  const Segment segment(bytes);
  Outgoing outgoing;
  outgoing.packet.bth = {
      .opcode = Opcode::kUdSendOnly, .destination = kGsiQpn, .psn = mad_psn_};
  outgoing.packet.deth = {.qkey = kGsiQkey, .source = kGsiQpn};
  outgoing.payload = {.segments = {&segment, 1}, .length = bytes.size()};
  ++mad_psn_;
  const Path path{.source = datagram.source,
                  .destination = datagram.destination};
  // A message that finds no room is lost: the CM repeats it.
  if (network_->Room(path, kGsiQpn) > 0) network_->Send(path, outgoing);
}

}  // namespace nd::soft
