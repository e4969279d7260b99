#include "base/wait.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

namespace nd {
namespace {

using std::chrono::seconds;

TEST(Wait, CancelEndsAWaitWithCancelled) {
  auto cancel = Cancellation::Create();
  ASSERT_TRUE(cancel.ok());
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const Fd reader(pipe_fds[0]), writer(pipe_fds[1]);

  cancel->Cancel();

  EXPECT_EQ(
      WaitReadable(reader.get(), Deadline::After(seconds(60)), &*cancel).code(),
      absl::StatusCode::kCancelled);
}

TEST(Wait, PassedDeadlineEndsAWait) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const Fd reader(pipe_fds[0]), writer(pipe_fds[1]);

  EXPECT_EQ(
      WaitReadable(reader.get(), Deadline::After(seconds(0)), nullptr).code(),
      absl::StatusCode::kDeadlineExceeded);
}

TEST(Wait, ReadableFdIsReportedEvenAfterTheDeadline) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const Fd reader(pipe_fds[0]), writer(pipe_fds[1]);
  ASSERT_EQ(write(writer.get(), "x", 1), 1);

  EXPECT_TRUE(
      WaitReadable(reader.get(), Deadline::After(seconds(0)), nullptr).ok());
}

TEST(Wait, CancelledWaitIsCancelledEvenIfTheFdIsReadable) {
  auto cancel = Cancellation::Create();
  ASSERT_TRUE(cancel.ok());
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const Fd reader(pipe_fds[0]), writer(pipe_fds[1]);
  ASSERT_EQ(write(writer.get(), "x", 1), 1);

  cancel->Cancel();

  EXPECT_EQ(
      WaitReadable(reader.get(), Deadline::After(seconds(60)), &*cancel).code(),
      absl::StatusCode::kCancelled);
}

TEST(Wait, CancelFromAnotherThreadWakesASleepingWait) {
  auto cancel = Cancellation::Create();
  ASSERT_TRUE(cancel.ok());
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const Fd reader(pipe_fds[0]), writer(pipe_fds[1]);

  std::jthread canceller([&] { cancel->Cancel(); });

  EXPECT_EQ(
      WaitReadable(reader.get(), Deadline::After(seconds(60)), &*cancel).code(),
      absl::StatusCode::kCancelled);
}

TEST(Wait, ClosedPeerEndsAWait) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const Fd reader(pipe_fds[0]);
  { const Fd writer(pipe_fds[1]); }

  EXPECT_TRUE(
      WaitReadable(reader.get(), Deadline::After(seconds(60)), nullptr).ok());
}

TEST(Wait, FdThatIsNotOpenIsAnError) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  { const Fd reader(pipe_fds[0]), writer(pipe_fds[1]); }

  EXPECT_EQ(
      WaitReadable(pipe_fds[0], Deadline::After(seconds(60)), nullptr).code(),
      absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(WaitReadable(-1, Deadline::After(seconds(60)), nullptr).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(Cancellation, StaysCancelledAcrossAMove) {
  auto cancel = Cancellation::Create();
  ASSERT_TRUE(cancel.ok());
  cancel->Cancel();

  const Cancellation moved(*std::move(cancel));

  EXPECT_TRUE(moved.cancelled());
  EXPECT_TRUE(
      WaitReadable(moved.fd(), Deadline::After(seconds(0)), nullptr).ok());
}

TEST(SetNonBlocking, ReadOfAnEmptyPipeDoesNotBlock) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const Fd reader(pipe_fds[0]), writer(pipe_fds[1]);

  ASSERT_TRUE(SetNonBlocking(reader.get()).ok());

  char byte;
  EXPECT_EQ(read(reader.get(), &byte, 1), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST(Wait, EitherOfTwoEndsAWait) {
  int a[2], b[2];
  ASSERT_EQ(pipe(a), 0);
  ASSERT_EQ(pipe(b), 0);
  const Fd a0(a[0]), a1(a[1]), b0(b[0]), b1(b[1]);
  const Deadline passed = Deadline::After(seconds(0));
  EXPECT_EQ(WaitEitherReadable(a[0], b[0], passed, nullptr).code(),
            absl::StatusCode::kDeadlineExceeded);
  ASSERT_EQ(write(b[1], "x", 1), 1);
  EXPECT_TRUE(WaitEitherReadable(a[0], b[0], passed, nullptr).ok());
  EXPECT_TRUE(WaitEitherReadable(b[0], a[0], passed, nullptr).ok());
  EXPECT_EQ(WaitEitherReadable(a[0], -1, passed, nullptr).code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace nd
