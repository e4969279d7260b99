#include "api/link_set_up.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "control/rejection.h"
#include "verbs/queue_pair.h"

namespace nd::api {
namespace {

using transport::SessionRuntime;

// READs and atomics under way; the device and the peer may lower it.
constexpr uint8_t kReadDepth = 16;
// How long a device waits for an acknowledgement before it sends again, as
// 4.096 us * 2^n: 0.27 s (IBA vol. 1, local ACK timeout). rdma_cm would have it
// wait for 2 s.
constexpr uint8_t kAckTimeout = 16;

// A link that is prepared, until it is opened or given up.
class Preparation {
 public:
  Preparation(SessionImpl& session, uint32_t link)
      : session_(session), link_(link) {}
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;
  ~Preparation() {
    if (qp_ != nullptr) Abandon(absl::CancelledError("its set-up failed"));
  }

  // The queue pair can receive when this returns.
  absl::Status Prepare(uint32_t incarnation, verbs::CmId& id,
                       Instant deadline) {
    absl::StatusOr<verbs::QueuePair*> qp = nullptr;
    ND_RETURN_IF_ERROR(session_.OnReactor(
        [&](SessionRuntime& runtime) {
          qp = runtime.PrepareLink(link_, incarnation, id);
          if (qp.ok()) ring_ = runtime.RingOf(link_);
        },
        deadline));
    ND_RETURN_IF_ERROR(qp.status());
    qp_ = *qp;
    return absl::OkStatus();
  }

  verbs::QueuePair& qp() { return *qp_; }
  const SessionRuntime::Ring& ring() const { return ring_; }

  void Abandon(const absl::Status& why) {
    qp_ = nullptr;
    // No deadline: the runtime waits for this.
    (void)session_.OnReactor(
        [&](SessionRuntime& runtime) { runtime.AbandonLink(link_, why); },
        Instant::max());
  }

  void Open(std::unique_ptr<verbs::CmId> id, const control::LinkLayout& peer) {
    qp_ = nullptr;
    (void)session_.OnReactor(
        [&](SessionRuntime& runtime) {
          runtime.OpenLink(
              link_, std::move(id),
              {.address = peer.ring_address, .rkey = peer.ring_rkey});
        },
        Instant::max());
  }

 private:
  SessionImpl& session_;
  const uint32_t link_;
  verbs::QueuePair* qp_ = nullptr;
  SessionRuntime::Ring ring_;
};

absl::Status Begin(SessionImpl& session, const verbs::CmId& id,
                   Instant deadline) {
  ND_ASSIGN_OR_RETURN(std::shared_ptr<transport::HubDevice> device,
                      session.hub().Device(id.device_name(), deadline));
  return session.Begin(std::move(device), deadline);
}

absl::StatusOr<control::LinkLayout> LayoutOf(const verbs::CmId& id,
                                             Preparation& preparation,
                                             SessionImpl& session) {
  const auto& context = preparation.qp().pd()->context();
  const SessionRuntime::Ring& ring = preparation.ring();
  ND_ASSIGN_OR_RETURN(const verbs::Port port,
                      context->QueryPort(id.port_number()));
  const int reads = std::clamp(context->limits().max_qp_rd_atom, 0,
                               static_cast<int>(kReadDepth));
  return control::LinkLayout{.send_depth = session.runtime()->send_depth(),
                             .receive_depth = session.layout().slots,
                             .ring_address = ring.begin.address,
                             .ring_rkey = ring.begin.rkey,
                             .ring_size = ring.size,
                             .max_rd_atomic = static_cast<uint64_t>(reads),
                             .max_dest_rd_atomic = static_cast<uint64_t>(reads),
                             .path_mtu = port.active_mtu_bytes()};
}

// Before the route is resolved, which also tells the peer of it.
void ShortenAckTimeout(verbs::CmId& id) {
  const absl::Status set = id.SetAckTimeout(kAckTimeout);
  // As of kernels before 5.1: repeats come late.
  if (!set.ok()) ND_LOG(kDebug, id.ToString(), ": ", set.ToString());
}

std::string LinkName(control::LinkId link) {
  return absl::StrCat("link ", link.number);
}

}  // namespace

absl::Status ConnectLink(SessionImpl& session, control::LinkId link,
                         const control::LinkPass& pass,
                         const std::optional<verbs::SocketAddress>& from,
                         const Exchange& exchange, const Deadline& deadline) {
  ND_ASSIGN_OR_RETURN(std::shared_ptr<verbs::CmEventChannel> channel,
                      session.hub().CmChannel(deadline.at()));
  ND_ASSIGN_OR_RETURN(std::unique_ptr<verbs::CmId> id,
                      verbs::CmId::Create(std::move(channel)));
  ShortenAckTimeout(*id);
  ND_RETURN_IF_ERROR(id->Resolve(pass.endpoint, from, deadline, nullptr));
  ND_RETURN_IF_ERROR(Begin(session, *id, deadline.at()));
  // What was refused a moment ago may not be all gone.
  ND_RETURN_IF_ERROR(session.AwaitLinkFree(link.number, deadline.at()));
  Preparation preparation(session, link.number);
  ND_RETURN_IF_ERROR(preparation.Prepare(link.incarnation, *id, deadline.at()));
  const auto hello =
      control::LinkHello{
          .token = pass.token, .session = session.id(), .link = link}
          .Encode();
  const absl::StatusOr<verbs::CmEvent> answer =
      id->Connect(preparation.qp(),
                  {.private_data = hello,
                   .responder_resources = kReadDepth,
                   .initiator_depth = kReadDepth},
                  nullptr, deadline, nullptr);
  if (!answer.ok()) {
    absl::Status why =
        Annotate(control::ExplainRejection(answer.status()), LinkName(link));
    preparation.Abandon(why);
    return why;
  }
  ND_ASSIGN_OR_RETURN(const control::LinkLayout own,
                      LayoutOf(*id, preparation, session));
  ND_ASSIGN_OR_RETURN(const control::LinkLayout peer, exchange(own));
  preparation.Open(std::move(id), peer);
  return absl::OkStatus();
}

absl::StatusOr<control::LinkLayout> AcceptLink(
    SessionImpl& session, control::LinkId link,
    std::unique_ptr<verbs::CmId> request, const Exchange& exchange,
    const Deadline& deadline) {
  ND_RETURN_IF_ERROR(Begin(session, *request, deadline.at()));
  // A client that makes a link anew may have noticed its loss first.
  ND_RETURN_IF_ERROR(session.AwaitLinkFree(link.number, deadline.at()));
  ShortenAckTimeout(*request);
  Preparation preparation(session, link.number);
  ND_RETURN_IF_ERROR(
      preparation.Prepare(link.incarnation, *request, deadline.at()));
  absl::Status accepted = request->Accept(
      preparation.qp(),
      {.responder_resources = kReadDepth, .initiator_depth = kReadDepth},
      nullptr, deadline, nullptr);
  if (accepted.ok()) {
    absl::StatusOr<std::shared_ptr<verbs::CmEventChannel>> channel =
        session.hub().CmChannel(deadline.at());
    accepted =
        channel.ok() ? request->Migrate(*std::move(channel)) : channel.status();
  }
  if (!accepted.ok()) {
    accepted = Annotate(accepted, LinkName(link));
    preparation.Abandon(accepted);
    return accepted;
  }
  ND_ASSIGN_OR_RETURN(const control::LinkLayout own,
                      LayoutOf(*request, preparation, session));
  ND_ASSIGN_OR_RETURN(const control::LinkLayout peer, exchange(own));
  preparation.Open(std::move(request), peer);
  return own;
}

}  // namespace nd::api
