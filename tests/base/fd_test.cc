#include "base/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <utility>

namespace nd {
namespace {

int OpenNull() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }
bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(Fd, ClosesWhatItHolds) {
  const int raw = OpenNull();
  { const Fd fd(raw); }

  EXPECT_FALSE(IsOpen(raw));
}

TEST(Fd, MovePassesOwnershipOn) {
  const int raw = OpenNull();
  Fd first(raw);
  const Fd second(std::move(first));

  EXPECT_EQ(second.get(), raw);
  EXPECT_TRUE(IsOpen(raw));
}

TEST(Fd, AssignmentOfATemporaryClosesTheOldOne) {
  const int raw = OpenNull();
  Fd fd(raw);
  fd = Fd();

  EXPECT_FALSE(fd.valid());
  EXPECT_FALSE(IsOpen(raw));
}

}  // namespace
}  // namespace nd
