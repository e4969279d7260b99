// The one place where absl::Status and grpc::Status meet.
#ifndef ND_CONTROL_GRPC_STATUS_H_
#define ND_CONTROL_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace nd::control {

// Code and message come through unchanged; payloads stay at home.
grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace nd::control

#endif  // ND_CONTROL_GRPC_STATUS_H_
