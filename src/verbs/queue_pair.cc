#include "verbs/queue_pair.h"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <thread>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "verbs/wr_id.h"

namespace nd::verbs {
namespace {

constexpr uint64_t kSendOps =
    IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM |
    IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM |
    IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
    IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD;
constexpr uint64_t kWindowOps = IBV_QP_EX_WITH_SEND_WITH_INV |
                                IBV_QP_EX_WITH_BIND_MW |
                                IBV_QP_EX_WITH_LOCAL_INV;

constexpr uint32_t kAtomicSize = 8;
constexpr size_t kDrainBatch = 32;
constexpr auto kDrainNap = std::chrono::microseconds(100);

// What the send queue's opcodes are called, what they do, and what their
// completions say.
struct OpcodeFacts {
  const char* name = nullptr;  // null: not one that a QueuePair posts
  ibv_wc_opcode completion = IBV_WC_SEND;
  bool has_data = true;
  bool remote = false;   // names memory of the peer
  bool fetches = false;  // the data comes from the peer
  bool atomic = false;
};

constexpr auto kOpcodeFacts = [] {
  std::array<OpcodeFacts, IBV_WR_SEND_WITH_INV + 1> facts{};
  facts[IBV_WR_SEND] = {.name = "SEND"};
  facts[IBV_WR_SEND_WITH_IMM] = {.name = "SEND with immediate"};
  facts[IBV_WR_SEND_WITH_INV] = {.name = "SEND with invalidate"};
  facts[IBV_WR_RDMA_WRITE] = {
      .name = "RDMA WRITE", .completion = IBV_WC_RDMA_WRITE, .remote = true};
  facts[IBV_WR_RDMA_WRITE_WITH_IMM] = {.name = "RDMA WRITE with immediate",
                                       .completion = IBV_WC_RDMA_WRITE,
                                       .remote = true};
  facts[IBV_WR_RDMA_READ] = {.name = "RDMA READ",
                             .completion = IBV_WC_RDMA_READ,
                             .remote = true,
                             .fetches = true};
  facts[IBV_WR_ATOMIC_CMP_AND_SWP] = {.name = "COMPARE_SWAP",
                                      .completion = IBV_WC_COMP_SWAP,
                                      .remote = true,
                                      .fetches = true,
                                      .atomic = true};
  facts[IBV_WR_ATOMIC_FETCH_AND_ADD] = {.name = "FETCH_ADD",
                                        .completion = IBV_WC_FETCH_ADD,
                                        .remote = true,
                                        .fetches = true,
                                        .atomic = true};
  facts[IBV_WR_BIND_MW] = {.name = "memory-window bind",
                           .completion = IBV_WC_BIND_MW,
                           .has_data = false};
  facts[IBV_WR_LOCAL_INV] = {.name = "local invalidate",
                             .completion = IBV_WC_LOCAL_INV,
                             .has_data = false};
  return facts;
}();
constexpr OpcodeFacts kNoFacts;

const OpcodeFacts& FactsOf(ibv_wr_opcode opcode) {
  return opcode < kOpcodeFacts.size() ? kOpcodeFacts[opcode] : kNoFacts;
}

uint64_t TotalLength(std::span<const ibv_sge> sges) {
  if (sges.size() == 1) [[likely]]
    return sges.front().length;
  uint64_t length = 0;
  for (const ibv_sge& sge : sges) length += sge.length;
  return length;
}

// The builders of one request by the ibv_wr_* calls.
void BuildOperation(ibv_qp_ex* qp, const SendRequest& r) {
  switch (r.opcode) {
    case IBV_WR_SEND:
      return ibv_wr_send(qp);
    case IBV_WR_SEND_WITH_IMM:
      return ibv_wr_send_imm(qp, htonl(r.imm_data));
    case IBV_WR_SEND_WITH_INV:
      return ibv_wr_send_inv(qp, r.invalidate_rkey);
    case IBV_WR_RDMA_WRITE:
      return ibv_wr_rdma_write(qp, r.rkey, r.remote_addr);
    case IBV_WR_RDMA_WRITE_WITH_IMM:
      return ibv_wr_rdma_write_imm(qp, r.rkey, r.remote_addr,
                                   htonl(r.imm_data));
    case IBV_WR_RDMA_READ:
      return ibv_wr_rdma_read(qp, r.rkey, r.remote_addr);
    case IBV_WR_ATOMIC_CMP_AND_SWP:
      return ibv_wr_atomic_cmp_swp(qp, r.rkey, r.remote_addr, r.compare_add,
                                   r.swap);
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
      return ibv_wr_atomic_fetch_add(qp, r.rkey, r.remote_addr, r.compare_add);
    case IBV_WR_BIND_MW:
      return ibv_wr_bind_mw(qp, r.window->get(), r.rkey, &r.bind);
    case IBV_WR_LOCAL_INV:
      return ibv_wr_local_inv(qp, r.invalidate_rkey);
    default:
      return;
  }
}

// The operation's fields of one request as an ibv_send_wr.
void FillOperation(const SendRequest& r, ibv_send_wr& wr) {
  wr.opcode = r.opcode;
  switch (r.opcode) {
    case IBV_WR_SEND_WITH_INV:
    case IBV_WR_LOCAL_INV:
      wr.invalidate_rkey = r.invalidate_rkey;
      return;
    case IBV_WR_SEND_WITH_IMM:
      wr.imm_data = htonl(r.imm_data);
      return;
    case IBV_WR_RDMA_WRITE_WITH_IMM:
      wr.imm_data = htonl(r.imm_data);
      [[fallthrough]];
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_READ:
      wr.wr.rdma = {.remote_addr = r.remote_addr, .rkey = r.rkey};
      return;
    case IBV_WR_ATOMIC_CMP_AND_SWP:
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
      wr.wr.atomic = {.remote_addr = r.remote_addr,
                      .compare_add = r.compare_add,
                      .swap = r.swap,
                      .rkey = r.rkey};
      return;
    case IBV_WR_BIND_MW:
      wr.bind_mw = {.mw = r.window->get(), .rkey = r.rkey, .bind_info = r.bind};
      return;
    default:
      return;
  }
}

ibv_recv_wr ReceiveWr(uint64_t wr_id, std::span<const ibv_sge> sges) {
  return {.wr_id = wr_id,
          .next = nullptr,
          .sg_list = const_cast<ibv_sge*>(sges.data()),
          .num_sge = static_cast<int>(sges.size())};
}

ibv_qp* CreateQp(const ProtectionDomain& pd, const QueuePair::Options& options,
                 ibv_qp_cap& cap, bool by_wr_api) {
  ibv_qp_init_attr_ex attr{};
  attr.send_cq = options.send_cq->get();
  attr.recv_cq = options.recv_cq->get();
  attr.srq = options.srq != nullptr ? options.srq->get() : nullptr;
  attr.cap = cap;
  attr.qp_type = IBV_QPT_RC;
  attr.comp_mask = IBV_QP_INIT_ATTR_PD;
  attr.pd = pd.get();
  if (by_wr_api) {
    attr.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    attr.send_ops_flags =
        kSendOps | (options.with_mw_and_invalidate ? kWindowOps : 0);
  }
  ibv_qp* qp = ibv_create_qp_ex(pd.context()->get(), &attr);
  if (qp != nullptr) cap = attr.cap;
  return qp;
}

// By the device, from several elements: with ibv_wr_set_sge_list, rxe's
// provider in rdma-core 44 takes each for as long as the first one.
// ibv_post_send adds them up.
bool IsGathered(const SendRequest& request) {
  return request.sges.size() > 1 && (request.flags & IBV_SEND_INLINE) == 0;
}

}  // namespace

const char* QpStateName(ibv_qp_state state) {
  switch (state) {
    case IBV_QPS_RESET:
      return "RESET";
    case IBV_QPS_INIT:
      return "INIT";
    case IBV_QPS_RTR:
      return "RTR";
    case IBV_QPS_RTS:
      return "RTS";
    case IBV_QPS_SQD:
      return "SQD";
    case IBV_QPS_SQE:
      return "SQE";
    case IBV_QPS_ERR:
      return "ERR";
    default:
      return "an unknown state";
  }
}

absl::StatusOr<std::shared_ptr<SharedReceiveQueue>> SharedReceiveQueue::Create(
    std::shared_ptr<ProtectionDomain> pd, const Options& options) {
  ibv_srq_init_attr attr{};
  attr.attr.max_wr = options.max_wr;
  attr.attr.max_sge = options.max_sge;
  ibv_srq* srq = ibv_create_srq(pd->get(), &attr);
  if (srq == nullptr) {
    return ErrnoStatus(
        errno, absl::StrCat("ibv_create_srq of ", options.max_wr,
                            " receives of ", options.max_sge,
                            " elements, device ", pd->context()->name()));
  }
  return std::shared_ptr<SharedReceiveQueue>(
      new SharedReceiveQueue(std::move(pd), srq));
}

SharedReceiveQueue::SharedReceiveQueue(std::shared_ptr<ProtectionDomain> pd,
                                       ibv_srq* srq)
    : pd_(std::move(pd)), srq_(srq) {}

SharedReceiveQueue::~SharedReceiveQueue() { ibv_destroy_srq(srq_); }

absl::Status SharedReceiveQueue::PostReceive(uint64_t wr_id,
                                             std::span<const ibv_sge> sges) {
  if (wr_id > kMaxSharedWrId) {
    return absl::InvalidArgumentError(
        "wr_id of a shared receive is 2^62 or more");
  }
  ibv_recv_wr wr = ReceiveWr(kSharedReceiveWrId | wr_id, sges);
  ibv_recv_wr* bad = nullptr;
  if (const int error = ibv_post_srq_recv(srq_, &wr, &bad)) {
    return ErrnoStatus(error, absl::StrCat("ibv_post_srq_recv, device ",
                                           pd_->context()->name()));
  }
  return absl::OkStatus();
}

absl::Status SharedReceiveQueue::SetLimit(uint32_t limit) {
  ibv_srq_attr attr{.max_wr = 0, .max_sge = 0, .srq_limit = limit};
  if (const int error = ibv_modify_srq(srq_, &attr, IBV_SRQ_LIMIT)) {
    return ErrnoStatus(
        error, absl::StrCat("ibv_modify_srq to limit ", limit, ", device ",
                            pd_->context()->name()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<QueuePair>> QueuePair::Create(
    std::shared_ptr<ProtectionDomain> pd, const Options& requested) {
  Options options = requested;
  if (options.recv_cq == nullptr) options.recv_cq = options.send_cq;
  options.max_send_wr = std::max(options.max_send_wr, 1u);
  // One place more than the application has: Drain's marker.
  ibv_qp_cap cap{
      .max_send_wr = options.max_send_wr + 1,
      .max_recv_wr = options.srq != nullptr ? 0 : options.max_recv_wr,
      .max_send_sge = options.max_send_sge,
      .max_recv_sge = options.srq != nullptr ? 0 : options.max_recv_sge,
      .max_inline_data = options.max_inline};
  ibv_qp* qp = CreateQp(*pd, options, cap, /*by_wr_api=*/true);
  const bool by_wr_api = qp != nullptr;
  if (qp == nullptr && (errno == EOPNOTSUPP || errno == ENOSYS)) {
    qp = CreateQp(*pd, options, cap, /*by_wr_api=*/false);
  }
  if (qp == nullptr) {
    return ErrnoStatus(
        errno, absl::StrCat("ibv_create_qp of ", cap.max_send_wr, " sends and ",
                            cap.max_recv_wr, " receives, ", cap.max_send_sge,
                            " elements, ", cap.max_inline_data,
                            " bytes inline, device ", pd->context()->name()));
  }
  std::unique_ptr<QueuePair> result(
      new QueuePair(std::move(pd), options, qp, cap));
  if (by_wr_api) result->qp_ex_ = ibv_qp_to_qp_ex(qp);
  return result;
}

QueuePair::QueuePair(std::shared_ptr<ProtectionDomain> pd,
                     const Options& options, ibv_qp* qp, const ibv_qp_cap& cap)
    : pd_(std::move(pd)),
      send_cq_(options.send_cq),
      recv_cq_(options.recv_cq),
      srq_(options.srq),
      qp_(qp),
      max_send_wr_(options.max_send_wr),
      max_recv_wr_(options.srq != nullptr ? 0 : options.max_recv_wr),
      max_send_sge_(cap.max_send_sge),
      max_inline_(cap.max_inline_data),
      // At least one request of a full queue must be signalled.
      max_unsignaled_(std::min(options.max_unsignaled != 0
                                   ? options.max_unsignaled
                                   : options.max_send_wr / 2,
                               options.max_send_wr - 1)),
      send_records_(std::bit_ceil(options.max_send_wr + 1)),
      recv_wr_ids_(std::bit_ceil(std::max(max_recv_wr_, 1u))),
      gathered_(max_inline_) {
  send_cq_->Register(this);
  if (recv_cq_ != send_cq_) recv_cq_->Register(this);
}

QueuePair::~QueuePair() {
  send_cq_->Unregister(this);
  if (recv_cq_ != send_cq_) recv_cq_->Unregister(this);
  ibv_destroy_qp(qp_);
}

absl::Status QueuePair::Modify(ibv_qp_attr& attr, int mask) {
  if (const int error = ibv_modify_qp(qp_, &attr, mask)) {
    const char* state = (mask & IBV_QP_STATE) != 0 ? QpStateName(attr.qp_state)
                                                   : "new attributes";
    return ErrnoStatus(
        error, absl::StrCat("ibv_modify_qp to ", state, ", ", ToString()));
  }
  return absl::OkStatus();
}

absl::Status QueuePair::ToInit(const Path& path) {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = path.port;
  attr.qp_access_flags = path.access;
  return Modify(attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
                          IBV_QP_ACCESS_FLAGS);
}

absl::Status QueuePair::ToRtr(const Path& path) {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RTR;
  attr.path_mtu = path.mtu;
  attr.dest_qp_num = path.remote_qpn;
  attr.rq_psn = path.remote_psn;
  attr.max_dest_rd_atomic = path.max_dest_rd_atomic;
  attr.min_rnr_timer = path.min_rnr_timer;
  attr.ah_attr.is_global = 1;
  attr.ah_attr.port_num = path.port;
  attr.ah_attr.sl = path.sl;
  attr.ah_attr.grh.sgid_index = static_cast<uint8_t>(path.gid_index);
  attr.ah_attr.grh.hop_limit = path.hop_limit;
  attr.ah_attr.grh.traffic_class = path.traffic_class;
  std::copy(path.remote_gid.begin(), path.remote_gid.end(),
            attr.ah_attr.grh.dgid.raw);
  return Modify(attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
                          IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                          IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
}

absl::Status QueuePair::ToRts(const Path& path) {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RTS;
  attr.sq_psn = path.local_psn;
  attr.max_rd_atomic = path.max_rd_atomic;
  attr.timeout = path.ack_timeout;
  attr.retry_cnt = path.retry_count;
  attr.rnr_retry = path.rnr_retry;
  return Modify(attr, IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC |
                          IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY);
}

absl::Status QueuePair::ToError() {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_ERR;
  return Modify(attr, IBV_QP_STATE);
}

absl::Status QueuePair::ToReset() {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RESET;
  ND_RETURN_IF_ERROR(Modify(attr, IBV_QP_STATE));
  send_tail_ = send_head_;
  recv_tail_ = recv_head_;
  unsignaled_ = 0;
  return absl::OkStatus();
}

absl::StatusOr<ibv_qp_attr> QueuePair::Query(int mask) const {
  ibv_qp_attr attr{};
  ibv_qp_init_attr init_attr{};
  if (const int error = ibv_query_qp(qp_, &attr, mask, &init_attr)) {
    return ErrnoStatus(error, absl::StrCat("ibv_query_qp, ", ToString()));
  }
  return attr;
}

// Null: the queue takes the request, whose elements sum up to `length`.
const char* QueuePair::Fault(const SendRequest& request,
                             uint64_t length) const {
  const OpcodeFacts& facts = FactsOf(request.opcode);
  if (facts.name == nullptr) return "not an opcode that a QueuePair posts";
  if (request.sges.size() > max_send_sge_) {
    return "more scatter/gather elements than the QP has";
  }
  if (length > UINT32_MAX) return "longer than 4 GiB";
  if ((request.flags & IBV_SEND_INLINE) != 0) {
    if (length > max_inline_) return "more inline data than the QP takes";
    if (facts.fetches) return "what it fetches cannot be inline";
  }
  if (facts.atomic &&
      (length != kAtomicSize || request.remote_addr % kAtomicSize != 0)) {
    return "an atomic is of 8 bytes at a multiple of 8";
  }
  if (request.opcode == IBV_WR_BIND_MW && request.window == nullptr) {
    return "no memory window given";
  }
  return nullptr;
}

absl::Status QueuePair::Refuse(const SendRequest& request, uint64_t length,
                               const char* fault) const {
  const OpcodeFacts& facts = FactsOf(request.opcode);
  return absl::InvalidArgumentError(absl::StrCat(
      facts.name != nullptr
          ? facts.name
          : absl::StrCat("opcode ", static_cast<int>(request.opcode)),
      " of ", length, " bytes in ", request.sges.size(), " elements on ",
      ToString(), ": ", fault, " (elements ", max_send_sge_, ", inline ",
      max_inline_, ")"));
}

absl::Status QueuePair::DeviceRefused(int error, size_t posted,
                                      size_t wanted) const {
  return ErrnoStatus(
      error, absl::StrCat("posting to ", ToString(), ", ", posted, " of ",
                          wanted, " requests posted"));
}

ABSL_ATTRIBUTE_HOT absl::Status QueuePair::Post(
    std::span<const SendRequest> requests) {
  if (requests.size() > send_room()) [[unlikely]] {
    return absl::ResourceExhaustedError(
        absl::StrCat("the send queue of ", ToString(), " has place for ",
                     send_room(), " more requests, not ", requests.size()));
  }
  if (requests.empty()) return absl::OkStatus();
  const uint32_t old_head = send_head_, old_unsignaled = unsignaled_;
  uint32_t posted = 0;
  absl::Status status =
      qp_ex_ != nullptr && !std::ranges::any_of(requests, IsGathered)
          ? PostByWrApi(requests)
          : PostByList(requests, &posted);
  if (!status.ok()) [[unlikely]] {
    send_head_ = old_head + posted;
    if (posted == 0) unsignaled_ = old_unsignaled;
  }
  return status;
}

uint64_t QueuePair::Record(const SendRequest& request, uint32_t length,
                           unsigned* flags) {
  const uint32_t place = send_head_++;
  const bool wanted = (request.flags & IBV_SEND_SIGNALED) != 0;
  const bool signaled = wanted || unsignaled_ >= max_unsignaled_;
  unsignaled_ = signaled ? 0 : unsignaled_ + 1;
  *flags = request.flags | (signaled ? IBV_SEND_SIGNALED : 0);
  send_records_[place & (send_records_.size() - 1)] = {
      .wr_id = request.wr_id,
      .remote_addr = request.remote_addr,
      .rkey = request.rkey,
      .length = length,
      .opcode = request.opcode,
      .wanted = wanted};
  return place;
}

ABSL_ATTRIBUTE_HOT absl::Status QueuePair::PostByWrApi(
    std::span<const SendRequest> requests) {
  ibv_wr_start(qp_ex_);
  for (const SendRequest& request : requests) {
    const uint64_t length = TotalLength(request.sges);
    if (const char* fault = Fault(request, length)) [[unlikely]] {
      ibv_wr_abort(qp_ex_);
      return Refuse(request, length, fault);
    }
    unsigned flags = 0;
    qp_ex_->wr_id = Record(request, static_cast<uint32_t>(length), &flags);
    // The flag for inline data is redundant by the manual, but rxe's provider
    // goes by it.
    qp_ex_->wr_flags = flags;
    const bool has_data = FactsOf(request.opcode).has_data;
    BuildOperation(qp_ex_, request);
    if (!has_data) continue;
    if ((flags & IBV_SEND_INLINE) != 0) {
      SetInlineData(request.sges);
    } else if (request.sges.empty()) {
      ibv_wr_set_sge_list(qp_ex_, 0, nullptr);
    } else {
      const ibv_sge& sge = request.sges.front();
      ibv_wr_set_sge(qp_ex_, sge.lkey, sge.addr, sge.length);
    }
  }
  const int error = ibv_wr_complete(qp_ex_);
  if (error == 0) return absl::OkStatus();
  return DeviceRefused(error, 0, requests.size());
}

// Several elements are gathered here rather than by
// ibv_wr_set_inline_data_list: rxe's provider in rdma-core 44 sends such a list
// as an empty message.
void QueuePair::SetInlineData(std::span<const ibv_sge> sges) {
  if (sges.size() == 1) [[likely]] {
    return ibv_wr_set_inline_data(qp_ex_, reinterpret_cast<void*>(sges[0].addr),
                                  sges[0].length);
  }
  size_t length = 0;
  for (const ibv_sge& sge : sges) {
    std::memcpy(gathered_.data() + length,
                reinterpret_cast<const void*>(sge.addr), sge.length);
    length += sge.length;
  }
  ibv_wr_set_inline_data(qp_ex_, gathered_.data(), length);
}

absl::Status QueuePair::PostByList(std::span<const SendRequest> requests,
                                   uint32_t* posted) {
  wrs_.assign(requests.size(), ibv_send_wr{});
  for (size_t i = 0; i < requests.size(); ++i) {
    const SendRequest& request = requests[i];
    const uint64_t length = TotalLength(request.sges);
    if (const char* fault = Fault(request, length)) [[unlikely]] {
      return Refuse(request, length, fault);
    }
    ibv_send_wr& wr = wrs_[i];
    wr.wr_id = Record(request, static_cast<uint32_t>(length), &wr.send_flags);
    wr.next = i + 1 < requests.size() ? &wrs_[i + 1] : nullptr;
    wr.sg_list = const_cast<ibv_sge*>(request.sges.data());
    wr.num_sge = static_cast<int>(request.sges.size());
    FillOperation(request, wr);
  }
  ibv_send_wr* bad = nullptr;
  const int error = ibv_post_send(qp_, wrs_.data(), &bad);
  if (error == 0) return absl::OkStatus();
  *posted = static_cast<uint32_t>(bad - wrs_.data());
  return DeviceRefused(error, *posted, requests.size());
}

ABSL_ATTRIBUTE_HOT absl::Status QueuePair::PostReceive(
    uint64_t wr_id, std::span<const ibv_sge> sges) {
  if (receives_posted() >= max_recv_wr_) [[unlikely]] {
    return absl::ResourceExhaustedError(
        absl::StrCat("the receive queue of ", ToString(), " holds all its ",
                     max_recv_wr_, " receives"));
  }
  const uint32_t place = recv_head_;
  ibv_recv_wr wr = ReceiveWr(kReceiveWrId | place, sges);
  ibv_recv_wr* bad = nullptr;
  if (const int error = ibv_post_recv(qp_, &wr, &bad)) {
    return ErrnoStatus(error, absl::StrCat("ibv_post_recv, ", ToString()));
  }
  recv_wr_ids_[place & (recv_wr_ids_.size() - 1)] = wr_id;
  ++recv_head_;
  return absl::OkStatus();
}

absl::Status QueuePair::BindWindow(MemoryWindow& window,
                                   const ibv_mw_bind_info& bind,
                                   uint64_t wr_id) {
  if (send_room() == 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the send queue of ", ToString(), " is full"));
  }
  const uint32_t old_head = send_head_;
  const SendRequest request{
      .opcode = IBV_WR_BIND_MW, .flags = IBV_SEND_SIGNALED, .wr_id = wr_id};
  unsigned flags = 0;
  ibv_mw_bind mw_bind{.wr_id = Record(request, 0, &flags),
                      .send_flags = IBV_SEND_SIGNALED,
                      .bind_info = bind};
  if (const int error = ibv_bind_mw(qp_, window.get(), &mw_bind)) {
    send_head_ = old_head;
    return ErrnoStatus(error, absl::StrCat("ibv_bind_mw, ", ToString()));
  }
  return absl::OkStatus();
}

bool QueuePair::CompleteSend(uint32_t place, Completion& out) {
  // A completion of an older QP with this number is not one of ours.
  if (place - send_tail_ >= sends_out()) return false;
  const SendRecord& record = send_records_[place & (send_records_.size() - 1)];
  // Send completions come in order: one releases all places before it.
  send_tail_ = place + 1;
  out.place = place;
  out.wr_id = record.wr_id;
  out.opcode = FactsOf(record.opcode).completion;
  if (record.marker) return false;
  return record.wanted || !out.ok();
}

bool QueuePair::CompleteReceive(uint32_t place, Completion& out) {
  if (place - recv_tail_ >= receives_posted()) return false;
  recv_tail_ = place + 1;
  out.place = place;
  out.wr_id = recv_wr_ids_[place & (recv_wr_ids_.size() - 1)];
  if (!out.ok()) out.opcode = IBV_WC_RECV;
  return true;
}

// To a QP in ERR: comes back flushed behind all that was posted, also where the
// last requests were not signalled and had succeeded before.
absl::Status QueuePair::PostMarker() {
  if (sends_out() == 0) return absl::OkStatus();
  ibv_send_wr wr{};
  wr.wr_id = send_head_;
  wr.opcode = IBV_WR_SEND;
  wr.send_flags = IBV_SEND_SIGNALED;
  ibv_send_wr* bad = nullptr;
  if (const int error = ibv_post_send(qp_, &wr, &bad)) {
    return ErrnoStatus(error,
                       absl::StrCat("ibv_post_send of a drain, ", ToString()));
  }
  send_records_[send_head_++ & (send_records_.size() - 1)] = {.marker = true};
  return absl::OkStatus();
}

absl::Status QueuePair::StartDrain() {
  ND_RETURN_IF_ERROR(ToError());
  return PostMarker();
}

absl::Status QueuePair::Drain(const Deadline& deadline,
                              absl::FunctionRef<void(const Completion&)> sink) {
  ND_RETURN_IF_ERROR(StartDrain());
  while (!drained()) {
    size_t polled = 0;
    for (CompletionQueue* cq : {send_cq_.get(), recv_cq_.get()}) {
      Completion completions[kDrainBatch];
      ND_ASSIGN_OR_RETURN(const size_t count, cq->Poll(completions));
      for (const Completion& completion : std::span(completions, count)) {
        sink(completion);
      }
      polled += count;
    }
    if (polled > 0) continue;
    if (deadline.Passed()) {
      return absl::DeadlineExceededError(absl::StrCat(
          "draining ", ToString(), ": ", sends_out(), " sends and ",
          receives_posted(), " receives did not come back"));
    }
    std::this_thread::sleep_for(kDrainNap);
  }
  return absl::OkStatus();
}

std::string QueuePair::DescribeRequest(const Completion& completion) const {
  if (completion.is_receive()) return "receive";
  const SendRecord& record =
      send_records_[completion.place & (send_records_.size() - 1)];
  const OpcodeFacts facts = FactsOf(record.opcode);
  std::string text = absl::StrCat(facts.name, " of ", record.length, " bytes");
  if (facts.remote) {
    absl::StrAppend(&text, " at 0x", absl::Hex(record.remote_addr), ", rkey 0x",
                    absl::Hex(record.rkey));
  }
  return text;
}

std::string QueuePair::ToString() const {
  return absl::StrCat("qpn 0x", absl::Hex(qpn()), ", peer ", peer_);
}

}  // namespace nd::verbs
