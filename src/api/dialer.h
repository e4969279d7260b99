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
#include "api/session_impl.h"
#include "base/clock.h"
#include "base/random.h"
#include "control/backoff.h"
#include "control/session_client.h"

namespace nd::api {

// Thread-safe.
class Dialer : public std::enable_shared_from_this<Dialer> {
 public:
  Dialer(transport::Hub& hub, std::unique_ptr<control::SessionClient> client);

  // Makes all connections, and from then on listens to the server.
  absl::Status DialAll(const std::shared_ptr<SessionImpl>& session,
                       const Deadline& deadline);
  // Does not block.
  void OnLinkFree(uint32_t link);
  // The session has no handle any more: tells the server. Does not block.
  void HangUp();

 private:
  absl::Status Dial(SessionImpl& session, control::LinkId link,
                    const control::LinkPass& pass, const Deadline& deadline);
  void DialAgain();
  absl::Status TryAgain(SessionImpl& session);
  void OnEvent(const control::SessionEvent& event);

  transport::Hub& hub_;
  std::unique_ptr<control::SessionClient> client_;
  std::unique_ptr<control::SessionWatch> watch_;
  absl::Mutex mutex_;
  std::weak_ptr<SessionImpl> session_ ABSL_GUARDED_BY(mutex_);
  std::set<uint32_t> lost_ ABSL_GUARDED_BY(mutex_);
  bool dialing_ ABSL_GUARDED_BY(mutex_) = false;
  SystemRandom random_;
  std::optional<control::Backoff> backoff_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace nd::api

#endif  // ND_API_DIALER_H_
