#include "control/rejection.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "control/token.h"
#include "verbs/cm.h"

namespace nd::control {

absl::Status ExplainRejection(const absl::Status& status) {
  const std::optional<verbs::CmRejection> rejection =
      verbs::RejectionOf(status);
  if (!rejection.has_value()) return status;
  const std::optional<RejectReason> reason =
      ParseReject(rejection->private_data);
  if (!reason.has_value()) return status;
  const bool may_pass =
      *reason == RejectReason::kBusy || *reason == RejectReason::kShuttingDown;
  return absl::Status(
      may_pass ? absl::StatusCode::kUnavailable
               : absl::StatusCode::kPermissionDenied,
      absl::StrCat(status.message(), "; the server says: ", ToString(*reason)));
}

}  // namespace nd::control
