#include "verbs/cm.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "base/status.h"
#include "verbs/cm_inbox.h"

namespace nd::verbs {
namespace {

// So that a flood of requests cannot hold Dispatch for ever.
constexpr int kMaxDispatch = 1024;

// Code 12 of IBA table 45: 0.64 ms. The CM proposes 0, which is 655 ms.
constexpr uint8_t kMinRnrTimer = 12;

constexpr unsigned kRemoteAccess =
    IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;

// rdma_cm reads a timeout of 0 as "at once".
int TimeoutMillis(const Deadline& deadline) {
  return std::max(1, deadline.RemainingMillis());
}

CmEvent CopyEvent(const rdma_cm_event& raw, int query_error) {
  CmEvent event;
  event.type = raw.event;
  event.status = raw.status;
  // librdmacm asks the kernel for what an event means; where that fails, it
  // leaves the reason in errno.
  if (raw.status == -1 && query_error != 0) event.status = -query_error;
  const rdma_conn_param& conn = raw.param.conn;
  if (conn.private_data != nullptr) {
    const auto* data = static_cast<const std::byte*>(conn.private_data);
    event.private_data.assign(data, data + conn.private_data_len);
  }
  event.responder_resources = conn.responder_resources;
  event.initiator_depth = conn.initiator_depth;
  return event;
}

// Lets other threads, which dispatch the same channel, wake this one.
class ScopedWaiter {
 public:
  ScopedWaiter(CmInbox& inbox, int fd) : inbox_(inbox) { inbox_.SetWaiter(fd); }
  ScopedWaiter(const ScopedWaiter&) = delete;
  ScopedWaiter& operator=(const ScopedWaiter&) = delete;
  ~ScopedWaiter() { inbox_.SetWaiter(-1); }

 private:
  CmInbox& inbox_;
};

}  // namespace

CmEventChannel::CmEventChannel(rdma_event_channel* channel)
    : channel_(channel) {}

absl::StatusOr<std::shared_ptr<CmEventChannel>> CmEventChannel::Create() {
  rdma_event_channel* const raw = rdma_create_event_channel();
  if (raw == nullptr) {
    const int error = errno;
    if (error == ENODEV || error == ENOENT || error == EPERM) {
      return absl::FailedPreconditionError(absl::StrCat(
          "rdma_create_event_channel: this host has no RDMA device, or the "
          "kernel module rdma_ucm is not loaded (errno ",
          error, ")"));
    }
    return ErrnoStatus(error, "rdma_create_event_channel");
  }
  auto channel = absl::WrapUnique(new CmEventChannel(raw));
  ND_RETURN_IF_ERROR(SetNonBlocking(raw->fd));
  return std::shared_ptr<CmEventChannel>(std::move(channel));
}

CmEventChannel::~CmEventChannel() { rdma_destroy_event_channel(channel_); }

absl::Status CmEventChannel::Dispatch() {
  for (int i = 0; i < kMaxDispatch; ++i) {
    MutexLock lock(&mutex_);
    rdma_cm_event* raw = nullptr;
    errno = 0;
    if (rdma_get_cm_event(channel_, &raw) != 0) {
      if (errno == EAGAIN) return absl::OkStatus();
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "rdma_get_cm_event");
    }
    File(*raw);
    // Until now rdma_destroy_id of that id waits, so its inbox was alive.
    rdma_ack_cm_event(raw);
  }
  return absl::OkStatus();
}

void CmEventChannel::File(const rdma_cm_event& raw) {
  CmEvent event = CopyEvent(raw, errno);
  const rdma_cm_id* const owner =
      raw.event == RDMA_CM_EVENT_CONNECT_REQUEST ? raw.listen_id : raw.id;
  auto& inbox = *static_cast<CmInbox*>(owner->context);
  if (raw.event == RDMA_CM_EVENT_CONNECT_REQUEST) {
    event.request = absl::WrapUnique(new CmId(shared_from_this(), raw.id));
    event.request->is_request_ = true;
    event.request->LowerDepths(event.responder_resources,
                               event.initiator_depth);
  }
  if (auto refused = inbox.Put(std::move(event)); refused.has_value()) {
    // If this fails, then the request is gone, or its destruction rejects it.
    rdma_reject(raw.id, inbox.refusal.data(),
                static_cast<uint8_t>(inbox.refusal.size()));
  }
}

CmId::CmId(std::shared_ptr<CmEventChannel> channel, rdma_cm_id* id)
    : channel_(std::move(channel)),
      id_(id),
      inbox_(std::make_unique<CmInbox>()) {
  id_->context = inbox_.get();
}

absl::StatusOr<std::unique_ptr<CmId>> CmId::Create(
    std::shared_ptr<CmEventChannel> channel) {
  if (channel == nullptr) {
    ND_ASSIGN_OR_RETURN(channel, CmEventChannel::Create());
  }
  rdma_cm_id* id = nullptr;
  if (rdma_create_id(channel->channel_, &id, nullptr, RDMA_PS_TCP) != 0) {
    return ErrnoStatus(errno, "rdma_create_id");
  }
  return absl::WrapUnique(new CmId(std::move(channel), id));
}

// Waits for the thread that has read an event of this id to file it; the inbox
// goes after that, and with it requests that nobody answered.
CmId::~CmId() { rdma_destroy_id(id_); }

absl::Status CmId::CallError(absl::string_view call, int error) const {
  const std::string what = absl::StrCat(call, " ", ToString());
  if (is_request_ && (error == EINVAL || error == ENXIO)) {
    return absl::UnavailableError(
        absl::StrCat(what, ": the request is gone: the client took it back"));
  }
  switch (error) {
    case ENODEV:
      return absl::FailedPreconditionError(
          absl::StrCat(what, ": the route leads through no RDMA device"));
    case EADDRNOTAVAIL:
      return absl::FailedPreconditionError(absl::StrCat(
          what, ": no RDMA device of this host has the local address"));
    case ENXIO:
      return absl::UnavailableError(
          absl::StrCat(what, ": the RDMA device went away"));
    default:
      return ErrnoStatus(error, what);
  }
}

absl::Status CmId::SetOption(int option, void* value, size_t size,
                             absl::string_view name) {
  if (rdma_set_option(id_, RDMA_OPTION_ID, option, value, size) != 0) {
    return CallError(absl::StrCat("rdma_set_option ", name), errno);
  }
  return absl::OkStatus();
}

absl::Status CmId::SetTypeOfService(uint8_t tos) {
  return SetOption(RDMA_OPTION_ID_TOS, &tos, sizeof(tos), "TOS");
}

absl::Status CmId::SetAckTimeout(uint8_t code) {
  if (code > 31) {
    return absl::InvalidArgumentError(
        absl::StrCat("ACK timeout code ", code, " is above 31"));
  }
  return SetOption(RDMA_OPTION_ID_ACK_TIMEOUT, &code, sizeof(code),
                   "ACK_TIMEOUT");
}

absl::Status CmId::ResolveAddress(const SocketAddress& to,
                                  const std::optional<SocketAddress>& from,
                                  const Deadline& deadline,
                                  const Cancellation* cancel) {
  SocketAddress destination = to;
  SocketAddress source = from.value_or(SocketAddress());
  int error = 0;
  {
    MutexLock lock(&channel_->mutex_);
    if (rdma_resolve_addr(id_, from.has_value() ? source.get() : nullptr,
                          destination.get(), TimeoutMillis(deadline)) != 0) {
      error = errno;
    }
  }
  if (error != 0) return CallError("rdma_resolve_addr", error);
  return Expect(RDMA_CM_EVENT_ADDR_RESOLVED, "rdma_resolve_addr", deadline,
                cancel)
      .status();
}

absl::Status CmId::Resolve(const SocketAddress& to,
                           const std::optional<SocketAddress>& from,
                           const Deadline& deadline,
                           const Cancellation* cancel) {
  to_ = to;
  if (from.has_value() && from->family() != to.family()) {
    return absl::InvalidArgumentError(
        absl::StrCat("from ", from->ToString(), " to ", to.ToString(),
                     ": one is IPv4, the other IPv6"));
  }
  ND_RETURN_IF_ERROR(ResolveAddress(to, from, deadline, cancel));
  if (rdma_resolve_route(id_, TimeoutMillis(deadline)) != 0) {
    return CallError("rdma_resolve_route", errno);
  }
  return Expect(RDMA_CM_EVENT_ROUTE_RESOLVED, "rdma_resolve_route", deadline,
                cancel)
      .status();
}

absl::Status CmId::CheckQp(const QueuePair& qp, const ConnectParams& params,
                           size_t max_private_data) const {
  if (params.private_data.size() > max_private_data) {
    return absl::InvalidArgumentError(absl::StrCat(
        params.private_data.size(), " bytes of private data: at most ",
        max_private_data, " fit"));
  }
  const std::string device = device_name();
  if (device.empty()) {
    return absl::FailedPreconditionError(
        "a connection needs Resolve, or a request, first");
  }
  if (qp.pd()->context()->name() != device) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToString(), " goes through ", device,
                     ", but the QP is on ", qp.pd()->context()->name()));
  }
  return absl::OkStatus();
}

void CmId::LowerDepths(uint8_t responder_resources, uint8_t initiator_depth) {
  responder_resources_ = std::min(responder_resources_, responder_resources);
  initiator_depth_ = std::min(initiator_depth_, initiator_depth);
}

void CmId::LowerDepthsTo(const ConnectParams& params,
                         const ibv_device_attr& limits) {
  LowerDepths(params.responder_resources, params.initiator_depth);
  LowerDepths(std::min(limits.max_qp_rd_atom, 0xff),
              std::min(limits.max_qp_init_rd_atom, 0xff));
}

rdma_conn_param CmId::ConnParam(const QueuePair& qp,
                                const ConnectParams& params) const {
  rdma_conn_param result{};
  result.private_data = params.private_data.data();
  result.private_data_len = static_cast<uint8_t>(params.private_data.size());
  result.responder_resources = responder_resources_;
  result.initiator_depth = initiator_depth_;
  result.retry_count = params.retry_count;
  result.rnr_retry_count = params.rnr_retry_count;
  result.srq = qp.get()->srq != nullptr ? 1 : 0;
  result.qp_num = qp.qpn();
  return result;
}

absl::Status CmId::MoveQp(QueuePair& qp, ibv_qp_state state, const Tune& tune) {
  ibv_qp_attr attr{};
  attr.qp_state = state;
  int mask = 0;
  if (rdma_init_qp_attr(id_, &attr, &mask) != 0) {
    return CallError(absl::StrCat("rdma_init_qp_attr to ", QpStateName(state)),
                     errno);
  }
  if (state == IBV_QPS_INIT) {
    attr.qp_access_flags = kRemoteAccess;
    mask |= IBV_QP_ACCESS_FLAGS;
  } else if (state == IBV_QPS_RTR) {
    attr.max_dest_rd_atomic = responder_resources_;
    attr.min_rnr_timer = kMinRnrTimer;
  } else {
    attr.max_rd_atomic = initiator_depth_;
  }
  if (tune) tune(state, attr);
  return qp.Modify(attr, mask);
}

absl::Status CmId::PrepareQp(QueuePair& qp, const Tune& tune) {
  ND_RETURN_IF_ERROR(CheckQp(qp, {}, 0));
  if (qp.get()->state != IBV_QPS_RESET) return absl::OkStatus();
  qp.set_peer(peer().ToString());
  return MoveQp(qp, IBV_QPS_INIT, tune);
}

absl::Status CmId::MoveQpToRts(QueuePair& qp, const Tune& tune) {
  ND_RETURN_IF_ERROR(MoveQp(qp, IBV_QPS_RTR, tune));
  return MoveQp(qp, IBV_QPS_RTS, tune);
}

absl::StatusOr<CmEvent> CmId::NegotiateConnect(QueuePair& qp,
                                               const ConnectParams& params,
                                               const Deadline& deadline,
                                               const Cancellation* cancel) {
  LowerDepthsTo(params, qp.pd()->context()->limits());
  rdma_conn_param param = ConnParam(qp, params);
  if (rdma_connect(id_, &param) != 0) return CallError("rdma_connect", errno);
  auto response =
      Expect(RDMA_CM_EVENT_CONNECT_RESPONSE, "rdma_connect", deadline, cancel);
  if (response.ok()) {
    LowerDepths(response->responder_resources, response->initiator_depth);
  }
  return response;
}

// Who polls the QP's completions on another thread meanwhile may read the name,
// and has set it before.
void CmId::SetPeer(QueuePair& qp) const {
  std::string name = peer().ToString();
  if (qp.peer() != name) qp.set_peer(std::move(name));
}

absl::StatusOr<CmEvent> CmId::Connect(QueuePair& qp,
                                      const ConnectParams& params,
                                      const Tune& tune,
                                      const Deadline& deadline,
                                      const Cancellation* cancel) {
  ND_RETURN_IF_ERROR(CheckQp(qp, params, kMaxConnectData));
  ND_RETURN_IF_ERROR(PrepareQp(qp, tune));
  SetPeer(qp);
  auto response = NegotiateConnect(qp, params, deadline, cancel);
  if (!response.ok()) return response;

  absl::Status done = MoveQpToRts(qp, tune);
  if (done.ok() && rdma_establish(id_) != 0) {
    done = CallError("rdma_establish", errno);
  }
  if (!done.ok()) {
    rdma_reject(id_, nullptr, 0);
    return Annotate(done, absl::StrCat("the peer accepted, but ", ToString(),
                                       " could not be completed"));
  }
  return response;
}

absl::Status CmId::Accept(QueuePair& qp, const ConnectParams& params,
                          const Tune& tune, const Deadline& deadline,
                          const Cancellation* cancel) {
  ND_RETURN_IF_ERROR(CheckQp(qp, params, kMaxAcceptData));
  LowerDepthsTo(params, qp.pd()->context()->limits());
  SetPeer(qp);
  absl::Status ready = PrepareQp(qp, tune);
  if (ready.ok()) ready = MoveQpToRts(qp, tune);
  if (!ready.ok()) {
    rdma_reject(id_, nullptr, 0);
    return Annotate(ready, "the request had to be rejected");
  }
  rdma_conn_param param = ConnParam(qp, params);
  if (rdma_accept(id_, &param) != 0) return CallError("rdma_accept", errno);
  return Expect(RDMA_CM_EVENT_ESTABLISHED, "rdma_accept", deadline, cancel)
      .status();
}

absl::Status CmId::Reject(std::span<const std::byte> private_data) {
  if (private_data.size() > kMaxRejectData) {
    return absl::InvalidArgumentError(
        absl::StrCat(private_data.size(), " bytes of private data: at most ",
                     kMaxRejectData, " fit"));
  }
  if (rdma_reject(id_, private_data.data(),
                  static_cast<uint8_t>(private_data.size())) != 0) {
    return CallError("rdma_reject", errno);
  }
  return absl::OkStatus();
}

absl::Status CmId::Disconnect() {
  if (rdma_disconnect(id_) == 0) return absl::OkStatus();
  if (errno == EINVAL) {
    return absl::FailedPreconditionError(
        absl::StrCat("rdma_disconnect ", ToString(), ": not connected"));
  }
  return CallError("rdma_disconnect", errno);
}

absl::Status CmId::NotifyCommunicationEstablished() {
  if (rdma_notify(id_, IBV_EVENT_COMM_EST) == 0) return absl::OkStatus();
  return CallError("rdma_notify", errno);
}

absl::StatusOr<std::optional<CmEvent>> CmId::PollEvent() {
  if (auto event = inbox_->Take(); event.has_value()) return event;
  ND_RETURN_IF_ERROR(channel_->Dispatch());
  return inbox_->Take();
}

std::optional<CmEvent> CmId::TakeEvent() { return inbox_->Take(); }

void CmId::NotifyBy(int eventfd) { inbox_->SetWaiter(eventfd); }

absl::StatusOr<CmEvent> CmId::NextEvent(const Deadline& deadline,
                                        const Cancellation* cancel) {
  const Fd wakeup(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wakeup.valid()) return ErrnoStatus(errno, "eventfd");
  // Before the first look: what is filed after that look writes to `wakeup`.
  const ScopedWaiter waiter(*inbox_, wakeup.get());
  for (;;) {
    ND_ASSIGN_OR_RETURN(auto event, PollEvent());
    if (event.has_value()) return *std::move(event);
    ND_RETURN_IF_ERROR(
        WaitEitherReadable(channel_->fd(), wakeup.get(), deadline, cancel));
    // The channel may be readable all the time with events of other ids.
    if (deadline.Passed()) {
      ND_ASSIGN_OR_RETURN(auto last, PollEvent());
      if (last.has_value()) return *std::move(last);
      return absl::DeadlineExceededError("");
    }
  }
}

absl::StatusOr<CmEvent> CmId::Expect(rdma_cm_event_type type,
                                     absl::string_view doing,
                                     const Deadline& deadline,
                                     const Cancellation* cancel) {
  for (;;) {
    auto event = NextEvent(deadline, cancel);
    const std::string context = absl::StrCat(doing, " ", ToString());
    if (absl::IsDeadlineExceeded(event.status())) {
      return absl::DeadlineExceededError(
          absl::StrCat(context, ": no answer before the deadline"));
    }
    if (!event.ok()) return Annotate(event.status(), context);
    if (event->type == RDMA_CM_EVENT_TIMEWAIT_EXIT) continue;
    if (event->type == type && event->status == 0) return event;
    return event->ToStatus(context);
  }
}

absl::Status CmId::Migrate(std::shared_ptr<CmEventChannel> channel) {
  const std::shared_ptr<CmEventChannel> old = channel_;
  int error = 0;
  {
    MutexLock lock(&old->mutex_);
    if (rdma_migrate_id(id_, channel->channel_) != 0) error = errno;
  }
  if (error != 0) return CallError("rdma_migrate_id", error);
  channel_ = std::move(channel);
  return absl::OkStatus();
}

std::string CmId::device_name() const {
  MutexLock lock(&channel_->mutex_);
  return id_->verbs == nullptr ? "" : ibv_get_device_name(id_->verbs->device);
}

uint8_t CmId::port_number() const {
  MutexLock lock(&channel_->mutex_);
  return id_->port_num;
}

SocketAddress CmId::local() const {
  MutexLock lock(&channel_->mutex_);
  return SocketAddress::From(id_->route.addr.src_addr)
      .value_or(SocketAddress());
}

SocketAddress CmId::peer() const {
  MutexLock lock(&channel_->mutex_);
  return SocketAddress::From(id_->route.addr.dst_addr)
      .value_or(to_.value_or(SocketAddress()));
}

std::string CmId::ToString() const {
  const SocketAddress from = local();
  const std::string to = peer().ToString();
  return from == SocketAddress() ? absl::StrCat("to ", to)
                                 : absl::StrCat(from.ToString(), " -> ", to);
}

}  // namespace nd::verbs
