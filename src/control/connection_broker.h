// The rdma_cm listener of a server: lets in who was invited over gRPC.
#ifndef ND_CONTROL_CONNECTION_BROKER_H_
#define ND_CONTROL_CONNECTION_BROKER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/wait.h"
#include "control/link_inviter.h"
#include "control/token.h"
#include "verbs/cm.h"
#include "verbs/listener.h"

namespace nd::control {

class Invitation;

// Owns the listener and a thread that reads its requests: those with a valid
// token go to their Invitation, or, for a session's links, to on_link; the
// others are rejected with a reason and counted (admission.h has the rule).
// Thread-safe.
class ConnectionBroker final : public LinkInviter {
 public:
  struct LinkRequest {
    verbs::CmEvent event;  // event.request is the id to accept
    uint64_t session = 0;
    LinkId link;
  };
  struct Options {
    verbs::Listener::Options listener;
    // Counted from the invitation, or from the last request that it let in.
    Duration token_lifetime = std::chrono::seconds(30);
    size_t max_invitations = 1024;
    // Takes the requests for links, on the broker's thread, which it must not
    // hold up. The session may just have been closed. Dropping a request
    // rejects it. Without this function nobody is invited to links.
    std::function<void(LinkRequest)> on_link{};
    Random* random = nullptr;  // null: the system's
    const Clock* clock = &Clock::Monotonic();
  };
  static absl::StatusOr<std::shared_ptr<ConnectionBroker>> Create(
      const Options& options);

  // Rejects what waits and what comes; Invitation::Next then is UNAVAILABLE.
  ~ConnectionBroker() override;

  // Invites `connections` connections, each index once. Ends when the
  // Invitation is destroyed; the token can be used for token_lifetime.
  absl::StatusOr<std::unique_ptr<Invitation>> Invite(uint32_t connections);

  absl::StatusOr<LinkPass> InviteLinks(uint64_t session,
                                       std::span<const LinkId> links) override;
  void WithdrawLinks(uint64_t session) override;

  verbs::SocketAddress address() const;  // with the port
  uint64_t accepted() const;
  uint64_t rejected() const;

 private:
  friend class Invitation;
  class Impl;
  explicit ConnectionBroker(std::shared_ptr<Impl> impl);
  const std::shared_ptr<Impl> impl_;
};

// The requests of those who were invited. Used by one thread at a time; keeps
// its broker's state alive. Requests that were not taken are rejected when it
// is destroyed.
class Invitation {
 public:
  ~Invitation();

  const Token& token() const { return token_; }

  struct Request {
    verbs::CmEvent event;  // event.request is the id to accept
    uint32_t index = 0;
  };
  // DEADLINE_EXCEEDED and CANCELLED have no message.
  absl::StatusOr<Request> Next(const Deadline& deadline,
                               const Cancellation* cancel);

 private:
  friend class ConnectionBroker;
  Invitation(std::shared_ptr<ConnectionBroker::Impl> broker, uint64_t id,
             const Token& token);

  const std::shared_ptr<ConnectionBroker::Impl> broker_;
  const uint64_t id_;
  const Token token_;
};

}  // namespace nd::control

#endif  // ND_CONTROL_CONNECTION_BROKER_H_
