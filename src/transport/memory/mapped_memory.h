// Memory from the kernel, fit for a device.
#ifndef ND_TRANSPORT_MEMORY_MAPPED_MEMORY_H_
#define ND_TRANSPORT_MEMORY_MAPPED_MEMORY_H_

#include <cstddef>
#include <span>
#include <utility>

#include "absl/status/statusor.h"

namespace nd::transport {

// Anonymous zeroed pages, unmapped when this goes. A child of fork does not get
// them: the kernel would have to copy at once what a device has pinned.
class MappedMemory {
 public:
  static constexpr size_t kHugePage = size_t{2} << 20;
  static size_t PageSize();

  struct Options {
    // Fewer entries in the device's translation table, fewer TLB misses in
    // copies. Memory of at least a huge page is aligned to one; multiples come
    // from the reserved ones (/proc/sys/vm/nr_hugepages) as far as there are
    // any; else the kernel is advised to find some (MADV_HUGEPAGE).
    bool huge_pages = true;
    // Preferred, where the system has NUMA and lets us say so; -1 for any. It
    // is what sysfs has in /sys/class/infiniband/DEVICE/device/numa_node.
    int numa_node = -1;
  };
  // `bytes` is a multiple of PageSize(). RESOURCE_EXHAUSTED: none is left.
  static absl::StatusOr<MappedMemory> Map(size_t bytes, const Options& options);

  MappedMemory(MappedMemory&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})),
        reserved_huge_pages_(other.reserved_huge_pages_),
        on_node_(other.on_node_) {}
  MappedMemory& operator=(MappedMemory&&) = delete;
  ~MappedMemory();

  std::span<std::byte> bytes() const { return bytes_; }
  // What came of the options.
  bool reserved_huge_pages() const { return reserved_huge_pages_; }
  bool on_node() const { return on_node_; }

 private:
  explicit MappedMemory(std::span<std::byte> bytes) : bytes_(bytes) {}

  static absl::StatusOr<MappedMemory> MapReserved(size_t bytes, int node);
  void Prefer(int node);

  std::span<std::byte> bytes_;
  bool reserved_huge_pages_ = false;
  bool on_node_ = false;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_MEMORY_MAPPED_MEMORY_H_
