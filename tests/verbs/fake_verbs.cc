#include "verbs/fake_verbs.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace nd::verbs {
namespace {

constexpr uint32_t kFirstQpn = 0x11;
constexpr uint32_t kInlineBytes = 64;

ibv_device* Device() {
  static ibv_device device = [] {
    ibv_device d{};
    d.node_type = IBV_NODE_CA;
    d.transport_type = IBV_TRANSPORT_IB;
    strcpy(d.name, "fake0");
    return d;
  }();
  return &device;
}

// Whether the call is to fail; sets errno.
bool Fails(const char* call) {
  const auto& failures = FakeVerbs::Get().failures;
  const auto it = failures.find(call);
  if (it == failures.end()) return false;
  errno = it->second;
  return true;
}

template <typename T>
T* Made(T* object) {
  ++FakeVerbs::Get().live_objects;
  return object;
}

template <typename T>
int Gone(T* object) {
  --FakeVerbs::Get().live_objects;
  delete object;
  return 0;
}

int PollCq(ibv_cq*, int count, ibv_wc* out) {
  FakeVerbs& fake = FakeVerbs::Get();
  ++fake.polls;
  int polled = 0;
  while (polled < count && !fake.completions.empty()) {
    out[polled++] = fake.completions.front();
    fake.completions.pop_front();
  }
  return polled;
}

int ReqNotifyCq(ibv_cq*, int solicited_only) {
  FakeVerbs& fake = FakeVerbs::Get();
  if (fake.before_arming) std::exchange(fake.before_arming, nullptr)();
  ++fake.armings;
  fake.armed = true;
  fake.solicited_only = solicited_only != 0;
  return 0;
}

int PostSend(ibv_qp*, ibv_send_wr* wr, ibv_send_wr** bad) {
  FakeVerbs& fake = FakeVerbs::Get();
  for (; wr != nullptr; wr = wr->next) {
    if (fake.sends.size() >= fake.post_limit) {
      *bad = wr;
      return fake.post_error;
    }
    fake.sends.push_back({wr->wr_id, wr->opcode, wr->send_flags});
  }
  return 0;
}

int PostRecv(ibv_qp*, ibv_recv_wr* wr, ibv_recv_wr**) {
  FakeVerbs::Get().receives.push_back(wr->wr_id);
  return 0;
}

// The newest completion queue and its channel's fd: a test has one.
ibv_cq* g_cq = nullptr;
int g_event_fd = -1;

}  // namespace

FakeVerbs& FakeVerbs::Get() {
  static FakeVerbs* const fake = new FakeVerbs;
  return *fake;
}

void FakeVerbs::Reset() { *this = FakeVerbs(); }

void FakeVerbs::Complete(const ibv_wc& wc) {
  completions.push_back(wc);
  if (!armed) return;
  armed = false;
  eventfd_write(g_event_fd, 1);
}

}  // namespace nd::verbs

using nd::verbs::Device;
using nd::verbs::Fails;
using nd::verbs::FakeVerbs;
using nd::verbs::Gone;
using nd::verbs::Made;

extern "C" {

ibv_device** ibv_get_device_list(int* count) {
  if (Fails("ibv_get_device_list")) return nullptr;
  *count = 1;
  return new ibv_device* [2] { Device(), nullptr };
}

void ibv_free_device_list(ibv_device** list) { delete[] list; }
const char* ibv_get_device_name(ibv_device* device) { return device->name; }
__be64 ibv_get_device_guid(ibv_device*) { return 0; }

ibv_context* ibv_open_device(ibv_device* device) {
  if (Fails("ibv_open_device")) return nullptr;
  auto* context = Made(new ibv_context{});
  context->device = device;
  context->async_fd = eventfd(0, EFD_CLOEXEC);
  context->ops.poll_cq = nd::verbs::PollCq;
  context->ops.req_notify_cq = nd::verbs::ReqNotifyCq;
  context->ops.post_send = nd::verbs::PostSend;
  context->ops.post_recv = nd::verbs::PostRecv;
  return context;
}

int ibv_close_device(ibv_context* context) {
  close(context->async_fd);
  return Gone(context);
}

int ibv_query_device(ibv_context*, ibv_device_attr* attr) {
  if (Fails("ibv_query_device")) return errno;
  *attr = {};
  attr->max_cqe = 1024;
  attr->phys_port_cnt = 1;
  return 0;
}

ibv_pd* ibv_alloc_pd(ibv_context* context) {
  if (Fails("ibv_alloc_pd")) return nullptr;
  auto* pd = Made(new ibv_pd{});
  pd->context = context;
  return pd;
}

int ibv_dealloc_pd(ibv_pd* pd) { return Gone(pd); }

#undef ibv_reg_mr
ibv_mr* ibv_reg_mr(ibv_pd* pd, void* address, size_t length, int) {
  if (Fails("ibv_reg_mr")) return nullptr;
  auto* mr = Made(new ibv_mr{});
  mr->context = pd->context;
  mr->pd = pd;
  mr->addr = address;
  mr->length = length;
  mr->lkey = mr->rkey = 0x1234;
  return mr;
}

int ibv_dereg_mr(ibv_mr* mr) { return Gone(mr); }

ibv_comp_channel* ibv_create_comp_channel(ibv_context* context) {
  if (Fails("ibv_create_comp_channel")) return nullptr;
  auto* channel = Made(new ibv_comp_channel{});
  channel->context = context;
  channel->fd = nd::verbs::g_event_fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
  return channel;
}

int ibv_destroy_comp_channel(ibv_comp_channel* channel) {
  close(channel->fd);
  return Gone(channel);
}

ibv_cq* ibv_create_cq(ibv_context* context, int entries, void* cq_context,
                      ibv_comp_channel* channel, int) {
  if (Fails("ibv_create_cq")) return nullptr;
  auto* cq = Made(new ibv_cq{});
  cq->context = context;
  cq->channel = channel;
  cq->cq_context = cq_context;
  cq->cqe = entries;
  return nd::verbs::g_cq = cq;
}

int ibv_destroy_cq(ibv_cq* cq) { return Gone(cq); }

int ibv_get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** context) {
  eventfd_t value = 0;
  if (eventfd_read(channel->fd, &value) != 0) return -1;
  ++FakeVerbs::Get().events_taken;
  *cq = nd::verbs::g_cq;
  *context = nd::verbs::g_cq->cq_context;
  return 0;
}

void ibv_ack_cq_events(ibv_cq*, unsigned count) {
  FakeVerbs::Get().events_acked += count;
}

ibv_qp* ibv_create_qp(ibv_pd* pd, ibv_qp_init_attr* attr) {
  if (Fails("ibv_create_qp")) return nullptr;
  FakeVerbs& fake = FakeVerbs::Get();
  if (fake.last_qpn == 0) fake.last_qpn = nd::verbs::kFirstQpn - 1;
  auto* qp = Made(new ibv_qp{});
  qp->context = pd->context;
  qp->pd = pd;
  qp->qp_num = ++fake.last_qpn;
  attr->cap.max_inline_data = nd::verbs::kInlineBytes;
  return qp;
}

int ibv_modify_qp(ibv_qp*, ibv_qp_attr* attr, int) {
  if (Fails("ibv_modify_qp")) return errno;
  FakeVerbs::Get().qp_state = attr->qp_state;
  return 0;
}

int ibv_destroy_qp(ibv_qp* qp) { return Gone(qp); }

}  // extern "C"
