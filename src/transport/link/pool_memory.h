// A session's memory: loans out of a registered pool, and the application's
// own, registered for as long as it is used.
#ifndef ND_TRANSPORT_LINK_POOL_MEMORY_H_
#define ND_TRANSPORT_LINK_POOL_MEMORY_H_

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "transport/memory/copy_workers.h"
#include "transport/memory/registered_pool.h"
#include "transport/memory/registration_cache.h"
#include "transport/session/carrier.h"

namespace nd::transport {

// One thread. Outlives what was allocated and registered.
class PoolMemory final : public SessionMemory {
 public:
  // `pool` has remote write access and serves this session alone: whoever is
  // told one of its keys can write to all of it. It gives out at most `budget`
  // bytes.
  // `stages`: where AllocateStages takes its memory from.
  PoolMemory(RegisteredPool& pool, RegistrationCache& cache, uint64_t budget,
             RegisteredPool& stages)
      : pool_(pool), cache_(cache), budget_(budget), stage_pool_(stages) {}

  absl::StatusOr<Registered> Allocate(uint64_t size) override;
  void Free(const Registered& buffer) override;
  absl::StatusOr<Registered> RegisterSource(
      std::span<const std::byte> bytes) override;
  absl::StatusOr<Registered> RegisterTarget(
      std::span<std::byte> bytes) override;
  absl::StatusOr<Registered> RegisterSink(std::span<std::byte> bytes) override;
  void Unregister(const Registered& memory) override;
  absl::StatusOr<LocalPiece> AllocateStages() override;
  bool Copy(uint32_t stage, std::span<const std::byte> from,
            std::byte* to) override;
  void AwaitCopies() override;

  // Copies that go on: those that are done, by their stages.
  bool copying() const { return copies_ && copies_->outstanding() > 0; }
  void TakeCopied(absl::FunctionRef<void(uint32_t)> copied);

 private:
  // What is out, by handles that are used again: once as much was out as ever
  // is, nothing is allocated for it.
  template <typename T>
  class Handles {
   public:
    uint64_t Add(T thing) {
      if (free_.empty()) {
        free_.push_back(things_.size());
        things_.emplace_back();
      }
      const uint64_t handle = free_.back();
      free_.pop_back();
      things_[handle] = std::move(thing);
      return handle;
    }
    void Remove(uint64_t handle) {
      things_[handle] = T();
      free_.push_back(handle);
    }

   private:
    std::vector<T> things_;
    std::vector<uint64_t> free_;
  };

  absl::StatusOr<Registered> Register(std::span<std::byte> bytes,
                                      unsigned access);

  RegisteredPool& pool_;
  RegistrationCache& cache_;
  const uint64_t budget_;
  RegisteredPool& stage_pool_;
  Buffer stages_;
  std::array<CopyJob, kStages> jobs_;
  std::optional<CopyClient> copies_;
  Handles<Buffer> buffers_;
  Handles<RegistrationCache::Use> uses_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_LINK_POOL_MEMORY_H_
