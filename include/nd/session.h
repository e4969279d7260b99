// A session: two peers and the connections between them.
#ifndef ND_SESSION_H_
#define ND_SESSION_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nd/operation.h"
#include "nd/reactor.h"
#include "nd/stream.h"

namespace nd {

namespace api {
class SessionImpl;
}  // namespace api

// What a session is to be like. A server moves each wish into its limits.
struct SessionLayout {
  uint32_t latency_connections = 1;  // 1 to 16
  uint32_t bulk_connections = 1;     // 1 to 16
  uint32_t slots = 64;               // receives of each connection
  uint32_t slot_size = 8192;         // bytes of each; a multiple of 64
  // Longest message, in bytes, that travels in such a slot. Longer ones are
  // written by the device into their place.
  uint32_t eager_limit = 8160;
  bool digest = false;  // CRC32C over headers and payloads
  // A peer that is silent for so long is dead. Zero: never.
  std::chrono::nanoseconds keepalive = std::chrono::seconds(10);
  uint32_t stream_window = 256 << 10;  // unread bytes of a stream
  uint32_t max_streams = 64;           // open at a time, of each side
  uint64_t receive_budget = 64 << 20;  // bytes of long messages at a time
};

// Files in PEM; nothing set: no TLS.
struct TlsFiles {
  std::string ca{};           // whom to believe
  std::string certificate{};  // what this end shows,
  std::string key{};          // and its key
  std::string server_name{};  // client: in the certificate, if not the address
};

// Belongs to its reactor, which outlives it. May be used from any thread.
//
//   absl::StatusOr<nd::Session> session =
//       nd::Session::Connect(*reactor, "10.0.0.2:7600", {}, 5s);
//   absl::StatusOr<nd::Stream> stream =
//       session->Open(nd::StreamClass::kLatency, "rpc", 1s);
//
// The loss of one connection loses nothing: what was under way goes by another,
// and the connection is made anew.
class Session {
 public:
  struct Options {
    SessionLayout layout{};
    TlsFiles tls{};
    std::string name{};  // for people at the server's end
    // How long all connections may be lost. Within it everything goes on as if
    // nothing had been; behind it, and with zero at once, what is under way
    // ends with UNAVAILABLE.
    std::chrono::nanoseconds reconnect{};
  };

  // `server` is "host:port" of its control plane.
  static absl::StatusOr<Session> Connect(Reactor& reactor,
                                         std::string_view server,
                                         const Options& options,
                                         std::chrono::nanoseconds timeout);

  Session() = default;  // of nothing
  Session(Session&&) noexcept = default;
  Session& operator=(Session&&) noexcept = default;
  // What is under way ends with CANCELLED; for a peaceful end call Close.
  ~Session();

  explicit operator bool() const { return impl_ != nullptr; }
  std::string name() const;  // "session 00000000075bcd15 with 10.0.0.2:7600"
  const SessionLayout& layout() const;  // what holds

  // RESOURCE_EXHAUSTED: max_streams are open. `name` has at most 255 bytes.
  absl::StatusOr<Stream> Open(StreamClass stream_class, std::string_view name,
                              std::chrono::nanoseconds timeout);
  // One that the peer opened.
  absl::StatusOr<Stream> Accept(std::chrono::nanoseconds timeout);
  // The same as an operation; once it is done with OK, Take has the stream.
  void Accept(AcceptOperation& operation);
  Stream Take(AcceptOperation& operation);

  // Sends what was to be sent and ends the session, as soon as the peer has
  // sent what it was about to. What has arrived by then can still be received.
  // DEADLINE_EXCEEDED: the peer has not; the session goes on ending.
  absl::Status Close(std::chrono::nanoseconds timeout);

  // OK while it lasts; else why it ended: CANCELLED where it was closed.
  absl::Status status() const;
  // Where everything stands, in lines for people.
  std::string Describe() const;

  // Of nd's own rooms.
  explicit Session(std::shared_ptr<api::SessionImpl> impl);
  api::SessionImpl& impl() const { return *impl_; }

 private:
  std::shared_ptr<api::SessionImpl> impl_;
};

}  // namespace nd

#endif  // ND_SESSION_H_
