// The client's half of the control plane: opens a session at a server and
// speaks for it.
#ifndef ND_CONTROL_SESSION_CLIENT_H_
#define ND_CONTROL_SESSION_CLIENT_H_

#include <grpcpp/channel.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/wait.h"
#include "control/backoff.h"
#include "control/session.h"
#include "control/set_up_limit.h"

namespace nd::control {

// A Watch that runs; it ends when this is destroyed, which waits for a callback
// that runs and must not be done from one.
class SessionWatch {
 public:
  virtual ~SessionWatch() = default;
};

// A session that a server has opened. Thread-safe. Each call blocks until its
// answer, its deadline (DEADLINE_EXCEEDED) or its cancellation (CANCELLED; may
// be null); an error names the call and the server. Destroying it does not
// close the session: who has no more time leaves that to the keepalive.
class SessionClient {
 public:
  struct Options {
    // MakeChannel(server). Sessions may share one; each Watch then takes one of
    // the calls that the server lets a connection have (GrpcServer::Options).
    std::shared_ptr<grpc::Channel> channel;
    // What the channel reaches: for errors, and where rdma_cm connects if the
    // server names no other address.
    verbs::SocketAddress server;
    std::string name;  // for people; at most 255 bytes

    // A server that is busy with set-ups is asked again after a pause, for as
    // long as the deadline lets it. This side, too, does so many at a time: a
    // set-up lasts from Open until each link's ExchangeLayout has succeeded, or
    // the SessionClient is destroyed.
    Backoff::Options backoff{};
    SetUpLimit* set_ups = &SetUpLimit::OfProcess();
    Random* random = nullptr;  // of the pauses; null: the system's
    // Sleeps; fails with CANCELLED. Null: in real time.
    std::function<absl::Status(Duration, const Cancellation*)> pause{};
  };

  // RESOURCE_EXHAUSTED with what the server said, and how often it was asked,
  // when it was busy all the time.
  static absl::StatusOr<std::unique_ptr<SessionClient>> Open(
      const Options& options, const SessionLayout& wish,
      const Deadline& deadline, const Cancellation* cancel);
  virtual ~SessionClient() = default;

  virtual uint64_t id() const = 0;
  virtual uint32_t version() const = 0;
  virtual const SessionLayout& layout() const = 0;  // what holds
  virtual const LinkPass& pass() const = 0;         // for the first links

  // A pass for these links, with their next incarnations.
  virtual absl::StatusOr<LinkPass> Reconnect(std::span<const uint32_t> links,
                                             const Deadline& deadline,
                                             const Cancellation* cancel) = 0;

  // Tells the server how this end of a link is laid out, and returns the
  // server's, which passes CheckLinkLayout.
  virtual absl::StatusOr<LinkLayout> ExchangeLayout(
      LinkId link, const LinkLayout& own, const Deadline& deadline,
      const Cancellation* cancel) = 0;

  // The region's id, which region.id must leave open (0).
  virtual absl::StatusOr<uint64_t> PublishRegion(
      absl::string_view name, const Region& region, const Deadline& deadline,
      const Cancellation* cancel) = 0;
  virtual absl::Status WithdrawRegion(absl::string_view name,
                                      const Deadline& deadline,
                                      const Cancellation* cancel) = 0;
  // One that the server published, which passes CheckRegion.
  virtual absl::StatusOr<Region> LookupRegion(absl::string_view name,
                                              const Deadline& deadline,
                                              const Cancellation* cancel) = 0;

  // Returns when the server has begun to tell. The functions are called one
  // after another on a thread of gRPC's; `on_end` once and last, unless the
  // watch is destroyed before: OK behind SessionClosed, else why it broke.
  virtual absl::StatusOr<std::unique_ptr<SessionWatch>> Watch(
      std::function<void(const SessionEvent&)> on_event,
      std::function<void(const absl::Status&)> on_end, const Deadline& deadline,
      const Cancellation* cancel) = 0;

  virtual absl::Status Close(const absl::Status& why, const Deadline& deadline,
                             const Cancellation* cancel) = 0;
};

}  // namespace nd::control

#endif  // ND_CONTROL_SESSION_CLIENT_H_
