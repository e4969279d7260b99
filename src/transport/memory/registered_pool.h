// Registered memory for slots and for large messages.
#ifndef ND_TRANSPORT_MEMORY_REGISTERED_POOL_H_
#define ND_TRANSPORT_MEMORY_REGISTERED_POOL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/memory/budget.h"
#include "transport/memory/mapped_memory.h"
#include "transport/memory/registrar.h"
#include "transport/memory/segregated_fit.h"

namespace nd::transport {

class RegisteredPool;

// A piece of a pool, which has it back when this goes. It begins at a multiple
// of RegisteredPool::kAlignment. Lives and dies on the pool's thread.
class Buffer {
 public:
  Buffer() = default;  // of nothing
  Buffer(Buffer&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        block_(other.block_),
        bytes_(std::exchange(other.bytes_, {})),
        keys_(other.keys_) {}
  Buffer& operator=(Buffer&& other) noexcept {
    const Buffer old(std::move(*this));
    pool_ = std::exchange(other.pool_, nullptr);
    block_ = other.block_;
    bytes_ = std::exchange(other.bytes_, {});
    keys_ = other.keys_;
    return *this;
  }
  ~Buffer();

  explicit operator bool() const { return pool_ != nullptr; }
  std::span<std::byte> bytes() const { return bytes_; }
  std::byte* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }  // what was asked for
  uint64_t address() const { return reinterpret_cast<uint64_t>(data()); }
  uint32_t lkey() const { return keys_.lkey; }
  uint32_t rkey() const { return keys_.rkey; }

 private:
  friend class RegisteredPool;
  Buffer(RegisteredPool* pool, SegregatedFit::Block block,
         std::span<std::byte> bytes, MemoryKeys keys)
      : pool_(pool), block_(block), bytes_(bytes), keys_(keys) {}

  RegisteredPool* pool_ = nullptr;
  SegregatedFit::Block block_ = SegregatedFit::kNone;
  std::span<std::byte> bytes_{};
  MemoryKeys keys_{};
};

// Takes big regions out of a budget, registers each once and hands out pieces
// of any size, up to all of the budget if nothing else is out. Sizes are
// rounded up by at most 1/32, to a size class. What the pool holds it gives and
// takes back in constant time, without a system call and, once as many buffers
// were out as ever are, without the heap. It keeps the regions that it has;
// those of which nothing is in use go where a request needs room in the budget,
// or by ReleaseUnused.
//
// The keys are a region's, so whoever is told an rkey can reach all that the
// pool has in that region. A pool with remote access therefore serves one peer,
// in a protection domain of its own; what no peer is told of may come from one
// pool for all.
//
// It belongs to one thread, a reactor's, and outlives its buffers.
class RegisteredPool {
 public:
  static constexpr size_t kAlignment = 64;

  struct Options {
    unsigned access = 0;  // IBV_ACCESS_*
    // What is taken at once, if the budget has it: less than 2^48.
    size_t region_bytes = size_t{8} << 20;
    MappedMemory::Options memory{};
  };
  struct Statistics {
    size_t bytes_in_use = 0;  // rounded up to size classes
    size_t peak_bytes_in_use = 0;
    size_t buffers = 0;
    size_t regions = 0;
    size_t region_bytes = 0;  // what of the budget the pool has
    size_t regions_of_reserved_huge_pages = 0;
    size_t regions_on_node = 0;  // for which the NUMA node was set
    uint64_t grown = 0;          // regions taken, ever
    uint64_t failures = 0;       // of Allocate; a TryAllocate in vain is none
  };

  RegisteredPool(std::shared_ptr<Registrar> registrar,
                 std::shared_ptr<Budget> budget, const Options& options);
  RegisteredPool(const RegisteredPool&) = delete;
  RegisteredPool& operator=(const RegisteredPool&) = delete;
  ~RegisteredPool();

  // RESOURCE_EXHAUSTED names the budget that has too little and its use, or
  // what the system or the device has no more of.
  absl::StatusOr<Buffer> Allocate(size_t size);
  // Only what the pool holds: never a system call. Else a Buffer of nothing.
  Buffer TryAllocate(size_t size);

  // Gives the regions of which nothing is in use back to the budget.
  void ReleaseUnused();

  const Statistics& statistics() const { return statistics_; }

 private:
  friend class Buffer;

  // Destroyed from its end: unregistered, unmapped, given back.
  struct Region {
    Budget::Share share;
    MappedMemory memory;
    std::unique_ptr<Registration> registration;
    SegregatedFit::Block first = SegregatedFit::kNone;
  };

  uint64_t UnitsFor(size_t size) const;
  absl::Status Grow(uint64_t units);
  absl::StatusOr<Budget::Share> TakeShare(size_t bytes);
  absl::Status AddRegion(Budget::Share share);
  bool ReleaseOneUnused();
  Buffer Hand(SegregatedFit::Block block, size_t size);
  void Free(SegregatedFit::Block block);

  const std::shared_ptr<Registrar> registrar_;
  const std::shared_ptr<Budget> budget_;
  const Options options_;
  SegregatedFit fit_;
  // By the names that fit_ has for them; null where one was released.
  std::vector<std::unique_ptr<Region>> regions_;
  Statistics statistics_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_MEMORY_REGISTERED_POOL_H_
