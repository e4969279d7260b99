// The server's half of the control plane: nd.v1.Control, over a host that makes
// the sessions.
#ifndef ND_CONTROL_SESSION_SERVICE_H_
#define ND_CONTROL_SESSION_SERVICE_H_

#include <grpcpp/impl/service_type.h>

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
#include "control/layout.h"
#include "control/link_inviter.h"
#include "control/session.h"
#include "control/session_table.h"

namespace nd::control {

// Who has the sessions: the transport implements it. Called from several
// threads of gRPC's at a time, which it must not hold up. Open comes first of a
// session; what was under way when it ended may still come behind Closed, and
// is answered with an error. May call the service from within a call, except
// Close.
class SessionHost {
 public:
  virtual ~SessionHost() = default;

  // A session is wanted. What was checked already: the layout, which holds, and
  // the number of sessions. The requests of its links come from the LinkInviter
  // later. `done`, from any thread and exactly once, also after Close: the
  // session is there, or why not.
  struct Opening {
    uint64_t session = 0;
    std::string client;       // "10.0.0.1:40001", for people
    std::string client_name;  // what it calls itself, for people
    uint32_t version = 0;
    SessionLayout layout;
  };
  virtual void Open(const Opening& opening,
                    std::function<void(absl::Status)> done) = 0;

  // The client says how its end of a link is laid out; the host says its own.
  // `link` has the current incarnation; the request of its connection may come
  // before or after. `done` as above.
  virtual void ExchangeLayout(
      uint64_t session, LinkId link, const LinkLayout& client,
      std::function<void(absl::StatusOr<LinkLayout>)> done) = 0;

  // The client has lost these links; it is about to make them again with these
  // incarnations. An error refuses that.
  virtual absl::Status Reconnect(uint64_t session,
                                 std::span<const LinkId> links) = 0;

  // The client published a region, or took it back: begin nothing new on it.
  virtual void RegionPublished(uint64_t /*session*/, absl::string_view /*name*/,
                               const Region& /*region*/) {}
  virtual void RegionWithdrawn(uint64_t /*session*/, absl::string_view /*name*/,
                               const Region& /*region*/) {}

  // The session is no more, for each that Open said is there: its client closed
  // it, End was called, its set-up took too long, or the service was closed.
  virtual void Closed(uint64_t session, const absl::Status& why) = 0;
};

// Thread-safe. Register service() with a GrpcServer, which has to end before
// this does. Whoever owns it calls Reap every second or so.
class SessionService {
 public:
  struct Options {
    LayoutLimits limits;
    SessionTable::Options sessions;  // how many of what
    Random* random = nullptr;        // null: the system's
    const Clock* clock = &Clock::Monotonic();
  };
  // `inviter` and `host` outlive it. INVALID_ARGUMENT as CheckLimits.
  static absl::StatusOr<std::unique_ptr<SessionService>> Create(
      const Options& options, LinkInviter& inviter, SessionHost& host);
  ~SessionService();  // closes it

  grpc::Service* service();
  static std::string name();  // "nd.v1.Control", for health checking

  // Regions of the server's. Those of kEverySession are seen by every session
  // that has none of that name for itself. Withdraw tells the clients.
  static constexpr uint64_t kEverySession = 0;
  absl::StatusOr<uint64_t> Publish(uint64_t session, absl::string_view name,
                                   const Region& region);
  absl::Status Withdraw(uint64_t session, absl::string_view name);
  // A region that the session's client published.
  absl::StatusOr<Region> Lookup(uint64_t session, absl::string_view name);

  // New sessions are refused from now on, and clients hear that theirs are to
  // be closed; that is then the caller's to do, by Close, after `grace`.
  void Drain(absl::string_view why, Duration grace);
  // Ends a session: its client hears why, the host gets Closed. NOT_FOUND.
  absl::Status End(uint64_t session, const absl::Status& why);
  // Ends the sessions whose set-up takes too long.
  void Reap();
  // Ends all with UNAVAILABLE and takes no more.
  void Close();

  struct Statistics {
    uint64_t opened = 0;        // sessions, ever
    uint64_t refused = 0;       // OpenSession calls, for any reason
    uint64_t sessions = 0;      // now
    uint64_t set_ups = 0;       // of these, not all links made yet
    uint64_t most_set_ups = 0;  // at a time
  };
  Statistics statistics() const;

 private:
  class Impl;
  explicit SessionService(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace nd::control

#endif  // ND_CONTROL_SESSION_SERVICE_H_
