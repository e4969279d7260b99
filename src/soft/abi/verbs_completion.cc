// Completion channels and queues, and asynchronous events.
#include <algorithm>
#include <cerrno>
#include <span>

#include "absl/base/attributes.h"
#include "soft/abi/forward.h"
#include "soft/abi/objects.h"

namespace nd::soft {
namespace {

// What ibv_create_cq_ex may ask for: what a completion here has.
constexpr uint64_t kServedWcFlags =
    IBV_WC_EX_WITH_BYTE_LEN | IBV_WC_EX_WITH_IMM | IBV_WC_EX_WITH_QP_NUM |
    IBV_WC_EX_WITH_SRC_QP | IBV_WC_EX_WITH_SLID | IBV_WC_EX_WITH_SL |
    IBV_WC_EX_WITH_DLID_PATH_BITS;
constexpr uint32_t kServedCqFlags =
    IBV_CREATE_CQ_ATTR_SINGLE_THREADED | IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN;

SoftCq* SoftOf(ibv_cq* cq) { return SoftCast<SoftCq>(cq); }
SoftCq* SoftOf(ibv_cq_ex* cq) { return SoftCast<SoftCq>(cq); }

// ---- ibv_cq_ex's polling.

int Next(ibv_cq_ex* cq) {
  SoftCq* const soft = SoftOf(cq);
  const int count =
      DeviceOf(cq->context).Poll(*soft->queue, {&soft->current, 1});
  if (count <= 0) return count < 0 ? EIO : ENOENT;
  cq->status = soft->current.status;
  cq->wr_id = soft->current.wr_id;
  return 0;
}

// The lock is kept until EndPoll, unless there is nothing.
int StartPoll(ibv_cq_ex* cq,
              ibv_poll_cq_attr* attr) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  if (attr->comp_mask != 0) return EINVAL;
  SoftCq* const soft = SoftOf(cq);
  soft->polling.Acquire();
  const int error = Next(cq);
  if (error != 0) soft->polling.Release();
  return error;
}

void EndPoll(ibv_cq_ex* cq) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  SoftOf(cq)->polling.Release();
}

const ibv_wc& Current(ibv_cq_ex* cq) { return SoftOf(cq)->current; }
ibv_wc_opcode ReadOpcode(ibv_cq_ex* cq) { return Current(cq).opcode; }
uint32_t ReadVendorErr(ibv_cq_ex* cq) { return Current(cq).vendor_err; }
uint32_t ReadByteLen(ibv_cq_ex* cq) { return Current(cq).byte_len; }
__be32 ReadImmData(ibv_cq_ex* cq) { return Current(cq).imm_data; }
uint32_t ReadQpNum(ibv_cq_ex* cq) { return Current(cq).qp_num; }
uint32_t ReadSrcQp(ibv_cq_ex* cq) { return Current(cq).src_qp; }
unsigned ReadWcFlags(ibv_cq_ex* cq) { return Current(cq).wc_flags; }
uint32_t ReadSlid(ibv_cq_ex* cq) { return Current(cq).slid; }
uint8_t ReadSl(ibv_cq_ex* cq) { return Current(cq).sl; }
uint8_t ReadDlidPathBits(ibv_cq_ex* cq) { return Current(cq).dlid_path_bits; }

SoftCq* MakeCq(ibv_context* context, uint32_t capacity, void* cq_context,
               ibv_comp_channel* channel) {
  auto soft = std::make_unique<SoftCq>();
  SoftChannel* const events =
      channel != nullptr ? SoftCast<SoftChannel>(channel) : nullptr;
  auto queue = DeviceOf(context).CreateCq(
      capacity, events != nullptr ? &events->events : nullptr, soft.get());
  if (!queue.ok()) {
    SetErrno(queue.status());
    return nullptr;
  }
  soft->queue = *std::move(queue);
  ibv_cq_ex& cq = soft->verbs;
  cq.context = context;
  cq.channel = channel;
  cq.cq_context = cq_context;
  cq.cqe = static_cast<int>(capacity);
  pthread_mutex_init(&cq.mutex, nullptr);
  pthread_cond_init(&cq.cond, nullptr);
  if (events != nullptr) {
    ++events->users;
    ++channel->refcnt;
  }
  return soft.release();
}

}  // namespace

ABSL_ATTRIBUTE_HOT int PollCq(ibv_cq* cq, int count, ibv_wc* wc) {
  return DeviceOf(cq->context)
      .Poll(*SoftOf(cq)->queue, {wc, static_cast<size_t>(std::max(count, 0))});
}

int RequestNotify(ibv_cq* cq, int solicited_only) {
  DeviceOf(cq->context).Arm(*SoftOf(cq)->queue, solicited_only != 0);
  return 0;
}

ibv_cq_ex* CreateCqEx(ibv_context* context, ibv_cq_init_attr_ex* attr) {
  const bool flags = (attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS) != 0;
  if ((attr->wc_flags & ~kServedWcFlags) != 0 ||
      (attr->comp_mask & ~uint32_t{IBV_CQ_INIT_ATTR_MASK_FLAGS}) != 0 ||
      (flags && (attr->flags & ~kServedCqFlags) != 0)) {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  if (attr->comp_vector >= static_cast<uint32_t>(context->num_comp_vectors)) {
    errno = EINVAL;
    return nullptr;
  }
  SoftCq* const soft =
      MakeCq(context, attr->cqe, attr->cq_context, attr->channel);
  if (soft == nullptr) return nullptr;
  ibv_cq_ex& cq = soft->verbs;
  cq.start_poll = StartPoll;
  cq.next_poll = Next;
  cq.end_poll = EndPoll;
  cq.read_opcode = ReadOpcode;
  cq.read_vendor_err = ReadVendorErr;
  cq.read_byte_len = ReadByteLen;
  cq.read_imm_data = ReadImmData;
  cq.read_qp_num = ReadQpNum;
  cq.read_src_qp = ReadSrcQp;
  cq.read_wc_flags = ReadWcFlags;
  cq.read_slid = ReadSlid;
  cq.read_sl = ReadSl;
  cq.read_dlid_path_bits = ReadDlidPathBits;
  return &cq;
}

namespace {

// Waits until the application has acknowledged all events that it took.
template <typename Taken>
void AwaitAcks(pthread_mutex_t& mutex, pthread_cond_t& cond,
               const uint32_t& completed, const Taken& taken) {
  pthread_mutex_lock(&mutex);
  while (completed != taken.load()) pthread_cond_wait(&cond, &mutex);
  pthread_mutex_unlock(&mutex);
}

void Acknowledge(pthread_mutex_t& mutex, pthread_cond_t& cond,
                 uint32_t& completed, uint32_t count) {
  pthread_mutex_lock(&mutex);
  completed += count;
  pthread_cond_broadcast(&cond);
  pthread_mutex_unlock(&mutex);
}

enum class ElementKind { kPort, kCq, kQp, kSrq };

ElementKind KindOf(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_CQ_ERR:
      return ElementKind::kCq;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      return ElementKind::kQp;
    case IBV_EVENT_SRQ_ERR:
    case IBV_EVENT_SRQ_LIMIT_REACHED:
      return ElementKind::kSrq;
    default:
      return ElementKind::kPort;
  }
}

void CountTaken(const AsyncEvent& event) {
  switch (KindOf(event.type)) {
    case ElementKind::kCq:
      ++static_cast<SoftCq*>(event.element)->async_taken;
      break;
    case ElementKind::kQp:
      ++static_cast<SoftQp*>(event.element)->async_taken;
      break;
    case ElementKind::kSrq:
      ++static_cast<SoftSrq*>(event.element)->async_taken;
      break;
    case ElementKind::kPort:
      break;
  }
}

// Those without an object of ours are nothing to us, a real device's work
// queue's among them.
bool IsOfSoft(const ibv_async_event& event) {
  switch (KindOf(event.event_type)) {
    case ElementKind::kCq:
      return IsSoft(event.element.cq->context);
    case ElementKind::kQp:
      return IsSoft(event.element.qp->context);
    case ElementKind::kSrq:
      return IsSoft(event.element.srq->context);
    case ElementKind::kPort:
      return false;
  }
  return false;
}

// An event of our port comes here too, with no real library perhaps.
void ForwardAck(ibv_async_event* event) {
  auto* const real =
      Real<decltype(ibv_ack_async_event)>("ibv_ack_async_event", "IBVERBS_1.1");
  if (real != nullptr) real(event);
}

}  // namespace

void SettleAsyncEvents(SoftQp& qp) {
  SoftContext::Of(qp.plain()->context)
      ->events->Withdraw(
          [&qp](const AsyncEvent& event) { return event.element == &qp; });
  AwaitAcks(qp.plain()->mutex, qp.plain()->cond, qp.plain()->events_completed,
            qp.async_taken);
}

void SettleAsyncEvents(SoftSrq& srq) {
  SoftContext::Of(srq.verbs.context)
      ->events->Withdraw(
          [&srq](const AsyncEvent& event) { return event.element == &srq; });
  AwaitAcks(srq.verbs.mutex, srq.verbs.cond, srq.verbs.events_completed,
            srq.async_taken);
}

}  // namespace nd::soft

using namespace nd::soft;  // NOLINT: what follows is C

extern "C" {

ibv_comp_channel* ibv_create_comp_channel(ibv_context* context) {
  if (!IsSoft(context)) {
    return ND_FORWARD(ibv_create_comp_channel, "1.0")(context);
  }
  auto fd = EventFd::Create();
  if (!fd.ok()) {
    SetErrno(fd.status());
    return nullptr;
  }
  auto* const channel = new SoftChannel(*std::move(fd));
  channel->verbs = {
      .context = context, .fd = channel->events.fd(), .refcnt = 0};
  return &channel->verbs;
}

int ibv_destroy_comp_channel(ibv_comp_channel* channel) {
  if (!IsSoft(channel->context)) {
    return ND_FORWARD(ibv_destroy_comp_channel, "1.0")(channel);
  }
  SoftChannel* const soft = SoftCast<SoftChannel>(channel);
  if (soft->users != 0) return EBUSY;
  delete soft;
  return 0;
}

ibv_cq* ibv_create_cq(ibv_context* context, int cqe, void* cq_context,
                      ibv_comp_channel* channel, int comp_vector) {
  if (!IsSoft(context)) {
    return ND_FORWARD(ibv_create_cq, "1.1")(context, cqe, cq_context, channel,
                                            comp_vector);
  }
  if (cqe <= 0 || comp_vector < 0 || comp_vector >= context->num_comp_vectors) {
    errno = EINVAL;
    return nullptr;
  }
  SoftCq* const cq =
      MakeCq(context, static_cast<uint32_t>(cqe), cq_context, channel);
  return cq == nullptr ? nullptr : cq->plain();
}

int ibv_resize_cq(ibv_cq* cq, int cqe) {
  if (!IsSoft(cq->context)) return ND_FORWARD(ibv_resize_cq, "1.1")(cq, cqe);
  if (cqe <= 0 ||
      static_cast<uint32_t>(cqe) > DeviceOf(cq->context).limits().max_cqes) {
    return EINVAL;
  }
  if (!DeviceOf(cq->context)
           .ResizeCq(*SoftOf(cq)->queue, static_cast<uint32_t>(cqe))) {
    return EINVAL;
  }
  cq->cqe = cqe;
  return 0;
}

int ibv_destroy_cq(ibv_cq* cq) {
  if (!IsSoft(cq->context)) return ND_FORWARD(ibv_destroy_cq, "1.1")(cq);
  SoftCq* const soft = SoftOf(cq);
  if (soft->users != 0) return EBUSY;
  if (cq->channel != nullptr) {
    SoftChannel* const channel = SoftCast<SoftChannel>(cq->channel);
    channel->events.Withdraw([soft](const CompletionQueue* each) {
      return each == soft->queue.get();
    });
    AwaitAcks(cq->mutex, cq->cond, cq->comp_events_completed,
              soft->events_taken);
    --channel->users;
    --cq->channel->refcnt;
  }
  SoftContext::Of(cq->context)
      ->events->Withdraw(
          [soft](const AsyncEvent& event) { return event.element == soft; });
  AwaitAcks(cq->mutex, cq->cond, cq->async_events_completed, soft->async_taken);
  DeviceOf(cq->context).DestroyCq(std::move(soft->queue));
  pthread_mutex_destroy(&cq->mutex);
  pthread_cond_destroy(&cq->cond);
  delete soft;
  return 0;
}

int ibv_get_cq_event(ibv_comp_channel* channel, ibv_cq** cq,
                     void** cq_context) {
  if (!IsSoft(channel->context)) {
    return ND_FORWARD(ibv_get_cq_event, "1.1")(channel, cq, cq_context);
  }
  const auto queue = SoftCast<SoftChannel>(channel)->events.Take(
      [](const CompletionQueue* taken) {
        ++static_cast<SoftCq*>(taken->owner())->events_taken;
      });
  if (!queue) return -1;
  *cq = static_cast<SoftCq*>((*queue)->owner())->plain();
  *cq_context = (*cq)->cq_context;
  return 0;
}

void ibv_ack_cq_events(ibv_cq* cq, unsigned count) {
  if (!IsSoft(cq->context)) {
    return ND_FORWARD(ibv_ack_cq_events, "1.1")(cq, count);
  }
  Acknowledge(cq->mutex, cq->cond, cq->comp_events_completed, count);
}

int ibv_get_async_event(ibv_context* context, ibv_async_event* event) {
  if (!IsSoft(context)) {
    return ND_FORWARD(ibv_get_async_event, "1.1")(context, event);
  }
  const auto taken = SoftContext::Of(context)->events->Take(CountTaken);
  if (!taken) return -1;
  event->event_type = taken->type;
  switch (KindOf(taken->type)) {
    case ElementKind::kCq:
      event->element.cq = static_cast<SoftCq*>(taken->element)->plain();
      break;
    case ElementKind::kQp:
      event->element.qp = static_cast<SoftQp*>(taken->element)->plain();
      break;
    case ElementKind::kSrq:
      event->element.srq = &static_cast<SoftSrq*>(taken->element)->verbs;
      break;
    case ElementKind::kPort:
      event->element.port_num = 1;
      break;
  }
  return 0;
}

void ibv_ack_async_event(ibv_async_event* event) {
  if (!IsOfSoft(*event)) return ForwardAck(event);
  switch (KindOf(event->event_type)) {
    case ElementKind::kCq: {
      ibv_cq* const cq = event->element.cq;
      return Acknowledge(cq->mutex, cq->cond, cq->async_events_completed, 1);
    }
    case ElementKind::kQp: {
      ibv_qp* const qp = event->element.qp;
      return Acknowledge(qp->mutex, qp->cond, qp->events_completed, 1);
    }
    case ElementKind::kSrq: {
      ibv_srq* const srq = event->element.srq;
      return Acknowledge(srq->mutex, srq->cond, srq->events_completed, 1);
    }
    case ElementKind::kPort:
      return;
  }
}

}  // extern "C"
