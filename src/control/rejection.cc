#include "control/rejection.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "control/token.h"
#include "verbs/cm.h"

namespace nd::control {

namespace {

absl::StatusCode CodeOf(RejectReason reason) {
  switch (reason) {
    case RejectReason::kBusy:
    case RejectReason::kShuttingDown:
      return absl::StatusCode::kUnavailable;
    case RejectReason::kUnknownVersion:
      return absl::StatusCode::kFailedPrecondition;
    case RejectReason::kNoHello:
    case RejectReason::kUnknownToken:
    case RejectReason::kUsedToken:
    case RejectReason::kBadIndex:
    case RejectReason::kOtherSession:
    case RejectReason::kOldIncarnation:
      return absl::StatusCode::kPermissionDenied;
  }
  return absl::StatusCode::kPermissionDenied;  // of a later version
}

}  // namespace

absl::Status ExplainRejection(const absl::Status& status) {
  const std::optional<verbs::CmRejection> rejection =
      verbs::RejectionOf(status);
  if (!rejection.has_value()) return status;
  const std::optional<RejectReason> reason =
      ParseReject(rejection->private_data);
  if (!reason.has_value()) return status;
  return absl::Status(
      CodeOf(*reason),
      absl::StrCat(status.message(), "; the server says: ", ToString(*reason)));
}

}  // namespace nd::control
