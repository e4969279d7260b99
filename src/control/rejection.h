// What a client makes of a rejection by nd's listener.
#ifndef ND_CONTROL_REJECTION_H_
#define ND_CONTROL_REJECTION_H_

#include "absl/status/status.h"

namespace nd::control {

// When a listener of nd refused (EncodeReject): PERMISSION_DENIED, UNAVAILABLE
// if trying again may help, FAILED_PRECONDITION if the two versions do not go
// together; with its reason in words behind what `status` says. Any other
// status as it is.
absl::Status ExplainRejection(const absl::Status& status);

}  // namespace nd::control

#endif  // ND_CONTROL_REJECTION_H_
