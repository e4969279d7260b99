// Registration with a device.
#ifndef ND_TRANSPORT_MEMORY_VERBS_REGISTRAR_H_
#define ND_TRANSPORT_MEMORY_VERBS_REGISTRAR_H_

#include <memory>
#include <utility>

#include "transport/memory/registrar.h"
#include "verbs/memory.h"

namespace nd::transport {

// Registers in one protection domain: the keys serve the QPs of that domain.
class VerbsRegistrar final : public Registrar {
 public:
  explicit VerbsRegistrar(std::shared_ptr<verbs::ProtectionDomain> pd)
      : pd_(std::move(pd)) {}

  // The errors of verbs::MemoryRegion::Register.
  absl::StatusOr<std::unique_ptr<Registration>> Register(
      std::span<std::byte> memory, unsigned access) override;

 private:
  const std::shared_ptr<verbs::ProtectionDomain> pd_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_MEMORY_VERBS_REGISTRAR_H_
