// A session's memory: loans out of a registered pool, and the application's
// own, registered for as long as it is used.
#ifndef ND_TRANSPORT_LINK_POOL_MEMORY_H_
#define ND_TRANSPORT_LINK_POOL_MEMORY_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
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
  PoolMemory(RegisteredPool& pool, RegistrationCache& cache, uint64_t budget)
      : pool_(pool), cache_(cache), budget_(budget) {}

  absl::StatusOr<Registered> Allocate(uint64_t size) override;
  void Free(const Registered& buffer) override;
  absl::StatusOr<Registered> RegisterSource(
      std::span<const std::byte> bytes) override;
  absl::StatusOr<Registered> RegisterTarget(
      std::span<std::byte> bytes) override;
  void Unregister(const Registered& memory) override;

 private:
  absl::StatusOr<Registered> Register(std::span<std::byte> bytes,
                                      unsigned access);

  RegisteredPool& pool_;
  RegistrationCache& cache_;
  const uint64_t budget_;
  uint64_t next_handle_ = 1;
  absl::flat_hash_map<uint64_t, Buffer> buffers_;
  absl::flat_hash_map<uint64_t, RegistrationCache::Use> uses_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_LINK_POOL_MEMORY_H_
