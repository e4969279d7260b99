// Huge pages that the system keeps ready. The guest is a machine that a test
// may tell to keep some.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <optional>

#include "transport/memory/fake_registrar.h"
#include "transport/memory/registered_pool.h"

namespace nd::transport {
namespace {

constexpr size_t kHuge = MappedMemory::kHugePage;

// Says how many the system keeps, until the test is over.
class ReservedHugePages : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream(kFile) >> before_;
    ASSERT_GE(before_, 0);
    Reserve(4);
  }
  void TearDown() override { Reserve(before_); }

  static void Reserve(int pages) {
    std::ofstream(kFile) << pages << std::flush;
    int now = -1;
    std::ifstream(kFile) >> now;
    ASSERT_EQ(now, pages) << "set " << kFile;
  }

 private:
  static constexpr char kFile[] = "/proc/sys/vm/nr_hugepages";
  int before_ = -1;
};

TEST_F(ReservedHugePages, AreTakenAsLongAsThereAreAny) {
  auto memory = MappedMemory::Map(3 * kHuge, {.numa_node = 0});
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_TRUE(memory->reserved_huge_pages());
  std::ranges::fill(memory->bytes(), std::byte{1});
  {
    const auto more = MappedMemory::Map(2 * kHuge, {});
    ASSERT_TRUE(more.ok()) << more.status();
    EXPECT_FALSE(more->reserved_huge_pages());
    std::ranges::fill(more->bytes(), std::byte{1});
  }
  const auto last = MappedMemory::Map(kHuge, {});
  ASSERT_TRUE(last.ok()) << last.status();
  EXPECT_TRUE(last->reserved_huge_pages());
}

TEST_F(ReservedHugePages, AreThereAgainAfterwards) {
  for (int round = 0; round < 3; ++round) {
    const auto memory = MappedMemory::Map(4 * kHuge, {});
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_TRUE(memory->reserved_huge_pages()) << round;
  }
}

TEST_F(ReservedHugePages, AreNotForPartsOfThem) {
  for (const size_t bytes : {kHuge / 2, kHuge + MappedMemory::PageSize()}) {
    const auto memory = MappedMemory::Map(bytes, {});
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_FALSE(memory->reserved_huge_pages());
  }
}

TEST_F(ReservedHugePages, ServeAPoolAndAreCounted) {
  RegisteredPool pool(std::make_shared<FakeRegistrar>(),
                      std::make_shared<Budget>("test memory", 16 * kHuge),
                      {.region_bytes = 3 * kHuge});
  std::optional<Buffer> first = *pool.Allocate(3 * kHuge);
  const Buffer second = *pool.Allocate(3 * kHuge);
  EXPECT_EQ(pool.statistics().regions, 2u);
  EXPECT_EQ(pool.statistics().regions_of_reserved_huge_pages, 1u);
  first.reset();
  pool.ReleaseUnused();
  EXPECT_EQ(pool.statistics().regions_of_reserved_huge_pages, 0u);
}

}  // namespace
}  // namespace nd::transport
