#include "transport/memory/mapped_memory.h"

#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

namespace nd::transport {
namespace {

constexpr size_t kHuge = MappedMemory::kHugePage;

bool IsMapped(const std::byte* page) {
  unsigned char there;
  return mincore(const_cast<std::byte*>(page), 1, &there) == 0;
}

// The flags of the mapping that `address` is in, as /proc shows them.
std::string VmFlags(const std::byte* address) {
  std::ifstream maps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<uintptr_t>(address);
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin, end;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      inside = begin <= wanted && wanted < end;
    }
    if (inside && line.starts_with("VmFlags:")) return line + " ";
  }
  return "";
}

TEST(MappedMemory, IsZeroAndWritable) {
  auto memory = MappedMemory::Map(3 * MappedMemory::PageSize(), {});
  ASSERT_TRUE(memory.ok()) << memory.status();
  ASSERT_EQ(memory->bytes().size(), 3 * MappedMemory::PageSize());
  EXPECT_TRUE(std::ranges::all_of(
      memory->bytes(), [](std::byte byte) { return byte == std::byte{}; }));
  std::ranges::fill(memory->bytes(), std::byte{1});
}

TEST(MappedMemory, IsUnmappedWithItsLastOwner) {
  const std::byte* first;
  {
    auto memory = MappedMemory::Map(2 * kHuge, {});
    ASSERT_TRUE(memory.ok()) << memory.status();
    first = memory->bytes().data();
    const MappedMemory moved = *std::move(memory);
    EXPECT_TRUE(IsMapped(first));
    EXPECT_TRUE(IsMapped(first + 2 * kHuge - MappedMemory::PageSize()));
  }
  EXPECT_FALSE(IsMapped(first));
  EXPECT_FALSE(IsMapped(first + 2 * kHuge - MappedMemory::PageSize()));
}

TEST(MappedMemory, AsksForHugePagesWhereTheyFit) {
  const auto memory = MappedMemory::Map(2 * kHuge, {});
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->bytes().data()) % kHuge, 0u);
  const std::string flags = VmFlags(memory->bytes().data());
  EXPECT_NE(flags.find(memory->reserved_huge_pages() ? " ht " : " hg "),
            std::string::npos)
      << flags;
  const auto small = MappedMemory::Map(2 * kHuge, {.huge_pages = false});
  ASSERT_TRUE(small.ok()) << small.status();
  EXPECT_EQ(VmFlags(small->bytes().data()).find(" hg "), std::string::npos);
  EXPECT_FALSE(small->reserved_huge_pages());
}

TEST(MappedMemory, WhatIsNoNumberOfHugePagesIsAlignedAllTheSame) {
  const size_t bytes = 2 * kHuge + MappedMemory::PageSize();
  const auto memory = MappedMemory::Map(bytes, {});
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->bytes().data()) % kHuge, 0u);
  EXPECT_EQ(memory->bytes().size(), bytes);
  std::ranges::fill(memory->bytes(), std::byte{1});
}

TEST(MappedMemory, ChildOfForkDoesNotGetIt) {
  for (const size_t bytes : {MappedMemory::PageSize(), kHuge}) {
    const auto memory = MappedMemory::Map(bytes, {});
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_NE(VmFlags(memory->bytes().data()).find(" dc "), std::string::npos);
  }
}

// The policy for the memory's pages; -1 where there is no NUMA, or where a
// container forbids to ask.
int PolicyOf(const MappedMemory& memory) {
  int mode = -1;
  return syscall(SYS_get_mempolicy, &mode, nullptr, 0, memory.bytes().data(),
                 MPOL_F_ADDR) == 0
             ? mode
             : -1;
}

TEST(MappedMemory, PrefersTheNodeAskedFor) {
  const auto plain = MappedMemory::Map(kHuge, {});
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_FALSE(plain->on_node());
  EXPECT_NE(PolicyOf(*plain), MPOL_PREFERRED);
  const unsigned long first_node = 1;
  const bool possible = syscall(SYS_mbind, plain->bytes().data(), kHuge,
                                MPOL_PREFERRED, &first_node, 64, 0) == 0;
  const int policy = PolicyOf(*plain);

  const auto memory = MappedMemory::Map(kHuge, {.numa_node = 0});

  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->on_node(), possible);
  EXPECT_EQ(PolicyOf(*memory), policy);
}

TEST(MappedMemory, NodeThatIsNotThereIsIgnored) {
  for (const int node : {-1, 1000, 1'000'000}) {
    const auto memory = MappedMemory::Map(kHuge, {.numa_node = node});
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_FALSE(memory->on_node()) << node;
  }
}

TEST(MappedMemory, WhatCannotBeIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(MappedMemory::Map(0, {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MappedMemory::Map(100, {}).status()));
  for (const size_t bytes : {size_t{1} << 60, SIZE_MAX - kHuge + 1}) {
    const absl::Status status = MappedMemory::Map(bytes, {}).status();
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  }
}

}  // namespace
}  // namespace nd::transport
