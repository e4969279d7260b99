#include "soft/net/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace nd::soft {
namespace {

constexpr size_t kBytes = 8192;

Fd Memory(size_t bytes, int seals) {
  Fd fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
  EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

TEST(SharedMemory, IsSharedWithWhoAdoptsIt) {
  auto memory = SharedMemory::Create(kBytes);
  ASSERT_TRUE(memory.ok()) << memory.status();
  const auto other = SharedMemory::Adopt(Fd(dup(memory->fd())), kBytes);
  ASSERT_TRUE(other.ok()) << other.status();
  memory->bytes()[kBytes - 1] = std::byte{7};
  EXPECT_EQ(other->bytes().size(), kBytes);
  EXPECT_EQ(other->bytes()[kBytes - 1], std::byte{7});
}

TEST(SharedMemory, ItsSizeCannotChange) {
  const auto memory = SharedMemory::Create(kBytes);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_NE(ftruncate(memory->fd(), 0), 0);
  EXPECT_NE(ftruncate(memory->fd(), 2 * kBytes), 0);
}

TEST(SharedMemory, WhatCanChangeItsSizeIsNotAdopted) {
  for (const int seals : {0, F_SEAL_SHRINK, F_SEAL_GROW | F_SEAL_SEAL,
                          F_SEAL_SHRINK | F_SEAL_GROW}) {
    EXPECT_EQ(
        SharedMemory::Adopt(Memory(kBytes, seals), kBytes).status().code(),
        absl::StatusCode::kPermissionDenied)
        << seals;
  }
}

TEST(SharedMemory, WhatHasNoSizeOrTooLargeAOneIsNotAdopted) {
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  EXPECT_FALSE(SharedMemory::Adopt(Memory(0, kSeals), kBytes).ok());
  EXPECT_FALSE(SharedMemory::Adopt(Memory(kBytes + 1, kSeals), kBytes).ok());
}

TEST(SharedMemory, WhatIsNoMemoryIsNotAdopted) {
  EXPECT_FALSE(SharedMemory::Adopt(Fd(open("/dev/null", O_RDWR)), kBytes).ok());
  EXPECT_FALSE(SharedMemory::Adopt(Fd(), kBytes).ok());
}

}  // namespace
}  // namespace nd::soft
