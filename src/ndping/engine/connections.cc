#include "ndping/engine/connections.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "control/rejection.h"
#include "ndping/engine/cq_reader.h"
#include "verbs/explain.h"

namespace nd::ndping {
namespace {

constexpr uint32_t kMaxReadDepth = 255;  // what a REQ can say

// A server without receives is to be noticed, not waited for without end.
constexpr uint32_t kProvokedRnrRetries = 3;
constexpr uint32_t kForever = 7;

// Credits go inline where the device can.
constexpr uint32_t kCreditBytes = 8;

ibv_mtu MtuCode(uint32_t bytes) {
  switch (bytes) {
    case 256:
      return IBV_MTU_256;
    case 512:
      return IBV_MTU_512;
    case 1024:
      return IBV_MTU_1024;
    case 2048:
      return IBV_MTU_2048;
    default:
      return IBV_MTU_4096;
  }
}

uint32_t RnrRetries(const v1::TestSpec& spec) {
  if (spec.provoke() == v1::PROVOKE_NO_RECEIVES &&
      spec.rnr_retry_count() == kForever) {
    return kProvokedRnrRetries;
  }
  return spec.rnr_retry_count();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Connections>> Connections::Connect(
    const Options& options, const Target& target, const Deadline& deadline,
    const Cancellation* cancel) {
  auto connections = absl::WrapUnique(new Connections(options));
  ND_ASSIGN_OR_RETURN(connections->cm_channel_,
                      verbs::CmEventChannel::Create());
  connections->links_.resize(options.plan->qps);
  for (uint32_t i = 0; i < options.plan->qps; ++i) {
    const absl::Status status =
        connections->ConnectOne(i, target, deadline, cancel);
    if (!status.ok()) {
      return Annotate(status, absl::StrCat("connection ", i + 1, " of ",
                                           options.plan->qps));
    }
  }
  return connections;
}

absl::StatusOr<std::unique_ptr<Connections>> Connections::Accept(
    const Options& options, control::Invitation& invitation,
    const Deadline& deadline, const Cancellation* cancel) {
  auto connections = absl::WrapUnique(new Connections(options));
  ND_ASSIGN_OR_RETURN(connections->cm_channel_,
                      verbs::CmEventChannel::Create());
  connections->links_.resize(options.plan->qps);
  for (uint32_t i = 0; i < options.plan->qps; ++i) {
    const absl::Status status =
        connections->AcceptOne(invitation, deadline, cancel);
    if (status.ok()) continue;
    const std::string context =
        absl::StrCat("accepting connection ", i + 1, " of ", options.plan->qps);
    if (absl::IsDeadlineExceeded(status) && status.message().empty()) {
      return absl::DeadlineExceededError(
          absl::StrCat(context, ": the client did not ask for it in time"));
    }
    return Annotate(status, context);
  }
  return connections;
}

absl::Status Connections::OpenDevice(const std::string& name) {
  if (context_ != nullptr) {
    if (context_->name() == name) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("it leads through ", name, ", the first one through ",
                     context_->name(), ": a test uses one device"));
  }
  ND_ASSIGN_OR_RETURN(context_, verbs::Context::Open(name));
  ND_ASSIGN_OR_RETURN(pd_, verbs::ProtectionDomain::Create(context_));
  std::shared_ptr<verbs::CompletionChannel> channel;
  if (WaitModeOf(options_.spec.cq_mode()) != verbs::WaitMode::kBusy) {
    ND_ASSIGN_OR_RETURN(channel, verbs::CompletionChannel::Create(context_));
  }
  // Room for everything that is posted to come back at once, as it does when
  // QPs break; where the device has less, what they do in working order fits.
  const TestPlan& plan = *options_.plan;
  const uint64_t all =
      uint64_t{plan.qps} * (plan.send_places + 1 + plan.receives);
  const int entries = static_cast<int>(
      std::min<uint64_t>(all, std::max(context_->limits().max_cqe, 1)));
  ND_ASSIGN_OR_RETURN(
      cq_, verbs::CompletionQueue::Create(context_, entries, channel));
  ND_ASSIGN_OR_RETURN(buffers_, Buffers::Create(pd_, plan, options_.client));
  return absl::OkStatus();
}

// What goes inline is a wish: a device that cannot gets smaller ones.
absl::StatusOr<std::unique_ptr<verbs::QueuePair>> Connections::CreateQp() {
  const TestPlan& plan = *options_.plan;
  uint32_t max_inline = plan.op.carries_data ? options_.spec.inline_bytes() : 0;
  if (plan.credit_every > 0) max_inline = std::max(max_inline, kCreditBytes);
  for (;;) {
    auto qp = verbs::QueuePair::Create(
        pd_, {.send_cq = cq_,
              .max_send_wr = plan.send_places,
              .max_recv_wr = std::max(plan.receives, 1u),
              .max_inline = max_inline,
              .max_unsignaled = plan.max_unsignaled});
    if (qp.ok() || max_inline == 0) return qp;
    max_inline /= 2;
  }
}

absl::Status Connections::CheckMtu(const verbs::CmId& id) const {
  if (options_.spec.mtu() == 0) return absl::OkStatus();
  ND_ASSIGN_OR_RETURN(const verbs::Port port,
                      context_->QueryPort(id.port_number()));
  if (options_.spec.mtu() <= port.active_mtu_bytes()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("mtu: ", options_.spec.mtu(), " is more than the ",
                   port.active_mtu_bytes(), " that port ",
                   int{id.port_number()}, " of ", context_->name(),
                   " has; a network interface with a larger MTU has more"));
}

// Everything but the handshake. Receives are posted before the peer can send,
// so that it never finds none.
absl::Status Connections::PrepareLink(uint32_t index,
                                      std::unique_ptr<verbs::CmId> id) {
  ND_RETURN_IF_ERROR(OpenDevice(id->device_name()));
  ND_RETURN_IF_ERROR(CheckMtu(*id));
  Link& link = links_[index];
  ND_ASSIGN_OR_RETURN(link.qp, CreateQp());
  link.id = std::move(id);
  if (options_.spec.ack_timeout() != 0) {
    ND_RETURN_IF_ERROR(link.id->SetAckTimeout(
        static_cast<uint8_t>(options_.spec.ack_timeout())));
  }
  ND_RETURN_IF_ERROR(link.id->PrepareQp(*link.qp, Tune()));
  const TestPlan& plan = *options_.plan;
  if (!plan.HasTarget(options_.client)) return absl::OkStatus();
  if (!options_.client && options_.spec.provoke() == v1::PROVOKE_NO_RECEIVES) {
    return absl::OkStatus();
  }
  Queue queue(index, *link.qp, *buffers_, plan);
  for (uint32_t i = 0; i < plan.receives; ++i) {
    ND_RETURN_IF_ERROR(queue.PostReceive(plan.SlotOf(i)));
  }
  return absl::OkStatus();
}

absl::Status Connections::ConnectOne(uint32_t index, const Target& target,
                                     const Deadline& deadline,
                                     const Cancellation* cancel) {
  ND_ASSIGN_OR_RETURN(std::unique_ptr<verbs::CmId> id,
                      verbs::CmId::Create(cm_channel_));
  if (options_.spec.type_of_service() != 0) {
    ND_RETURN_IF_ERROR(id->SetTypeOfService(
        static_cast<uint8_t>(options_.spec.type_of_service())));
  }
  ND_RETURN_IF_ERROR(id->Resolve(target.server, target.from, deadline, cancel));
  ND_RETURN_IF_ERROR(PrepareLink(index, std::move(id)));
  const auto hello =
      control::ConnectHello{.token = target.token, .index = index}.Encode();
  verbs::ConnectParams params = Params();
  params.private_data = hello;
  Link& link = links_[index];
  return control::ExplainRejection(
      link.id->Connect(*link.qp, params, Tune(), deadline, cancel).status());
}

absl::Status Connections::AcceptOne(control::Invitation& invitation,
                                    const Deadline& deadline,
                                    const Cancellation* cancel) {
  ND_ASSIGN_OR_RETURN(control::Invitation::Request request,
                      invitation.Next(deadline, cancel));
  if (request.index >= links_.size() || links_[request.index].id != nullptr) {
    return absl::InternalError(
        absl::StrCat("a request for connection ", request.index, " of ",
                     links_.size(), ", which was not to be let in"));
  }
  ND_RETURN_IF_ERROR(
      PrepareLink(request.index, std::move(request.event.request)));
  Link& link = links_[request.index];
  ND_RETURN_IF_ERROR(
      link.id->Accept(*link.qp, Params(), Tune(), deadline, cancel));
  return link.id->Migrate(cm_channel_);
}

verbs::ConnectParams Connections::Params() const {
  // CmId lowers it to what the devices have.
  const auto reads = static_cast<uint8_t>(
      std::clamp(options_.spec.depth(), 1u, kMaxReadDepth));
  verbs::ConnectParams params;
  params.responder_resources = reads;
  params.initiator_depth = reads;
  params.retry_count = static_cast<uint8_t>(options_.spec.retry_count());
  params.rnr_retry_count = static_cast<uint8_t>(RnrRetries(options_.spec));
  return params;
}

verbs::CmId::Tune Connections::Tune() const {
  return [&spec = options_.spec](ibv_qp_state to, ibv_qp_attr& attr) {
    if (to == IBV_QPS_RTR) {
      if (spec.mtu() != 0) attr.path_mtu = MtuCode(spec.mtu());
      attr.ah_attr.sl = static_cast<uint8_t>(spec.service_level());
      if (spec.type_of_service() != 0) {
        attr.ah_attr.grh.traffic_class =
            static_cast<uint8_t>(spec.type_of_service());
      }
    } else if (to == IBV_QPS_RTS) {
      attr.retry_cnt = static_cast<uint8_t>(spec.retry_count());
      attr.rnr_retry = static_cast<uint8_t>(RnrRetries(spec));
      if (spec.ack_timeout() != 0) {
        attr.timeout = static_cast<uint8_t>(spec.ack_timeout());
      }
    }
  };
}

std::vector<Queue> Connections::MakeQueues() const {
  std::vector<Queue> queues;
  queues.reserve(links_.size());
  for (uint32_t i = 0; i < links_.size(); ++i) {
    queues.emplace_back(i, *links_[i].qp, *buffers_, *options_.plan);
  }
  return queues;
}

absl::Status Connections::Watch(const Deadline& deadline,
                                const Cancellation* cancel) {
  for (;;) {
    ND_RETURN_IF_ERROR(HandleCmEvents());
    ND_RETURN_IF_ERROR(HandleAsyncEvents());
    ND_RETURN_IF_ERROR(WaitEitherReadable(
        cm_channel_->fd(), context_->async_fd(), deadline, cancel));
  }
}

absl::Status Connections::HandleCmEvents() {
  for (uint32_t i = 0; i < links_.size(); ++i) {
    for (;;) {
      ND_ASSIGN_OR_RETURN(const std::optional<verbs::CmEvent> event,
                          links_[i].id->PollEvent());
      if (!event.has_value()) break;
      switch (event->type) {
        case RDMA_CM_EVENT_ESTABLISHED:
        case RDMA_CM_EVENT_ADDR_CHANGE:
          continue;
        case RDMA_CM_EVENT_TIMEWAIT_EXIT:
        case RDMA_CM_EVENT_DISCONNECTED:
          links_[i].disconnected = true;
          break;
        default:
          break;
      }
      return event->ToStatus(absl::StrCat(
          "connection ", i + 1, " of ", links_.size(), ", ",
          links_[i].id->ToString(), " on device ", context_->name()));
    }
  }
  return absl::OkStatus();
}

absl::Status Connections::HandleAsyncEvents() {
  const Deadline now = Deadline::After(Duration::zero());
  for (;;) {
    const absl::StatusOr<verbs::AsyncEvent> event =
        context_->NextAsyncEvent(now, nullptr);
    if (absl::IsDeadlineExceeded(event.status())) return absl::OkStatus();
    if (!event.ok()) return event.status();
    ND_RETURN_IF_ERROR(Judge(*event));
  }
}

Connections::Link* Connections::Find(std::optional<uint32_t> qpn) {
  const auto found = std::ranges::find_if(links_, [&](const Link& link) {
    return qpn.has_value() && link.qp->qpn() == *qpn;
  });
  return found == links_.end() ? nullptr : &*found;
}

absl::Status Connections::Judge(const verbs::AsyncEvent& event) {
  Link* const link = Find(event.qpn);
  const std::string where =
      link != nullptr ? absl::StrCat("connection ", link->id->ToString())
                      : absl::StrCat("device ", context_->name());
  const verbs::Explanation& why = verbs::Explain(event.type);
  const std::string text = absl::StrCat(where, ": ", event.ToString(), ": ",
                                        why.meaning, "; likely: ", why.cause);
  switch (event.type) {
    case IBV_EVENT_COMM_EST:
      // Fails when the CM knows already, which is as well.
      if (link != nullptr) {
        link->id->NotifyCommunicationEstablished().IgnoreError();
      }
      return absl::OkStatus();
    case IBV_EVENT_DEVICE_FATAL:
      return absl::UnavailableError(text);
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_CQ_ERR:
      return absl::InternalError(text);
    default:
      // The port may come back, and the retries go on until then.
      return absl::OkStatus();
  }
}

void Connections::Disconnect(const Deadline& deadline) {
  // Best effort from here on: what fails is gone already, or goes with the
  // objects.
  for (Link& link : links_) link.id->Disconnect().IgnoreError();
  for (Link& link : links_) {
    link.qp->Drain(deadline, [](const verbs::Completion&) {}).IgnoreError();
  }
  for (Link& link : links_) {
    while (!link.disconnected) {
      const absl::StatusOr<verbs::CmEvent> event =
          link.id->NextEvent(deadline, nullptr);
      if (!event.ok()) return;
      link.disconnected = event->type == RDMA_CM_EVENT_DISCONNECTED ||
                          event->type == RDMA_CM_EVENT_TIMEWAIT_EXIT ||
                          event->type == RDMA_CM_EVENT_DEVICE_REMOVAL;
    }
  }
}

}  // namespace nd::ndping
