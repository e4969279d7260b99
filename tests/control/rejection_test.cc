#include "control/rejection.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "control/token.h"
#include "verbs/cm.h"

namespace nd::control {
namespace {

// What Connect returns after a REJ with that private data, padded as it comes.
absl::Status RejectedWith(std::span<const std::byte> data) {
  verbs::CmEvent event;
  event.type = RDMA_CM_EVENT_REJECTED;
  event.status = 28;
  event.private_data.resize(verbs::kMaxRejectData);
  std::ranges::copy(data, event.private_data.begin());
  return event.ToStatus("connecting to 10.98.0.2:7471");
}

TEST(ExplainRejection, SaysTheListenersReason) {
  const absl::Status status =
      ExplainRejection(RejectedWith(EncodeReject(RejectReason::kUnknownToken)));
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_NE(status.message().find("connecting to 10.98.0.2:7471"),
            absl::string_view::npos);
  EXPECT_NE(status.message().find("the token was never given out"),
            absl::string_view::npos);
}

TEST(ExplainRejection, ABusyListenerMayBeAskedAgain) {
  EXPECT_EQ(
      ExplainRejection(RejectedWith(EncodeReject(RejectReason::kBusy))).code(),
      absl::StatusCode::kUnavailable);
}

TEST(ExplainRejection, AnotherVersionIsNoMatterOfPermission) {
  EXPECT_EQ(ExplainRejection(
                RejectedWith(EncodeReject(RejectReason::kUnknownVersion)))
                .code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(ExplainRejection, ReasonOfALaterVersionIsARefusalAllTheSame) {
  const absl::Status status =
      ExplainRejection(RejectedWith(EncodeReject(RejectReason{200})));
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_NE(status.message().find("a reason that this version does not know"),
            absl::string_view::npos);
}

TEST(ExplainRejection, LeavesOthersAlone) {
  const absl::Status foreign = RejectedWith({});
  EXPECT_EQ(ExplainRejection(foreign), foreign);
  EXPECT_EQ(ExplainRejection(absl::NotFoundError("route")),
            absl::NotFoundError("route"));
}

}  // namespace
}  // namespace nd::control
