#include "soft/net/device_fds.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <vector>

#include "soft/net/bench.h"

namespace nd::soft {
namespace {

Fd OpenNull() { return Fd(open("/dev/null", O_RDWR | O_CLOEXEC)); }
bool IsOpen(int fd) { return fcntl(fd, F_GETFD) != -1; }

std::vector<int> OwnBetween(unsigned first, unsigned last) {
  std::vector<int> found;
  DeviceFds::ForEachOwn(first, last, [&found](int fd) { found.push_back(fd); });
  return found;
}

TEST(OwnFd, IsOwnAsLongAsItIsOpen) {
  int number = -1;
  {
    const OwnFd own(OpenNull());
    number = own.get();
    EXPECT_TRUE(DeviceFds::IsOwn(number));
    EXPECT_TRUE(IsOpen(number));
    const auto fd = static_cast<unsigned>(number);
    EXPECT_EQ(OwnBetween(fd, fd), std::vector<int>{number});
    EXPECT_TRUE(OwnBetween(fd + 1, fd + 1).empty());
  }
  EXPECT_FALSE(DeviceFds::IsOwn(number));
  EXPECT_FALSE(IsOpen(number));
}

TEST(OwnFd, IsOutOfTheWayOfTheProgramsNumbers) {
  const Fd plain = OpenNull();
  const OwnFd own(OpenNull());
  EXPECT_GE(own.get(), 512);
  EXPECT_LT(plain.get(), 512);
  EXPECT_TRUE((fcntl(own.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST(OwnFd, IsTheProgramsInAChild) {
  const OwnFd own(OpenNull());
  Child child([&own] {
    if (DeviceFds::IsOwn(own.get())) _exit(1);
    const OwnFd of_child(OpenNull());
    const bool right =
        DeviceFds::IsOwn(of_child.get()) && !DeviceFds::IsOwn(own.get());
    _exit(right ? 0 : 2);
  });
  EXPECT_EQ(child.Wait(), 0);
}

TEST(ShownFd, ClosesWhatIsItsOwn) {
  int number = -1;
  {
    const ShownFd shown(OpenNull());
    number = shown.get();
    EXPECT_TRUE(shown.open());
  }
  EXPECT_FALSE(IsOpen(number));
}

// The program has closed it, and its number may be another file's.
TEST(ShownFd, LeavesAloneWhatTheProgramClosed) {
  Fd null = OpenNull();
  const int number = null.get();
  {
    const ShownFd shown(std::move(null));
    DeviceFds::Forget(number);
    EXPECT_FALSE(shown.open());
  }
  EXPECT_TRUE(IsOpen(number));
  close(number);
}

}  // namespace
}  // namespace nd::soft
