#include "base/wait.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>

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

  EXPECT_EQ(WaitReadable(reader.get(), Deadline::After(seconds(0)), nullptr)
                .code(),
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

}  // namespace
}  // namespace nd
