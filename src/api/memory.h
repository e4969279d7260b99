// Memory of the application's that is registered for a session.
#ifndef ND_API_MEMORY_H_
#define ND_API_MEMORY_H_

#include <cstddef>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "nd/memory.h"
#include "transport/memory/registrar.h"

namespace nd::api {

class RegisteredMemory {
 public:
  static absl::StatusOr<std::unique_ptr<RegisteredMemory>> Register(
      std::shared_ptr<transport::Registrar> registrar,
      std::span<std::byte> memory, MemoryUse use);

  std::span<std::byte> bytes() const { return bytes_; }
  MemoryUse use() const { return use_; }
  transport::MemoryKeys keys() const { return registration_->keys(); }

 private:
  RegisteredMemory(std::shared_ptr<transport::Registrar> registrar,
                   std::unique_ptr<transport::Registration> registration,
                   std::span<std::byte> memory, MemoryUse use)
      : registrar_(std::move(registrar)),
        registration_(std::move(registration)),
        bytes_(memory),
        use_(use) {}

  const std::shared_ptr<transport::Registrar> registrar_;
  const std::unique_ptr<transport::Registration> registration_;
  const std::span<std::byte> bytes_;
  const MemoryUse use_;
};

}  // namespace nd::api

#endif  // ND_API_MEMORY_H_
