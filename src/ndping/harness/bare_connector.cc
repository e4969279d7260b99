#include "ndping/harness/bare_connector.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "control/rejection.h"
#include "control/token.h"
#include "verbs/cm.h"
#include "verbs/device.h"
#include "verbs/queue_pair.h"

namespace nd::ndping {
namespace {

// How a wait that ended without an event is told.
absl::Status Waited(const absl::Status& status, const verbs::CmId& id) {
  return Annotate(status, absl::StrCat("connection ", id.ToString(),
                                       ": waiting for the disconnect"));
}

class CmConnection final : public BareConnection {
 public:
  // `over`: the peer has disconnected.
  CmConnection(std::unique_ptr<verbs::CmId> id,
               std::unique_ptr<verbs::QueuePair> qp, bool over)
      : id_(std::move(id)), qp_(std::move(qp)), over_(over) {}

  absl::Status AwaitDisconnect(const Deadline& deadline,
                               const Cancellation* cancel) override {
    if (!over_) ND_RETURN_IF_ERROR(NextDisconnect(deadline, cancel));
    return id_->Disconnect();  // the answer
  }

  absl::Status Disconnect(const Deadline& deadline,
                          const Cancellation* cancel) override {
    ND_RETURN_IF_ERROR(id_->Disconnect());
    return NextDisconnect(deadline, cancel);
  }

 private:
  absl::Status NextDisconnect(const Deadline& deadline,
                              const Cancellation* cancel) {
    for (;;) {
      absl::StatusOr<verbs::CmEvent> event = id_->NextEvent(deadline, cancel);
      if (!event.ok()) return Waited(event.status(), *id_);
      if (event->type == RDMA_CM_EVENT_DISCONNECTED) return absl::OkStatus();
      // The end of timewait tells nothing, and ESTABLISHED may still be there.
      if (event->type != RDMA_CM_EVENT_TIMEWAIT_EXIT &&
          event->type != RDMA_CM_EVENT_ESTABLISHED) {
        return event->ToStatus(absl::StrCat("connection ", id_->ToString()));
      }
    }
  }

  const std::unique_ptr<verbs::CmId> id_;
  const std::unique_ptr<verbs::QueuePair> qp_;
  const bool over_;
};

verbs::ConnectParams ParamsOf(const v1::TestSpec& spec) {
  verbs::ConnectParams params;
  params.retry_count = static_cast<uint8_t>(spec.retry_count());
  params.rnr_retry_count = static_cast<uint8_t>(spec.rnr_retry_count());
  return params;
}

}  // namespace

absl::StatusOr<std::unique_ptr<verbs::QueuePair>> BareConnector::CreateQp(
    const std::string& device) {
  auto found = devices_.find(device);
  if (found == devices_.end()) {
    ND_ASSIGN_OR_RETURN(std::shared_ptr<verbs::Context> context,
                        verbs::Context::Open(device));
    Shared shared;
    ND_ASSIGN_OR_RETURN(shared.pd, verbs::ProtectionDomain::Create(context));
    ND_ASSIGN_OR_RETURN(shared.cq,
                        verbs::CompletionQueue::Create(context, 16, nullptr));
    found = devices_.emplace(device, std::move(shared)).first;
  }
  return verbs::QueuePair::Create(
      found->second.pd,
      {.send_cq = found->second.cq, .max_send_wr = 2, .max_recv_wr = 1});
}

absl::StatusOr<std::unique_ptr<BareConnection>> BareConnector::Connect(
    const v1::TestSpec& spec, const Dialer::Target& target, uint32_t index,
    const Deadline& deadline, const Cancellation* cancel) {
  ND_ASSIGN_OR_RETURN(std::unique_ptr<verbs::CmId> id, verbs::CmId::Create());
  if (spec.type_of_service() != 0) {
    ND_RETURN_IF_ERROR(
        id->SetTypeOfService(static_cast<uint8_t>(spec.type_of_service())));
  }
  ND_RETURN_IF_ERROR(id->Resolve(target.server, target.from, deadline, cancel));
  ND_ASSIGN_OR_RETURN(std::unique_ptr<verbs::QueuePair> qp,
                      CreateQp(id->device_name()));
  const auto hello =
      control::ConnectHello{.token = target.token, .index = index}.Encode();
  verbs::ConnectParams params = ParamsOf(spec);
  params.private_data = hello;
  const absl::StatusOr<verbs::CmEvent> established =
      id->Connect(*qp, params, nullptr, deadline, cancel);
  if (!established.ok()) {
    return control::ExplainRejection(established.status());
  }
  return std::make_unique<CmConnection>(std::move(id), std::move(qp),
                                        /*over=*/false);
}

absl::StatusOr<std::unique_ptr<BareConnection>> BareConnector::Accept(
    const v1::TestSpec& spec, control::Invitation::Request request,
    const Deadline& deadline, const Cancellation* cancel) {
  std::unique_ptr<verbs::CmId> id = std::move(request.event.request);
  ND_ASSIGN_OR_RETURN(std::unique_ptr<verbs::QueuePair> qp,
                      CreateQp(id->device_name()));
  const absl::Status accepted =
      id->Accept(*qp, ParamsOf(spec), nullptr, deadline, cancel);
  // A client that disconnects at once may do so before its RTU is seen here.
  // Whether the connection was good is the client's to say.
  const bool over = absl::IsUnavailable(accepted);
  if (!accepted.ok() && !over) return accepted;
  return std::make_unique<CmConnection>(std::move(id), std::move(qp), over);
}

}  // namespace nd::ndping
