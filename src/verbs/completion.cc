#include "verbs/completion.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "verbs/explain.h"
#include "verbs/queue_pair.h"
#include "verbs/wr_id.h"

namespace nd::verbs {
namespace {

// Completions taken from the device in one call.
constexpr size_t kPollBatch = 16;

// Each acknowledgement takes the CQ's mutex, so they are made in batches.
constexpr unsigned kAckBatch = 64;

absl::StatusCode CodeOf(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_SUCCESS:
      return absl::StatusCode::kOk;
    case IBV_WC_WR_FLUSH_ERR:
      return absl::StatusCode::kAborted;
    case IBV_WC_RETRY_EXC_ERR:
    case IBV_WC_RNR_RETRY_EXC_ERR:
    case IBV_WC_RESP_TIMEOUT_ERR:
      return absl::StatusCode::kUnavailable;
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_LOC_ACCESS_ERR:
    case IBV_WC_LOC_PROT_ERR:
    case IBV_WC_MW_BIND_ERR:
      return absl::StatusCode::kPermissionDenied;
    case IBV_WC_LOC_LEN_ERR:
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_REM_INV_RD_REQ_ERR:
      return absl::StatusCode::kInvalidArgument;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

absl::Status Completion::ToStatus() const {
  if (ok()) return absl::OkStatus();
  const Explanation& why = Explain(status);
  std::string text = qp == nullptr ? std::string("receive of a QP that is gone")
                                   : absl::StrCat(qp->DescribeRequest(*this),
                                                  " on ", qp->ToString());
  absl::StrAppend(&text, ": ", why.name, " (", static_cast<int>(status),
                  "): ", why.meaning);
  if (vendor_err != 0) {
    absl::StrAppend(&text, " (vendor error 0x", absl::Hex(vendor_err), ")");
  }
  if (!why.cause.empty()) absl::StrAppend(&text, "; likely: ", why.cause);
  return absl::Status(CodeOf(status), text);
}

absl::StatusOr<std::shared_ptr<CompletionChannel>> CompletionChannel::Create(
    std::shared_ptr<Context> context) {
  ibv_comp_channel* raw = ibv_create_comp_channel(context->get());
  if (raw == nullptr) {
    return ErrnoStatus(errno, absl::StrCat("ibv_create_comp_channel, device ",
                                           context->name()));
  }
  std::shared_ptr<CompletionChannel> channel(
      new CompletionChannel(std::move(context), raw));
  ND_RETURN_IF_ERROR(SetNonBlocking(raw->fd));
  return channel;
}

CompletionChannel::CompletionChannel(std::shared_ptr<Context> context,
                                     ibv_comp_channel* channel)
    : context_(std::move(context)), channel_(channel) {}

CompletionChannel::~CompletionChannel() { ibv_destroy_comp_channel(channel_); }

absl::StatusOr<CompletionQueue*> CompletionChannel::TakeEvent() {
  ibv_cq* cq = nullptr;
  void* cq_context = nullptr;
  if (ibv_get_cq_event(channel_, &cq, &cq_context) != 0) {
    if (errno == EAGAIN || errno == EINTR) return nullptr;
    return ErrnoStatus(
        errno, absl::StrCat("ibv_get_cq_event, device ", context_->name()));
  }
  auto* const queue = static_cast<CompletionQueue*>(cq_context);
  queue->CountEvent();
  return queue;
}

absl::StatusOr<std::shared_ptr<CompletionQueue>> CompletionQueue::Create(
    std::shared_ptr<Context> context, int entries,
    std::shared_ptr<CompletionChannel> channel) {
  ibv_cq* cq = ibv_create_cq(context->get(), entries, nullptr,
                             channel != nullptr ? channel->get() : nullptr, 0);
  if (cq == nullptr) {
    return ErrnoStatus(
        errno, absl::StrCat("ibv_create_cq of ", entries, " entries, device ",
                            context->name(), " (which allows ",
                            context->limits().max_cqe, ")"));
  }
  return std::shared_ptr<CompletionQueue>(
      new CompletionQueue(std::move(context), std::move(channel), cq));
}

CompletionQueue::CompletionQueue(std::shared_ptr<Context> context,
                                 std::shared_ptr<CompletionChannel> channel,
                                 ibv_cq* cq)
    : context_(std::move(context)), channel_(std::move(channel)), cq_(cq) {
  cq_->cq_context = this;
}

CompletionQueue::~CompletionQueue() {
  // ibv_destroy_cq waits until every event that was read is acknowledged.
  if (unacked_events_ > 0) ibv_ack_cq_events(cq_, unacked_events_);
  ibv_destroy_cq(cq_);
}

ABSL_ATTRIBUTE_HOT absl::StatusOr<size_t> CompletionQueue::Poll(
    std::span<Completion> out) {
  size_t taken = 0;
  while (taken < out.size()) {
    ibv_wc wcs[kPollBatch];
    const size_t wanted = std::min(kPollBatch, out.size() - taken);
    const int polled = ibv_poll_cq(cq_, static_cast<int>(wanted), wcs);
    if (polled < 0) [[unlikely]]
      return PollFailed();
    for (int i = 0; i < polled; ++i) {
      if (Translate(wcs[i], out[taken])) ++taken;
    }
    if (static_cast<size_t>(polled) < wanted) break;
  }
  return taken;
}

absl::Status CompletionQueue::PollFailed() const {
  return ErrnoStatus(EIO,
                     absl::StrCat("ibv_poll_cq, device ", context_->name()));
}

bool CompletionQueue::Translate(const ibv_wc& wc, Completion& out) {
  QueuePair* qp = Find(wc.qp_num);
  out = {.qp = qp,
         .status = wc.status,
         .opcode = wc.opcode,
         .byte_len = wc.byte_len,
         .vendor_err = wc.vendor_err,
         .wc_flags = wc.wc_flags};
  if ((wc.wc_flags & IBV_WC_WITH_INV) != 0) {
    out.invalidated_rkey = wc.invalidated_rkey;
  } else {
    out.imm_data = ntohl(wc.imm_data);
  }
  if ((wc.wr_id & kReceiveWrId) == 0 && (wc.wr_id & kSharedReceiveWrId) != 0)
      [[unlikely]] {
    out.wr_id = wc.wr_id & kMaxSharedWrId;
    if (!out.ok()) out.opcode = IBV_WC_RECV;
    return true;
  }
  if (qp == nullptr) [[unlikely]] {
    ++stale_;
    return false;
  }
  const uint32_t place = static_cast<uint32_t>(wc.wr_id);
  return (wc.wr_id & kReceiveWrId) != 0 ? qp->CompleteReceive(place, out)
                                        : qp->CompleteSend(place, out);
}

QueuePair* CompletionQueue::Find(uint32_t qpn) {
  if (last_found_ != nullptr && last_found_->qpn() == qpn) [[likely]]
    return last_found_;
  const auto it = queue_pairs_.find(qpn);
  if (it == queue_pairs_.end()) return nullptr;
  return last_found_ = it->second;
}

void CompletionQueue::Register(QueuePair* qp) { queue_pairs_[qp->qpn()] = qp; }

void CompletionQueue::Unregister(const QueuePair* qp) {
  queue_pairs_.erase(qp->qpn());
  if (last_found_ == qp) last_found_ = nullptr;
}

absl::Status CompletionQueue::Arm(bool solicited_only) {
  if (const int error = ibv_req_notify_cq(cq_, solicited_only ? 1 : 0)) {
    return ErrnoStatus(
        error, absl::StrCat("ibv_req_notify_cq, device ", context_->name()));
  }
  return absl::OkStatus();
}

void CompletionQueue::CountEvent() {
  if (++unacked_events_ == kAckBatch) {
    ibv_ack_cq_events(cq_, unacked_events_);
    unacked_events_ = 0;
  }
}

absl::StatusOr<bool> CompletionQueue::TakeEvent() {
  ND_ASSIGN_OR_RETURN(const CompletionQueue* const queue,
                      channel_->TakeEvent());
  if (queue != nullptr && queue != this) {
    return absl::FailedPreconditionError(
        "the completion channel serves another completion queue too");
  }
  return queue != nullptr;
}

}  // namespace nd::verbs
