#include "transport/memory/mapped_memory.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "base/status.h"

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)  // linux/mman.h
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

namespace nd::transport {
namespace {

constexpr int kProtection = PROT_READ | PROT_WRITE;
constexpr int kPrivate = MAP_PRIVATE | MAP_ANONYMOUS;

absl::Status OutOfMemory(size_t bytes) {
  return ErrnoStatus(errno, absl::StrCat("mmap of ", bytes, " bytes"));
}

// Aligned to a huge page: maps one more, and gives back what sticks out.
absl::StatusOr<std::span<std::byte>> MapAligned(size_t bytes) {
  const size_t wide = bytes + MappedMemory::kHugePage;
  if (wide < bytes) {
    errno = ENOMEM;
    return OutOfMemory(bytes);
  }
  void* const start = mmap(nullptr, wide, kProtection, kPrivate, -1, 0);
  if (start == MAP_FAILED) return OutOfMemory(bytes);
  std::byte* const first = static_cast<std::byte*>(start);
  const size_t before =
      -reinterpret_cast<uintptr_t>(first) % MappedMemory::kHugePage;
  if (before != 0) munmap(first, before);
  if (const size_t behind = wide - bytes - before; behind != 0) {
    munmap(first + before + bytes, behind);
  }
  return std::span(first + before, bytes);
}

absl::StatusOr<std::span<std::byte>> MapPages(size_t bytes) {
  void* const start = mmap(nullptr, bytes, kProtection, kPrivate, -1, 0);
  if (start == MAP_FAILED) return OutOfMemory(bytes);
  return std::span(static_cast<std::byte*>(start), bytes);
}

}  // namespace

size_t MappedMemory::PageSize() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

absl::StatusOr<MappedMemory> MappedMemory::Map(size_t bytes,
                                               const Options& options) {
  if (bytes == 0 || bytes % PageSize() != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(bytes, " bytes are not a number of pages"));
  }
  const bool huge = options.huge_pages && bytes >= kHugePage;
  if (huge && bytes % kHugePage == 0) {
    auto reserved = MapReserved(bytes, options.numa_node);
    if (reserved.ok()) return reserved;
  }
  ND_ASSIGN_OR_RETURN(const auto pages,
                      huge ? MapAligned(bytes) : MapPages(bytes));
  MappedMemory memory(pages);
  if (huge) madvise(pages.data(), bytes, MADV_HUGEPAGE);
  madvise(pages.data(), bytes, MADV_DONTFORK);
  memory.Prefer(options.numa_node);
  return memory;
}

absl::StatusOr<MappedMemory> MappedMemory::MapReserved(size_t bytes, int node) {
  void* const start = mmap(nullptr, bytes, kProtection,
                           kPrivate | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
  if (start == MAP_FAILED) return OutOfMemory(bytes);
  MappedMemory memory({static_cast<std::byte*>(start), bytes});
  memory.reserved_huge_pages_ = true;
  madvise(start, bytes, MADV_DONTFORK);
  memory.Prefer(node);
  // mmap has seen that there are enough of them, but a control group may yet
  // refuse them, and then the first touch would be a SIGBUS. A kernel that does
  // not know this advice says EINVAL.
  if (madvise(start, bytes, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) {
    return OutOfMemory(bytes);
  }
  return memory;
}

// The policy is for pages that come; none has come yet. Without NUMA, or where
// a container forbids it, memory is where it is.
void MappedMemory::Prefer(int node) {
  constexpr size_t kBits = sizeof(unsigned long) * CHAR_BIT;
  std::array<unsigned long, 1024 / kBits> nodes{};
  if (node < 0 || static_cast<size_t>(node) >= nodes.size() * kBits) return;
  nodes[node / kBits] = 1UL << (node % kBits);
  // The kernel looks at one bit less than it is told.
  on_node_ = syscall(SYS_mbind, bytes_.data(), bytes_.size(), MPOL_PREFERRED,
                     nodes.data(), nodes.size() * kBits + 1, 0) == 0;
}

MappedMemory::~MappedMemory() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

}  // namespace nd::transport
