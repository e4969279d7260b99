#include "base/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/cord.h"

namespace nd {
namespace {

using absl::StatusCode;

TEST(ErrnoStatus, NamesTheCallAndTheMeaningOfErrno) {
  const absl::Status status = ErrnoStatus(ENOMEM, "ibv_reg_mr");

  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "ibv_reg_mr: Cannot allocate memory");
}

TEST(ErrnoStatus, MapsWhatVerbsCallsReturn) {
  EXPECT_EQ(ErrnoStatus(EINVAL, "x").code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ErrnoStatus(ENOENT, "x").code(), StatusCode::kNotFound);
  EXPECT_EQ(ErrnoStatus(ENODEV, "x").code(), StatusCode::kNotFound);
  EXPECT_EQ(ErrnoStatus(EPERM, "x").code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(ErrnoStatus(EAGAIN, "x").code(), StatusCode::kUnavailable);
  EXPECT_EQ(ErrnoStatus(ETIMEDOUT, "x").code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ErrnoStatus(ECONNREFUSED, "x").code(), StatusCode::kUnavailable);
}

TEST(ErrnoStatus, UnsupportedIsUnimplemented) {
  EXPECT_EQ(ErrnoStatus(EOPNOTSUPP, "ibv_alloc_mw").code(),
            StatusCode::kUnimplemented);
  EXPECT_EQ(ErrnoStatus(ENOSYS, "ibv_alloc_mw").message(),
            "ibv_alloc_mw: not supported");
}

TEST(ErrnoStatus, IsNeverOk) {
  const absl::Status status = ErrnoStatus(0, "ibv_create_qp");

  EXPECT_EQ(status.code(), StatusCode::kUnknown);
  EXPECT_EQ(status.message(), "ibv_create_qp: failed without an errno");
}

TEST(Annotate, PutsTheContextBeforeTheMessage) {
  const absl::Status status =
      Annotate(absl::NotFoundError("no route"), "peer 10.0.0.2:9999");

  EXPECT_EQ(status, absl::NotFoundError("peer 10.0.0.2:9999: no route"));
}

TEST(Annotate, IsTheWholeMessageIfThereWasNone) {
  EXPECT_EQ(Annotate(absl::CancelledError(), "connect"),
            absl::CancelledError("connect"));
}

TEST(Annotate, LeavesOkAlone) {
  EXPECT_TRUE(Annotate(absl::OkStatus(), "connect").ok());
}

TEST(Annotate, KeepsPayloads) {
  absl::Status status = absl::AbortedError("rejected");
  status.SetPayload("nd/reject", absl::Cord("28"));

  EXPECT_EQ(Annotate(status, "connect").GetPayload("nd/reject"),
            absl::Cord("28"));
}

absl::Status StepThen(absl::Status step, int& steps) {
  ND_RETURN_IF_ERROR(std::move(step));
  ++steps;
  return absl::OkStatus();
}

TEST(ReturnIfError, ReturnsTheErrorAndGoesOnWhenOk) {
  int steps = 0;

  EXPECT_EQ(StepThen(absl::AbortedError("a"), steps), absl::AbortedError("a"));
  EXPECT_EQ(steps, 0);
  EXPECT_TRUE(StepThen(absl::OkStatus(), steps).ok());
  EXPECT_EQ(steps, 1);
}

absl::StatusOr<std::string> TextOf(absl::StatusOr<int> number) {
  ND_RETURN_IF_ERROR(number);
  return std::to_string(*number);
}

TEST(ReturnIfError, TakesAndReturnsStatusOr) {
  EXPECT_EQ(TextOf(7).value(), "7");
  EXPECT_EQ(TextOf(absl::AbortedError("a")).status(), absl::AbortedError("a"));
}

absl::StatusOr<int> SumOf(absl::StatusOr<std::unique_ptr<int>> a,
                          absl::StatusOr<std::unique_ptr<int>> b) {
  ND_ASSIGN_OR_RETURN(const std::unique_ptr<int> first, std::move(a));
  ND_ASSIGN_OR_RETURN(const std::unique_ptr<int> second, std::move(b));
  return *first + *second;
}

TEST(AssignOrReturn, MovesTheValueOutOrReturnsTheError) {
  EXPECT_EQ(SumOf(std::make_unique<int>(3), std::make_unique<int>(4)).value(),
            7);
  EXPECT_EQ(
      SumOf(std::make_unique<int>(3), absl::AbortedError("second")).status(),
      absl::AbortedError("second"));
}

}  // namespace
}  // namespace nd
