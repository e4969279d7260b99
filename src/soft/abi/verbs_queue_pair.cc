// Queue pairs and shared receive queues.
#include <algorithm>
#include <cerrno>

#include "absl/base/attributes.h"
#include "soft/abi/forward.h"
#include "soft/abi/objects.h"

namespace nd::soft {
namespace {

std::optional<Transport> TransportOf(ibv_qp_type type) {
  switch (type) {
    case IBV_QPT_RC:
      return Transport::kRc;
    case IBV_QPT_UC:
      return Transport::kUc;
    case IBV_QPT_UD:
      return Transport::kUd;
    default:
      return std::nullopt;
  }
}

bool WithinLimits(const ibv_qp_cap& cap, const Limits& limits) {
  return cap.max_send_wr <= limits.max_wrs &&
         cap.max_recv_wr <= limits.max_wrs &&
         cap.max_send_sge <= limits.max_sges &&
         cap.max_recv_sge <= limits.max_sges &&
         cap.max_inline_data <= limits.max_inline;
}

Gid GidOf(const ibv_gid& gid) {
  Gid copy;
  std::ranges::copy(gid.raw, copy.begin());
  return copy;
}

// errno says what is wrong.
SoftQp* MakeQp(ibv_pd* pd, ibv_qp_init_attr& attr,
               bool deaf_to_itself = false) {
  Device& device = DeviceOf(pd->context);
  const auto transport = TransportOf(attr.qp_type);
  if (!transport) {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  if (attr.send_cq == nullptr || attr.recv_cq == nullptr ||
      !WithinLimits(attr.cap, device.limits())) {
    errno = EINVAL;
    return nullptr;
  }
  SoftPd* const owner = SoftCast<SoftPd>(pd);
  SoftCq* const send_cq = SoftCast<SoftCq>(attr.send_cq);
  SoftCq* const recv_cq = SoftCast<SoftCq>(attr.recv_cq);
  SoftSrq* const srq =
      attr.srq != nullptr ? SoftCast<SoftSrq>(attr.srq) : nullptr;
  auto soft = std::make_unique<SoftQp>();
  if (srq != nullptr) attr.cap.max_recv_wr = attr.cap.max_recv_sge = 0;
  ibv_qp_cap cap = attr.cap;
  if (srq == nullptr && cap.max_recv_sge == 0) cap.max_recv_sge = 1;
  const auto queue = device.CreateQp(
      {.transport = *transport,
       .pd = owner->id,
       .send_cq = send_cq->queue.get(),
       .recv_cq = recv_cq->queue.get(),
       .srq = srq != nullptr ? srq->queue.get() : nullptr,
       .cap = cap,
       .signal_all = attr.sq_sig_all != 0,
       .deaf_to_itself = deaf_to_itself,
       .events = {SoftContext::Of(pd->context)->events.get(), soft.get()}});
  if (!queue.ok()) {
    SetErrno(queue.status());
    return nullptr;
  }
  ++owner->users;
  ++send_cq->users;
  ++recv_cq->users;
  if (srq != nullptr) ++srq->users;
  soft->queue = *queue;
  soft->init = attr;
  ibv_qp& qp = *soft->plain();
  qp.context = pd->context;
  qp.qp_context = attr.qp_context;
  qp.pd = pd;
  qp.send_cq = attr.send_cq;
  qp.recv_cq = attr.recv_cq;
  qp.srq = attr.srq;
  qp.handle = qp.qp_num = ToUint((*queue)->number());
  qp.state = IBV_QPS_RESET;
  qp.qp_type = attr.qp_type;
  pthread_mutex_init(&qp.mutex, nullptr);
  pthread_cond_init(&qp.cond, nullptr);
  SetUpBuilder(soft->verbs);
  return soft.release();
}

}  // namespace

int PostSend(ibv_qp* qp, ibv_send_wr* wr, ibv_send_wr** bad) {
  return DeviceOf(qp->context).PostSend(*SoftCast<SoftQp>(qp)->queue, wr, bad);
}

ABSL_ATTRIBUTE_HOT int PostReceive(ibv_qp* qp, ibv_recv_wr* wr,
                                   ibv_recv_wr** bad) {
  return DeviceOf(qp->context)
      .PostReceive(*SoftCast<SoftQp>(qp)->queue, wr, bad);
}

int PostSrqReceive(ibv_srq* srq, ibv_recv_wr* wr, ibv_recv_wr** bad) {
  return DeviceOf(srq->context)
      .PostSrqReceive(*SoftCast<SoftSrq>(srq)->queue, wr, bad);
}

ibv_qp* CreateQpEx(ibv_context* context, ibv_qp_init_attr_ex* attr) {
  constexpr uint32_t kServed = IBV_QP_INIT_ATTR_PD |
                               IBV_QP_INIT_ATTR_CREATE_FLAGS |
                               IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  constexpr uint64_t kServedOps =
      IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM |
      IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM |
      IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
      IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD | IBV_QP_EX_WITH_LOCAL_INV |
      IBV_QP_EX_WITH_BIND_MW | IBV_QP_EX_WITH_SEND_WITH_INV;
  const bool flags = (attr->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS) != 0;
  const bool ops = (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) != 0;
  const uint32_t create = flags ? attr->create_flags : 0;
  const bool deaf_to_itself = (create & IBV_QP_CREATE_BLOCK_SELF_MCAST_LB) != 0;
  if ((attr->comp_mask & ~kServed) != 0 ||
      (create & ~uint32_t{IBV_QP_CREATE_BLOCK_SELF_MCAST_LB}) != 0 ||
      (deaf_to_itself && (attr->qp_type != IBV_QPT_UD ||
                          DeviceOf(context).limits().max_groups == 0)) ||
      (ops && (attr->send_ops_flags & ~kServedOps) != 0)) {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  if ((attr->comp_mask & IBV_QP_INIT_ATTR_PD) == 0 || attr->pd == nullptr ||
      attr->pd->context != context) {
    errno = EINVAL;
    return nullptr;
  }
  ibv_qp_init_attr plain{.qp_context = attr->qp_context,
                         .send_cq = attr->send_cq,
                         .recv_cq = attr->recv_cq,
                         .srq = attr->srq,
                         .cap = attr->cap,
                         .qp_type = attr->qp_type,
                         .sq_sig_all = attr->sq_sig_all};
  SoftQp* const qp = MakeQp(attr->pd, plain, deaf_to_itself);
  if (qp == nullptr) return nullptr;
  attr->cap = plain.cap;
  return qp->plain();
}

ibv_srq* CreateSrqEx(ibv_context*, ibv_srq_init_attr_ex* attr) {
  const bool basic = (attr->comp_mask & IBV_SRQ_INIT_ATTR_TYPE) == 0 ||
                     attr->srq_type == IBV_SRQT_BASIC;
  if (!basic || (attr->comp_mask & IBV_SRQ_INIT_ATTR_PD) == 0) {
    errno = basic ? EINVAL : EOPNOTSUPP;
    return nullptr;
  }
  ibv_srq_init_attr plain{.srq_context = attr->srq_context, .attr = attr->attr};
  ibv_srq* const srq = ibv_create_srq(attr->pd, &plain);
  attr->attr = plain.attr;
  return srq;
}

}  // namespace nd::soft

using namespace nd::soft;  // NOLINT: what follows is C

extern "C" {

ibv_qp* ibv_create_qp(ibv_pd* pd, ibv_qp_init_attr* attr) {
  if (!IsSoft(pd->context)) return ND_FORWARD(ibv_create_qp, "1.1")(pd, attr);
  SoftQp* const qp = MakeQp(pd, *attr);
  return qp == nullptr ? nullptr : qp->plain();
}

ibv_qp_ex* ibv_qp_to_qp_ex(ibv_qp* qp) {
  if (!IsSoft(qp->context)) return ND_FORWARD(ibv_qp_to_qp_ex, "1.6")(qp);
  return &SoftCast<SoftQp>(qp)->verbs;
}

int ibv_modify_qp(ibv_qp* qp, ibv_qp_attr* attr, int mask) {
  if (!IsSoft(qp->context)) {
    return ND_FORWARD(ibv_modify_qp, "1.1")(qp, attr, mask);
  }
  const int error =
      DeviceOf(qp->context)
          .ModifyQp(*SoftCast<SoftQp>(qp)->queue, qp->qp_type, *attr, mask);
  if (error == 0 && (mask & IBV_QP_STATE) != 0) qp->state = attr->qp_state;
  return error;
}

int ibv_query_qp(ibv_qp* qp, ibv_qp_attr* attr, int mask,
                 ibv_qp_init_attr* init) {
  if (!IsSoft(qp->context)) {
    return ND_FORWARD(ibv_query_qp, "1.1")(qp, attr, mask, init);
  }
  SoftQp* const soft = SoftCast<SoftQp>(qp);
  DeviceOf(qp->context).QueryQp(*soft->queue, *attr);
  *init = soft->init;
  attr->cap = init->cap;
  qp->state = attr->qp_state;
  return 0;
}

int ibv_query_qp_data_in_order(ibv_qp* qp, ibv_wr_opcode opcode,
                               uint32_t flags) {
  if (!IsSoft(qp->context)) {
    return ND_FORWARD(ibv_query_qp_data_in_order, "1.14")(qp, opcode, flags);
  }
  return 0;
}

int ibv_destroy_qp(ibv_qp* qp) {
  if (!IsSoft(qp->context)) return ND_FORWARD(ibv_destroy_qp, "1.1")(qp);
  SoftQp* const soft = SoftCast<SoftQp>(qp);
  if (const int error = DeviceOf(qp->context).DestroyQp(soft->queue)) {
    return error;
  }
  SettleAsyncEvents(*soft);
  --SoftCast<SoftPd>(qp->pd)->users;
  --SoftCast<SoftCq>(qp->send_cq)->users;
  --SoftCast<SoftCq>(qp->recv_cq)->users;
  if (qp->srq != nullptr) --SoftCast<SoftSrq>(qp->srq)->users;
  pthread_mutex_destroy(&qp->mutex);
  pthread_cond_destroy(&qp->cond);
  delete soft;
  return 0;
}

int ibv_attach_mcast(ibv_qp* qp, const ibv_gid* gid, uint16_t lid) {
  if (!IsSoft(qp->context)) {
    return ND_FORWARD(ibv_attach_mcast, "1.1")(qp, gid, lid);
  }
  return DeviceOf(qp->context)
      .AttachToGroup(*SoftCast<SoftQp>(qp)->queue, GidOf(*gid));
}

int ibv_detach_mcast(ibv_qp* qp, const ibv_gid* gid, uint16_t lid) {
  if (!IsSoft(qp->context)) {
    return ND_FORWARD(ibv_detach_mcast, "1.1")(qp, gid, lid);
  }
  return DeviceOf(qp->context)
      .DetachFromGroup(*SoftCast<SoftQp>(qp)->queue, GidOf(*gid));
}

int ibv_query_ece(ibv_qp* qp, ibv_ece* ece) {
  if (!IsSoft(qp->context)) return ND_FORWARD(ibv_query_ece, "1.10")(qp, ece);
  return EOPNOTSUPP;
}

int ibv_set_ece(ibv_qp* qp, ibv_ece* ece) {
  if (!IsSoft(qp->context)) return ND_FORWARD(ibv_set_ece, "1.10")(qp, ece);
  return EOPNOTSUPP;
}

ibv_srq* ibv_create_srq(ibv_pd* pd, ibv_srq_init_attr* attr) {
  if (!IsSoft(pd->context)) return ND_FORWARD(ibv_create_srq, "1.1")(pd, attr);
  SoftPd* const owner = SoftCast<SoftPd>(pd);
  auto soft = std::make_unique<SoftSrq>();
  attr->attr.max_sge = std::max(attr->attr.max_sge, 1u);
  auto queue =
      DeviceOf(pd->context)
          .CreateSrq({.pd = owner->id,
                      .capacity = attr->attr.max_wr,
                      .max_sges = attr->attr.max_sge,
                      .events = {SoftContext::Of(pd->context)->events.get(),
                                 soft.get()}});
  if (!queue.ok()) {
    SetErrno(queue.status());
    return nullptr;
  }
  ++owner->users;
  soft->queue = *std::move(queue);
  ibv_srq& srq = soft->verbs;
  srq.context = pd->context;
  srq.srq_context = attr->srq_context;
  srq.pd = pd;
  pthread_mutex_init(&srq.mutex, nullptr);
  pthread_cond_init(&srq.cond, nullptr);
  return &soft.release()->verbs;
}

int ibv_modify_srq(ibv_srq* srq, ibv_srq_attr* attr, int mask) {
  if (!IsSoft(srq->context)) {
    return ND_FORWARD(ibv_modify_srq, "1.1")(srq, attr, mask);
  }
  Device& device = DeviceOf(srq->context);
  SharedReceiveQueue& queue = *SoftCast<SoftSrq>(srq)->queue;
  const bool resizes = (mask & IBV_SRQ_MAX_WR) != 0;
  if ((mask & ~(IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT)) != 0) return EINVAL;
  if (resizes &&
      (attr->max_wr == 0 || attr->max_wr > device.limits().max_wrs)) {
    return EINVAL;
  }
  const size_t capacity = resizes ? attr->max_wr : queue.store().capacity();
  if ((mask & IBV_SRQ_LIMIT) != 0 && attr->srq_limit > capacity) return EINVAL;
  if (resizes && !device.ResizeSrq(queue, attr->max_wr)) return EINVAL;
  if ((mask & IBV_SRQ_LIMIT) != 0) device.SetSrqLimit(queue, attr->srq_limit);
  return 0;
}

int ibv_query_srq(ibv_srq* srq, ibv_srq_attr* attr) {
  if (!IsSoft(srq->context)) return ND_FORWARD(ibv_query_srq, "1.1")(srq, attr);
  SharedReceiveQueue& queue = *SoftCast<SoftSrq>(srq)->queue;
  attr->max_wr = static_cast<uint32_t>(queue.store().capacity());
  attr->max_sge = static_cast<uint32_t>(queue.store().max_sges());
  attr->srq_limit = DeviceOf(srq->context).SrqLimit(queue);
  return 0;
}

int ibv_destroy_srq(ibv_srq* srq) {
  if (!IsSoft(srq->context)) return ND_FORWARD(ibv_destroy_srq, "1.1")(srq);
  SoftSrq* const soft = SoftCast<SoftSrq>(srq);
  if (soft->users != 0) return EBUSY;
  SettleAsyncEvents(*soft);
  DeviceOf(srq->context).DestroySrq(std::move(soft->queue));
  --SoftCast<SoftPd>(srq->pd)->users;
  pthread_mutex_destroy(&srq->mutex);
  pthread_cond_destroy(&srq->cond);
  delete soft;
  return 0;
}

}  // extern "C"
