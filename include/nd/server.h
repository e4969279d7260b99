// A server: lets peers open sessions.
#ifndef ND_SERVER_H_
#define ND_SERVER_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nd/reactor.h"
#include "nd/session.h"

namespace nd {

// Thread-safe. Its reactors outlive it and its sessions.
//
//   absl::StatusOr<std::unique_ptr<nd::Server>> server =
//       nd::Server::Start({reactor.get()}, {.address = "10.0.0.2:7600"});
//   absl::StatusOr<nd::Session> session = (*server)->Accept(60s);
class Server {
 public:
  struct Options {
    // Of the control plane (gRPC). Port 0: any that is free. rdma_cm listens at
    // the same host, at a port of its own choice.
    std::string address = "127.0.0.1:0";
    TlsFiles tls{};
    // Without TLS only peers of this host may open sessions, unless this is
    // set.
    bool allow_insecure_remote = false;
    size_t max_sessions = 4096;
    // Of all sessions together.
    uint64_t send_memory = uint64_t{4} << 30;
    uint64_t receive_memory = uint64_t{4} << 30;
    // As Session::Options has it.
    std::chrono::nanoseconds reconnect{};
    // Takes the sessions, each on the thread of its reactor; else they wait for
    // Accept.
    std::function<void(Session)> on_session{};
  };

  // Sessions are given to the reactors in turn. FAILED_PRECONDITION: this host
  // has no RDMA device. ALREADY_EXISTS: the port is taken.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      std::vector<Reactor*> reactors, const Options& options);
  // The sessions that still are end with UNAVAILABLE at both ends, and so does
  // what is under way on them: close them first for a peaceful end.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::string address() const;  // of the control plane, with its port

  // From now on new sessions are refused with UNAVAILABLE, and clients hear
  // that theirs are to end (SessionEvent). Those there are go on until either
  // side ends them; `grace` says how long this one means to wait, if it does.
  void Drain(std::chrono::nanoseconds grace = {});

  // The next session that a peer has opened.
  absl::StatusOr<Session> Accept(std::chrono::nanoseconds timeout);

 private:
  class Impl;
  explicit Server(std::shared_ptr<Impl> impl);
  const std::shared_ptr<Impl> impl_;
};

}  // namespace nd

#endif  // ND_SERVER_H_
