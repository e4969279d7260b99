// Where a test's connections come from, as the Run protocol sees it: the seam
// that lets the protocol be tested where there is no RDMA device.
#ifndef ND_NDPING_HARNESS_RECEPTION_H_
#define ND_NDPING_HARNESS_RECEPTION_H_

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

// A connection of a connect test, which moves no data. Destroying it
// disconnects without waiting. One thread at a time.
class BareConnection {
 public:
  virtual ~BareConnection() = default;

  // Waits until the peer disconnects, and answers.
  virtual absl::Status AwaitDisconnect(const Deadline& deadline,
                                       const Cancellation* cancel) = 0;
  // Disconnects and waits for the peer's answer.
  virtual absl::Status Disconnect(const Deadline& deadline,
                                  const Cancellation* cancel) = 0;
};

// Server: the client of one test, who may make the connections agreed. One
// thread at a time.
class Guest {
 public:
  virtual ~Guest() = default;

  virtual std::string token() const = 0;
  // TCP, where the session of a test over one is opened; else 0.
  virtual uint16_t session_port() const { return 0; }
  virtual absl::StatusOr<std::unique_ptr<TestSide>> Accept(
      const TestSide::Options& options, const Deadline& deadline,
      const Cancellation* cancel) = 0;
  virtual absl::StatusOr<std::unique_ptr<BareConnection>> AcceptBare(
      const v1::TestSpec& spec, const Deadline& deadline,
      const Cancellation* cancel) = 0;
};

// Server: where connections arrive. Thread-safe.
class Reception {
 public:
  // The real one: an rdma_cm listener.
  static absl::StatusOr<std::unique_ptr<Reception>> Open(
      const verbs::SocketAddress& address);

  virtual ~Reception() = default;

  virtual absl::StatusOr<std::unique_ptr<Guest>> Invite(
      uint32_t connections) = 0;
  // For a test over a session.
  virtual absl::StatusOr<std::unique_ptr<Guest>> InviteSession(
      const v1::TestSpec& spec, uint64_t max_memory) = 0;
  virtual verbs::SocketAddress address() const = 0;  // with the port
  virtual uint64_t accepted() const = 0;
  virtual uint64_t rejected() const = 0;
};

// Client: makes connections. One test at a time.
class Dialer {
 public:
  static std::unique_ptr<Dialer> Create();

  virtual ~Dialer() = default;

  struct Target {
    verbs::SocketAddress server;
    std::optional<verbs::SocketAddress> from;
    control::Token token;
    uint16_t session_port = 0;  // of a test over a session
  };
  virtual absl::StatusOr<std::unique_ptr<TestSide>> Connect(
      const TestSide::Options& options, const Target& target,
      const Deadline& deadline, const Cancellation* cancel) = 0;
  virtual absl::StatusOr<std::unique_ptr<BareConnection>> ConnectBare(
      const v1::TestSpec& spec, const Target& target, uint32_t index,
      const Deadline& deadline, const Cancellation* cancel) = 0;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_HARNESS_RECEPTION_H_
