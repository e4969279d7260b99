// The registered memory of one side of a test.
#ifndef ND_NDPING_ENGINE_BUFFERS_H_
#define ND_NDPING_ENGINE_BUFFERS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "ndping/engine/plan.h"
#include "verbs/memory.h"

namespace nd::ndping {

// One area and one region for all QPs. Each QP has, at fixed offsets, the word
// into which the peer writes its credits, the word from which this side's
// credits leave, the slots where messages come in and those where they leave.
class Buffers {
 public:
  static absl::StatusOr<std::unique_ptr<Buffers>> Create(
      std::shared_ptr<verbs::ProtectionDomain> pd, const TestPlan& plan,
      bool client);

  ~Buffers();
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  // Of one QP, as offsets into the region.
  struct Place {
    size_t credit_in = 0;   // 8 bytes
    size_t credit_out = 0;  // 8 bytes
    size_t target = 0;      // target_bytes()
    size_t local = 0;       // local_bytes()
  };
  Place PlaceOf(uint32_t qp) const;
  size_t target_bytes() const { return target_bytes_; }  // 0: has none
  size_t local_bytes() const { return local_bytes_; }    // 0: has none

  std::byte* at(size_t offset) const { return memory_.data() + offset; }
  const verbs::MemoryRegion& region() const { return *region_; }

 private:
  Buffers(const TestPlan& plan, bool client, std::span<std::byte> memory);

  const size_t target_bytes_, local_bytes_;
  const std::span<std::byte> memory_;
  std::unique_ptr<verbs::MemoryRegion> region_;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_BUFFERS_H_
