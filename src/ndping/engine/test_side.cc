#include "ndping/engine/test_side.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "ndping/engine/bandwidth.h"
#include "ndping/engine/connections.h"
#include "ndping/engine/cq_reader.h"
#include "ndping/engine/latency.h"
#include "ndping/engine/message.h"
#include "ndping/engine/phase.h"
#include "ndping/engine/plan.h"
#include "ndping/engine/queue.h"

namespace nd::ndping {
namespace {

constexpr Duration kDisconnectLimit = std::chrono::seconds(2);

absl::Status CheckSizes(const v1::TestSpec& spec, const TestPlan& plan) {
  if (spec.sizes().empty()) {
    return absl::InvalidArgumentError("sizes: a test needs at least one");
  }
  for (const uint64_t size : spec.sizes()) {
    if (plan.op.is_atomic && size != sizeof(uint64_t)) {
      return absl::InvalidArgumentError(
          absl::StrCat("sizes: atomics work on 8 bytes, not ", size));
    }
    if (plan.ping_pong && !plan.op.takes_receive && size == 0) {
      return absl::InvalidArgumentError(
          "sizes: a WRITE of 0 bytes changes nothing that the peer could see");
    }
  }
  return absl::OkStatus();
}

class TestSideImpl final : public TestSide {
 public:
  // Makes the connections with `make`, which gets their options.
  template <typename Make>
  static absl::StatusOr<std::unique_ptr<TestSide>> Create(
      const Options& options, Make make) {
    ND_ASSIGN_OR_RETURN(TestPlan plan,
                        TestPlan::Make(options.spec, options.max_memory));
    ND_RETURN_IF_ERROR(CheckSizes(options.spec, plan));
    auto side = absl::WrapUnique(new TestSideImpl(options, plan));
    ND_ASSIGN_OR_RETURN(side->connections_, make(side->ConnectionOptions()));
    side->queues_ = side->connections_->MakeQueues();
    ND_ASSIGN_OR_RETURN(
        side->reader_,
        CqReader::Create(side->connections_->cq(), options.spec.cq_mode()));
    return side;
  }

  v1::Layout layout() const override {
    v1::Layout layout;
    for (const Queue& queue : queues_) *layout.add_queues() = queue.Offer();
    return layout;
  }

  absl::Status SetPeerLayout(const v1::Layout& layout) override;
  absl::Status Prepare(uint32_t index) override;
  absl::StatusOr<v1::PhaseReport> Run(uint32_t index, PhaseControl& control,
                                      Histogram* latencies) override;

  absl::Status WatchConnections(const Deadline& deadline,
                                const Cancellation* cancel) override {
    return connections_->Watch(deadline, cancel);
  }

  void Disconnect() override {
    connections_->Disconnect(Deadline::After(kDisconnectLimit));
  }

 private:
  TestSideImpl(const Options& options, const TestPlan& plan)
      : options_(options), plan_(plan) {}

  Connections::Options ConnectionOptions() const {
    return {.spec = options_.spec, .plan = &plan_, .client = options_.client};
  }
  absl::Status CheckIndex(uint32_t index) const;

  const Options options_;
  const TestPlan plan_;
  std::unique_ptr<Connections> connections_;
  std::vector<Queue> queues_;
  std::unique_ptr<CqReader> reader_;
};

// Both sides plan the same slots, so their layouts can only differ if one of
// them is of another version or was given other limits.
absl::Status TestSideImpl::SetPeerLayout(const v1::Layout& layout) {
  if (layout.queues_size() != static_cast<int>(queues_.size())) {
    return absl::FailedPreconditionError(
        absl::StrCat("the peer's layout is of ", layout.queues_size(),
                     " QPs, the test has ", queues_.size()));
  }
  const uint64_t wanted =
      plan_.HasTarget(!options_.client) ? plan_.area_bytes() : 0;
  const bool wrong_rkey =
      options_.client && options_.spec.provoke() == v1::PROVOKE_WRONG_RKEY;
  for (Queue& queue : queues_) {
    const v1::Layout::Queue& offer =
        layout.queues(static_cast<int>(queue.index()));
    if (offer.data().length() != wanted ||
        offer.credits().length() != sizeof(uint64_t)) {
      return absl::FailedPreconditionError(
          absl::StrCat("qp ", queue.index(), ": the peer offers ",
                       offer.data().length(), " bytes where this side plans ",
                       wanted, "; are both of the same version?"));
    }
    queue.Take(offer, wrong_rkey);
  }
  return absl::OkStatus();
}

absl::Status TestSideImpl::CheckIndex(uint32_t index) const {
  if (index < static_cast<uint32_t>(options_.spec.sizes_size())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "phase ", index, " of a test with ", options_.spec.sizes_size()));
}

absl::Status TestSideImpl::Prepare(uint32_t index) {
  ND_RETURN_IF_ERROR(CheckIndex(index));
  for (const Queue& queue : queues_) {
    PrepareQueue(options_.spec, plan_, options_.client, index, queue);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::PhaseReport> TestSideImpl::Run(uint32_t index,
                                                  PhaseControl& control,
                                                  Histogram* latencies) {
  ND_RETURN_IF_ERROR(CheckIndex(index));
  VerbsPhase phase{{.spec = options_.spec,
                    .plan = plan_,
                    .client = options_.client,
                    .index = index,
                    .size = options_.spec.sizes(static_cast<int>(index)),
                    .control = control},
                   queues_,
                   *reader_};
  absl::StatusOr<v1::PhaseReport> report =
      plan_.latency ? RunLatency(phase, latencies) : RunBandwidth(phase);
  // A responder may see that it refused a request, end, and have this side
  // cancelled, all before this side sees the refusal: it is what went wrong.
  if (!absl::IsCancelled(report.status())) return report;
  return reader_->AwaitCause(report.status());
}

}  // namespace

absl::StatusOr<std::unique_ptr<TestSide>> TestSide::Connect(
    const Options& options, const verbs::SocketAddress& server,
    const std::optional<verbs::SocketAddress>& from,
    const control::Token& token, const Deadline& deadline,
    const Cancellation* cancel) {
  return TestSideImpl::Create(
      options, [&](const Connections::Options& connections) {
        return Connections::Connect(
            connections, {.server = server, .from = from, .token = token},
            deadline, cancel);
      });
}

absl::StatusOr<std::unique_ptr<TestSide>> TestSide::Accept(
    const Options& options, control::Invitation& invitation,
    const Deadline& deadline, const Cancellation* cancel) {
  return TestSideImpl::Create(
      options, [&](const Connections::Options& connections) {
        return Connections::Accept(connections, invitation, deadline, cancel);
      });
}

}  // namespace nd::ndping
