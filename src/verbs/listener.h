// Accepts connection requests at one address and port.
#ifndef ND_VERBS_LISTENER_H_
#define ND_VERBS_LISTENER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/wait.h"
#include "verbs/address.h"
#include "verbs/cm.h"

namespace nd::verbs {

// It survives what peers do: a request that vanished fails in Accept alone, one
// beyond `backlog` is rejected, and when its device goes away it listens again
// as soon as it can. Used by one thread at a time.
class Listener {
 public:
  struct Options {
    // Port 0: any that is free. 0.0.0.0: every device, by IPv4; [::]: every
    // device, by IPv6 and IPv4, whatever net.ipv6.bindv6only says.
    SocketAddress address;
    // Requests that may wait for Next. Each call of Next rejects those beyond,
    // with this private data for the client's RejectionOf. The kernel holds up
    // to 1024 between two calls and rejects others by itself, without data.
    int backlog = 128;
    std::vector<std::byte> busy_private_data = {};
  };

  // ALREADY_EXISTS when another server listens there.
  static absl::StatusOr<std::unique_ptr<Listener>> Create(Options options);

  // The next request, with its private data in the event; it has a channel of
  // its own, so it can be handed to another thread. DEADLINE_EXCEEDED or
  // CANCELLED when none came; without a message, unless it is because the
  // device is away. RESOURCE_EXHAUSTED when a request had to be rejected for
  // want of file descriptors.
  absl::StatusOr<CmEvent> Next(const Deadline& deadline,
                               const Cancellation* cancel);

  // Readable when Next may have a request. While the device is away only calls
  // of Next bring the listener back, so call it every second or so as well.
  int fd() const { return channel_->fd(); }
  const SocketAddress& address() const { return address_; }  // with the port

  // Requests rejected because the backlog was full. Thread-safe.
  uint64_t refused() const { return refused_; }

 private:
  Listener(Options options, std::shared_ptr<CmEventChannel> channel);

  absl::Status Open();
  absl::Status Reopen(const Deadline& deadline, const Cancellation* cancel);

  const Options options_;
  const std::shared_ptr<CmEventChannel> channel_;
  std::atomic<uint64_t> refused_{0};
  std::unique_ptr<CmId> id_;  // null while the device is away
  SocketAddress address_;
  Duration backoff_{};  // until the next attempt to listen again
  Deadline retry_at_;
};

}  // namespace nd::verbs

#endif  // ND_VERBS_LISTENER_H_
