// A session: two peers and the connections between them.
#ifndef ND_SESSION_H_
#define ND_SESSION_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nd/memory.h"
#include "nd/operation.h"
#include "nd/reactor.h"
#include "nd/region.h"
#include "nd/statistics.h"
#include "nd/stream.h"

namespace nd {

namespace api {
class SessionImpl;
}  // namespace api

// How a message up to the eager limit reaches the peer.
enum class EagerMode {
  kSend,  // by SEND into a receive, where it stays until it is dropped
  kRing,  // by RDMA WRITE into a ring of the peer's, out of which it is copied
};

// What a session is to be like. A server moves each wish into its limits.
struct SessionLayout {
  uint32_t latency_connections = 1;  // 1 to 16
  uint32_t bulk_connections = 1;     // 1 to 16
  uint32_t slots = 64;               // receives of each connection
  uint32_t slot_size = 8192;         // bytes of each; a multiple of 64
  // Longest message, in bytes, that travels in such a slot. Longer ones are
  // written by the device into their place.
  uint32_t eager_limit = 8160;
  EagerMode eager_mode = EagerMode::kSend;
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

// What a client hears of its server.
struct SessionEvent {
  enum class Kind {
    kDraining,         // it takes no new sessions, and this one is to end soon
    kRegionWithdrawn,  // a region that Lookup gave is no more
  };
  Kind kind = Kind::kDraining;
  // Of kDraining: how long the server means to wait. Zero: it did not say.
  std::chrono::nanoseconds grace{};
  std::string region{};  // of kRegionWithdrawn: its name
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
    // The local address, and with it the device, of its connections; empty: by
    // the route. A numeric one.
    std::string from{};
    // How long all connections may be lost. Within it everything goes on as if
    // nothing had been; behind it, and with zero at once, what is under way
    // ends with UNAVAILABLE.
    std::chrono::nanoseconds reconnect{};
    // Called on the reactor's thread, where it must not block, with what the
    // server tells, in its order; of withdrawn regions with those that this
    // side has a RemoteRegion of, which says so by then. It may be called
    // before Connect has returned. Once the connection to the control plane is
    // lost nothing more is told, and the session goes on.
    std::function<void(const SessionEvent&)> on_event{};
  };

  // `server` is "host:port" of its control plane.
  static absl::StatusOr<Session> Connect(Reactor& reactor,
                                         std::string_view server,
                                         const Options& options,
                                         std::chrono::nanoseconds timeout);

  Session() = default;  // of nothing
  Session(Session&&) noexcept = default;
  Session& operator=(Session&& other) noexcept;
  // What is under way ends with CANCELLED; for a peaceful end call Close.
  // on_event is not called any more: this waits for a call that runs in another
  // thread.
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

  // Registers memory for what this session sends from it and receives into it.
  // RESOURCE_EXHAUSTED: it cannot be pinned.
  absl::StatusOr<RegisteredMemory> Register(std::span<std::byte> memory,
                                            MemoryUse use);

  // Lets the peer, and no other session's, access this memory by name, at most
  // 255 bytes. ALREADY_EXISTS: there is a region of that name.
  // RESOURCE_EXHAUSTED: the memory cannot be pinned.
  absl::StatusOr<Region> Publish(std::string_view name,
                                 std::span<std::byte> memory,
                                 const RegionAccess& access,
                                 std::chrono::nanoseconds timeout);
  // One that the peer has published. NOT_FOUND: there is none.
  absl::StatusOr<RemoteRegion> Lookup(std::string_view name,
                                      std::chrono::nanoseconds timeout);

  // A read, a write or an atomic on a region of the peer's.
  void Access(AccessOperation& operation);
  // Waits for the reactor where that is another thread's.
  void Cancel(AccessOperation& operation);
  // Waits until it is done, and returns its status; OK for one that was never
  // started.
  absl::Status Await(const Operation& operation);

  // The same, waiting; DEADLINE_EXCEEDED ends the wait with nothing under way.
  absl::Status Read(const RemoteRegion& region, uint64_t offset,
                    std::span<std::byte> into,
                    std::chrono::nanoseconds timeout);
  absl::Status Write(const RemoteRegion& region, uint64_t offset,
                     std::span<const std::byte> from,
                     std::chrono::nanoseconds timeout);
  // What was there before.
  absl::StatusOr<uint64_t> FetchAdd(const RemoteRegion& region, uint64_t offset,
                                    uint64_t add,
                                    std::chrono::nanoseconds timeout);
  absl::StatusOr<uint64_t> CompareSwap(const RemoteRegion& region,
                                       uint64_t offset, uint64_t expected,
                                       uint64_t desired,
                                       std::chrono::nanoseconds timeout);

  // Sends what was to be sent and ends the session, as soon as the peer has
  // sent what it was about to. What has arrived by then can still be received.
  // DEADLINE_EXCEEDED: the peer has not; the session goes on ending.
  absl::Status Close(std::chrono::nanoseconds timeout);

  // OK while it lasts; else why it ended: CANCELLED where it was closed.
  absl::Status status() const;
  // Waits for the reactor where that is another thread's.
  SessionStatistics statistics() const;
  // Where everything stands, and the statistics, in lines for people.
  std::string Describe() const;

  // Of nd's own rooms.
  explicit Session(std::shared_ptr<api::SessionImpl> impl);
  api::SessionImpl& impl() const { return *impl_; }

 private:
  std::shared_ptr<api::SessionImpl> impl_;
};

}  // namespace nd

#endif  // ND_SESSION_H_
