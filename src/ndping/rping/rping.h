// The ping-pong of rping and krping, both sides; neither needs ndping at the
// other end. Of each ping:
//
//   client                                server
//   SEND advert of the source        ->
//                                    <-   RDMA READ of the source
//                                    <-   SEND go-ahead
//   SEND advert of the sink          ->
//                                    <-   RDMA WRITE of what was read
//                                    <-   SEND go-ahead
//   compare sink and source
//
// rping itself takes 23 to 65535 bytes as a client (-S), and as a server no
// more than its own -S says, 64 bytes by default; krping takes 1 to 128 KiB.
#ifndef ND_NDPING_RPING_RPING_H_
#define ND_NDPING_RPING_RPING_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/histogram.h"
#include "base/wait.h"
#include "verbs/address.h"
#include "verbs/completion_waiter.h"

namespace nd::ndping {

inline constexpr uint16_t kDefaultRpingPort = 7174;
inline constexpr uint32_t kMaxRpingSize = 64u << 20;  // bytes

// One ping that came back.
struct RpingPing {
  uint64_t sequence = 0;  // from 0
  uint32_t bytes = 0;
  // From the first SEND to the last go-ahead. 0 at the server.
  uint64_t round_trip_ns = 0;
  // The data's first 64 characters, if asked for, '.' for each that is not
  // printable.
  std::string text = {};
};

// Told of pings, from the thread that runs them.
class RpingObserver {
 public:
  virtual ~RpingObserver() = default;
  virtual void OnPing(const RpingPing& ping) { (void)ping; }
  virtual void OnConnected(const std::string& connection) { (void)connection; }
};

struct RpingClientOptions {
  verbs::SocketAddress server;
  std::optional<verbs::SocketAddress> from = std::nullopt;  // by the route
  uint64_t count = 0;   // 0: until interrupted
  uint32_t size = 64;   // 1 to kMaxRpingSize
  Duration interval{};  // between the starts of two pings; 0: none
  bool validate = false;
  bool want_text = false;  // fill RpingPing::text
  uint8_t tos = 0;
  verbs::WaitMode wait = verbs::WaitMode::kAdaptive;
  Duration connect_timeout = std::chrono::seconds(10);
  // For each step of the peer's, and 1 us more for each byte of the ping.
  Duration step_timeout = std::chrono::seconds(10);
};

// What was measured until the end, whatever the end was.
struct RpingResult {
  // OK also when interrupted; DATA_LOSS when a ping came back wrong; otherwise
  // what broke, with the peer and the step that did not come.
  absl::Status status;
  std::string connection;    // "10.98.0.1:40001 -> 10.98.0.2:7174"
  uint64_t transmitted = 0;  // pings begun
  uint64_t received = 0;     // pings that came back
  uint64_t mismatched = 0;   // of those, wrong ones
  uint64_t elapsed_ns = 0;   // from the connection's start to the last ping
  Histogram round_trips;     // nanoseconds
  bool interrupted = false;
};

// Runs a client in the calling thread. `interrupt` lets a ping that is under
// way come back, for a second at most, and disconnects.
RpingResult RunRpingClient(const RpingClientOptions& options,
                           const Cancellation& interrupt,
                           RpingObserver& observer);

// Serves rping and krping clients, a thread for each. What a bad client does
// ends its own connection only, with a line in the log.
class RpingServer {
 public:
  struct Options {
    verbs::SocketAddress address;  // the wildcard: every device
    uint32_t max_clients = 32;     // at a time; those beyond are rejected
    // Largest ping served. At worst max_clients buffers of it are registered.
    uint32_t max_size = kMaxRpingSize;
    uint64_t serve = 0;  // end after so many clients; 0: when stopped
    bool want_text = false;
    verbs::WaitMode wait = verbs::WaitMode::kAdaptive;
    Duration accept_timeout = std::chrono::seconds(10);
    Duration step_timeout = std::chrono::seconds(10);
    Duration idle_timeout = std::chrono::minutes(5);  // between two pings
    // How long a ping that is under way may take when stopped.
    Duration stop_grace = std::chrono::seconds(1);
  };
  struct Counters {
    uint64_t clients = 0;   // whose requests came, the rejected ones too
    uint64_t rejected = 0;  // for max_clients
    uint64_t failed = 0;    // connections that ended otherwise than by a
                            // disconnect between two pings
    uint64_t pings = 0;
  };

  // ALREADY_EXISTS when another server listens there.
  static absl::StatusOr<std::unique_ptr<RpingServer>> Create(
      const Options& options);
  virtual ~RpingServer() = default;

  virtual const verbs::SocketAddress& address() const = 0;  // with the port
  virtual Counters counters() const = 0;                    // thread-safe

  // Serves until `stop`, or options.serve; then every connection has ended.
  // `observer` is called by many threads at once and may be null. With
  // options.serve = 1 the status is that of the one connection.
  virtual absl::Status Serve(const Cancellation& stop,
                             RpingObserver* observer) = 0;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_RPING_RPING_H_
