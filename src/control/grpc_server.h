// A gRPC server as nd runs it: health checking, reflection, dead peers noticed.
#ifndef ND_CONTROL_GRPC_SERVER_H_
#define ND_CONTROL_GRPC_SERVER_H_

#include <grpcpp/impl/service_type.h>
#include <grpcpp/server.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "control/credentials.h"
#include "verbs/address.h"

namespace nd::control {

// Serves until it is shut down or destroyed. Thread-safe.
//
// Health checking says SERVING for "" and for each service; reflection lists
// them all. Threads are bounded: synchronous methods (reflection) share
// max_threads, callback methods run in gRPC's own pool.
class GrpcServer {
 public:
  struct Options {
    verbs::SocketAddress address;          // port 0: any
    std::vector<grpc::Service*> services;  // outlive the server
    std::vector<std::string> names;        // "nd.v1.Harness", for health
    Credentials credentials;               // none: no TLS
    // Without TLS anybody who reaches the port may use the services, so such a
    // server listens at a loopback address only, unless this is set.
    bool allow_insecure_remote = false;
    int max_threads = 4;
    int max_streams = 64;  // calls at a time of one connection
  };
  // A port that is taken is an error that names it: two servers never share
  // one. FAILED_PRECONDITION where others could reach a server without TLS.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const Options& options);

  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  const verbs::SocketAddress& address() const { return address_; }

  // Takes no new calls, waits `grace` for those that run, then cancels them.
  void Shutdown(Duration grace);

 private:
  GrpcServer(std::unique_ptr<grpc::Server> server,
             const verbs::SocketAddress& address);

  const std::unique_ptr<grpc::Server> server_;
  const verbs::SocketAddress address_;
};

}  // namespace nd::control

#endif  // ND_CONTROL_GRPC_SERVER_H_
