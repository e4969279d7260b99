#include "ndping/harness/reception.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "control/connection_broker.h"
#include "ndping/harness/bare_connector.h"
#include "ndping/message/session_side.h"

namespace nd::ndping {
namespace {

class RdmaGuest final : public Guest {
 public:
  explicit RdmaGuest(std::unique_ptr<control::Invitation> invitation)
      : invitation_(std::move(invitation)) {}

  std::string token() const override { return invitation_->token().bytes(); }

  absl::StatusOr<std::unique_ptr<TestSide>> Accept(
      const TestSide::Options& options, const Deadline& deadline,
      const Cancellation* cancel) override {
    return TestSide::Accept(options, *invitation_, deadline, cancel);
  }

  absl::StatusOr<std::unique_ptr<BareConnection>> AcceptBare(
      const v1::TestSpec& spec, const Deadline& deadline,
      const Cancellation* cancel) override {
    absl::StatusOr<control::Invitation::Request> request =
        invitation_->Next(deadline, cancel);
    if (!request.ok()) {
      return Annotate(request.status(),
                      "no connection request with the test's token came");
    }
    return connector_.Accept(spec, *std::move(request), deadline, cancel);
  }

 private:
  const std::unique_ptr<control::Invitation> invitation_;
  BareConnector connector_;
};

// Of a test over a session.
class SessionGuest final : public Guest {
 public:
  SessionGuest(std::unique_ptr<SessionInvitation> invitation,
               std::atomic<uint64_t>& accepted)
      : invitation_(std::move(invitation)), accepted_(accepted) {}

  std::string token() const override { return invitation_->token().bytes(); }
  uint16_t session_port() const override { return invitation_->port(); }

  absl::StatusOr<std::unique_ptr<TestSide>> Accept(
      const TestSide::Options& options, const Deadline& deadline,
      const Cancellation* cancel) override {
    ND_ASSIGN_OR_RETURN(std::unique_ptr<TestSide> side,
                        invitation_->Accept(options, deadline, cancel));
    accepted_ += uint64_t{2} * options.spec.session().connections();
    return side;
  }

  absl::StatusOr<std::unique_ptr<BareConnection>> AcceptBare(
      const v1::TestSpec&, const Deadline&, const Cancellation*) override {
    return absl::FailedPreconditionError(
        "a session has no connections without data");
  }

 private:
  const std::unique_ptr<SessionInvitation> invitation_;
  std::atomic<uint64_t>& accepted_;
};

class RdmaReception final : public Reception {
 public:
  explicit RdmaReception(std::shared_ptr<control::ConnectionBroker> broker)
      : broker_(std::move(broker)) {}

  absl::StatusOr<std::unique_ptr<Guest>> Invite(uint32_t connections) override {
    ND_ASSIGN_OR_RETURN(std::unique_ptr<control::Invitation> invitation,
                        broker_->Invite(connections));
    return std::make_unique<RdmaGuest>(std::move(invitation));
  }
  absl::StatusOr<std::unique_ptr<Guest>> InviteSession(
      const v1::TestSpec& spec, uint64_t max_memory) override {
    ND_ASSIGN_OR_RETURN(
        std::unique_ptr<SessionInvitation> invitation,
        SessionInvitation::Create({.host = broker_->address().host(),
                                   .spec = spec,
                                   .max_memory = max_memory}));
    return std::make_unique<SessionGuest>(std::move(invitation), accepted_);
  }
  verbs::SocketAddress address() const override { return broker_->address(); }
  uint64_t accepted() const override { return broker_->accepted() + accepted_; }
  uint64_t rejected() const override { return broker_->rejected(); }

 private:
  const std::shared_ptr<control::ConnectionBroker> broker_;
  std::atomic<uint64_t> accepted_{0};  // of sessions
};

class RdmaDialer final : public Dialer {
 public:
  absl::StatusOr<std::unique_ptr<TestSide>> Connect(
      const TestSide::Options& options, const Target& target,
      const Deadline& deadline, const Cancellation* cancel) override {
    if (options.spec.has_session()) {
      verbs::SocketAddress server = target.server;
      server.set_port(target.session_port);
      return ConnectSession(options, server, target.from, target.token,
                            deadline, cancel);
    }
    return TestSide::Connect(options, target.server, target.from, target.token,
                             deadline, cancel);
  }

  absl::StatusOr<std::unique_ptr<BareConnection>> ConnectBare(
      const v1::TestSpec& spec, const Target& target, uint32_t index,
      const Deadline& deadline, const Cancellation* cancel) override {
    return connector_.Connect(spec, target, index, deadline, cancel);
  }

 private:
  BareConnector connector_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Reception>> Reception::Open(
    const verbs::SocketAddress& address) {
  control::ConnectionBroker::Options options;
  options.listener.address = address;
  absl::StatusOr<std::shared_ptr<control::ConnectionBroker>> broker =
      control::ConnectionBroker::Create(options);
  if (!broker.ok()) {
    return Annotate(broker.status(),
                    absl::StrCat("rdma_cm port ", address.ToString()));
  }
  return std::make_unique<RdmaReception>(*std::move(broker));
}

std::unique_ptr<Dialer> Dialer::Create() {
  return std::make_unique<RdmaDialer>();
}

}  // namespace nd::ndping
