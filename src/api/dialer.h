// The client's half of a session's life: dials its connections, and dials those
// again that were lost.
#ifndef ND_API_DIALER_H_
#define ND_API_DIALER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "api/regions.h"
#include "api/session_impl.h"
#include "base/clock.h"
#include "base/random.h"
#include "control/backoff.h"
#include "control/session_client.h"
#include "verbs/address.h"

namespace nd::api {

// Thread-safe.
class Dialer final : public RegionDirectory,
                     public std::enable_shared_from_this<Dialer> {
 public:
  // `from`: the local address of the connections; nothing: by the route.
  Dialer(transport::Hub& hub, std::unique_ptr<control::SessionClient> client,
         const std::optional<verbs::SocketAddress>& from);

  // Makes all connections, and from then on listens to the server.
  absl::Status DialAll(const std::shared_ptr<SessionImpl>& session,
                       const Deadline& deadline);
  // Does not block.
  void OnLinkFree(uint32_t link);
  absl::StatusOr<uint64_t> Publish(absl::string_view name,
                                   const control::Region& region,
                                   const Deadline& deadline) override {
    return client_->PublishRegion(name, region, deadline, nullptr);
  }
  absl::Status Withdraw(absl::string_view name,
                        const Deadline& deadline) override {
    return client_->WithdrawRegion(name, deadline, nullptr);
  }
  absl::StatusOr<control::Region> Lookup(absl::string_view name,
                                         const Deadline& deadline) override {
    return client_->LookupRegion(name, deadline, nullptr);
  }

  // The session has no handle any more: tells the server. Does not block.
  void HangUp();

 private:
  absl::Status Dial(SessionImpl& session, control::LinkId link,
                    const control::LinkPass& pass, const Deadline& deadline);
  absl::Status DialFirst(SessionImpl& session, const Deadline& deadline);
  void DialAgainAt(Instant when) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DialAgain(const std::shared_ptr<SessionImpl>& session);
  absl::Status TryAgain(SessionImpl& session, const Deadline& deadline);
  absl::Status DialLost(SessionImpl& session, const control::LinkPass& pass,
                        const Deadline& deadline);
  absl::Status Watch(const Deadline& deadline);
  void WatchLater();
  void WatchAgain(const std::shared_ptr<SessionImpl>& session);
  // Unless the session has ended by then.
  void RunAt(Instant when,
             void (Dialer::*work)(const std::shared_ptr<SessionImpl>&));
  std::shared_ptr<SessionImpl> CurrentSession();
  void OnEvent(const control::SessionEvent& event);

  transport::Hub& hub_;
  const std::optional<verbs::SocketAddress> from_;
  std::unique_ptr<control::SessionClient> client_;
  absl::Mutex mutex_;
  std::unique_ptr<control::SessionWatch> watch_ ABSL_GUARDED_BY(mutex_);
  bool hung_up_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Duration> drain_told_ ABSL_GUARDED_BY(mutex_);  // its grace
  std::weak_ptr<SessionImpl> session_ ABSL_GUARDED_BY(mutex_);
  std::set<uint32_t> lost_ ABSL_GUARDED_BY(mutex_);
  bool dialing_ ABSL_GUARDED_BY(mutex_) = false;
  SystemRandom random_;
  std::optional<control::Backoff> backoff_ ABSL_GUARDED_BY(mutex_);
  std::optional<control::Backoff> watch_backoff_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace nd::api

#endif  // ND_API_DIALER_H_
