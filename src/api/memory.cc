#include "api/memory.h"

#include <infiniband/verbs.h>

#include <cassert>
#include <utility>

#include "base/status.h"

namespace nd {
namespace api {

absl::StatusOr<std::unique_ptr<RegisteredMemory>> RegisteredMemory::Register(
    std::shared_ptr<transport::Registrar> registrar,
    std::span<std::byte> memory, MemoryUse use) {
  unsigned access = IBV_ACCESS_LOCAL_WRITE;
  if (use == MemoryUse::kPeerWrites) access |= IBV_ACCESS_REMOTE_WRITE;
  ND_ASSIGN_OR_RETURN(std::unique_ptr<transport::Registration> registration,
                      registrar->Register(memory, access));
  return std::unique_ptr<RegisteredMemory>(new RegisteredMemory(
      std::move(registrar), std::move(registration), memory, use));
}

}  // namespace api

namespace {

std::span<std::byte> Part(std::span<std::byte> all, size_t offset,
                          size_t size) {
  assert(offset <= all.size() && size <= all.size() - offset);
  return all.subspan(offset, size);
}

}  // namespace

RegisteredMemory::RegisteredMemory(std::shared_ptr<api::RegisteredMemory> impl)
    : impl_(std::move(impl)) {}
RegisteredMemory::~RegisteredMemory() = default;
RegisteredMemory& RegisteredMemory::operator=(
    RegisteredMemory&& other) noexcept = default;

std::span<std::byte> RegisteredMemory::bytes() const { return impl_->bytes(); }

SendPiece RegisteredMemory::Source(size_t offset, size_t size) const {
  return {.bytes = Part(impl_->bytes(), offset, size),
          .lkey = impl_->keys().lkey,
          .registered = true};
}

ReceiveOperation::Into RegisteredMemory::Target(size_t offset,
                                                size_t size) const {
  return {.bytes = Part(impl_->bytes(), offset, size),
          .rkey = impl_->keys().rkey,
          .registered = impl_->use() == MemoryUse::kPeerWrites};
}

AccessOperation::Memory RegisteredMemory::Sink(size_t offset,
                                               size_t size) const {
  return {.bytes = Part(impl_->bytes(), offset, size),
          .lkey = impl_->keys().lkey,
          .registered = true};
}

}  // namespace nd
