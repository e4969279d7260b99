#include "transport/memory/verbs_registrar.h"

#include "base/status.h"

namespace nd::transport {
namespace {

class VerbsRegistration final : public Registration {
 public:
  explicit VerbsRegistration(std::unique_ptr<verbs::MemoryRegion> region)
      : Registration({.lkey = region->lkey(), .rkey = region->rkey()}),
        region_(std::move(region)) {}

 private:
  const std::unique_ptr<verbs::MemoryRegion> region_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Registration>> VerbsRegistrar::Register(
    std::span<std::byte> memory, unsigned access) {
  ND_ASSIGN_OR_RETURN(auto region,
                      verbs::MemoryRegion::Register(pd_, memory, access));
  return std::make_unique<VerbsRegistration>(std::move(region));
}

}  // namespace nd::transport
