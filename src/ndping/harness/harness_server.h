// The long-running server of ndping's tests: many clients, each with its own
// options.
#ifndef ND_NDPING_HARNESS_HARNESS_SERVER_H_
#define ND_NDPING_HARNESS_HARNESS_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/wait.h"
#include "nd/v1/harness.pb.h"

namespace nd::ndping {

class HarnessServer {
 public:
  struct Options {
    std::string address = "0.0.0.0";  // of both gRPC and rdma_cm
    uint16_t port = 7470;             // gRPC (TCP)
    uint16_t rdma_port = 7471;        // rdma_cm
    v1::Limits limits;                // DefaultLimits() and the flags
  };
  static v1::Limits DefaultLimits();

  // Listens on both ports; an error says which one is taken.
  static absl::StatusOr<std::unique_ptr<HarnessServer>> Start(
      const Options& options);
  virtual ~HarnessServer() = default;

  virtual std::string grpc_endpoint() const = 0;
  virtual std::string rdma_endpoint() const = 0;

  // Serves until `stop`; tests that run then end with UNAVAILABLE, "the server
  // is shutting down".
  virtual absl::Status Serve(const Cancellation& stop) = 0;
};

// INVALID_ARGUMENT names the field, RESOURCE_EXHAUSTED the limit. Both sides
// call it: the client with the limits that the server told.
absl::Status CheckSpec(const v1::TestSpec& spec, const v1::Limits& limits);

}  // namespace nd::ndping

#endif  // ND_NDPING_HARNESS_HARNESS_SERVER_H_
