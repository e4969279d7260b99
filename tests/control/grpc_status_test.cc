#include "control/grpc_status.h"

#include <gtest/gtest.h>

namespace nd::control {
namespace {

class EveryCode : public ::testing::TestWithParam<int> {};

TEST_P(EveryCode, AndMessageComeThroughBothWays) {
  const absl::Status status(static_cast<absl::StatusCode>(GetParam()),
                            "qpn 0x11: \"no\"\n\x01 answer");
  const grpc::Status sent = ToGrpcStatus(status);
  EXPECT_EQ(sent.error_code(), GetParam());
  EXPECT_EQ(FromGrpcStatus(sent), status);
}

INSTANTIATE_TEST_SUITE_P(GrpcStatus, EveryCode, ::testing::Range(1, 17));

TEST(GrpcStatus, OkStaysOk) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
}

}  // namespace
}  // namespace nd::control
