// Where memory gets its keys: the seam between this room and the device.
#ifndef ND_TRANSPORT_MEMORY_REGISTRAR_H_
#define ND_TRANSPORT_MEMORY_REGISTRAR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"

namespace nd::transport {

// By these, work requests name memory: `lkey` in a scatter/gather element of
// ours, `rkey` in an RDMA request of the peer's.
struct MemoryKeys {
  uint32_t lkey = 0;
  uint32_t rkey = 0;
  bool operator==(const MemoryKeys&) const = default;
};

// Memory that is registered for as long as this lives.
class Registration {
 public:
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;
  virtual ~Registration() = default;

  MemoryKeys keys() const { return keys_; }

 protected:
  explicit Registration(MemoryKeys keys) : keys_(keys) {}

 private:
  const MemoryKeys keys_;
};

// Thread-safe. It outlives what it has registered.
class Registrar {
 public:
  virtual ~Registrar() = default;

  // `access` is of IBV_ACCESS_*. The memory outlives the registration.
  // RESOURCE_EXHAUSTED: it cannot be pinned, or the device has no more regions.
  virtual absl::StatusOr<std::unique_ptr<Registration>> Register(
      std::span<std::byte> memory, unsigned access) = 0;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_MEMORY_REGISTRAR_H_
