// One side of a test whose messages go over a session's streams.
#ifndef ND_NDPING_MESSAGE_SESSION_SIDE_H_
#define ND_NDPING_MESSAGE_SESSION_SIDE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/wait.h"
#include "control/token.h"
#include "ndping/engine/test_side.h"
#include "verbs/address.h"

namespace nd::ndping {

// Client: opens the session at `server`, its control plane, and the test's
// streams in it, behind one that shows `token`.
absl::StatusOr<std::unique_ptr<TestSide>> ConnectSession(
    const TestSide::Options& options, const verbs::SocketAddress& server,
    const std::optional<verbs::SocketAddress>& from,
    const control::Token& token, const Deadline& deadline,
    const Cancellation* cancel);

// Server: where the client of one test opens its session. It has a reactor of
// its own, which runs as the test says, and a token; a session whose first
// stream does not begin with that is closed. One thread at a time.
class SessionInvitation {
 public:
  struct Options {
    std::string host;  // where its control plane and rdma_cm listen
    v1::TestSpec spec;
    uint64_t max_memory = 0;  // bytes of buffers of each kind
  };
  static absl::StatusOr<std::unique_ptr<SessionInvitation>> Create(
      const Options& options);
  virtual ~SessionInvitation() = default;

  virtual const control::Token& token() const = 0;
  virtual uint16_t port() const = 0;  // of the control plane

  // Once; the side has all that this has from then on.
  virtual absl::StatusOr<std::unique_ptr<TestSide>> Accept(
      const TestSide::Options& options, const Deadline& deadline,
      const Cancellation* cancel) = 0;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_MESSAGE_SESSION_SIDE_H_
