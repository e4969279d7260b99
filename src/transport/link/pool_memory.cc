#include "transport/link/pool_memory.h"

#include <infiniband/verbs.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::transport {

absl::StatusOr<Registered> PoolMemory::Allocate(uint64_t size) {
  if (size > budget_) {
    return absl::OutOfRangeError(
        absl::StrCat(size, " bytes are more than the budget of ", budget_));
  }
  ND_ASSIGN_OR_RETURN(Buffer buffer, pool_.Allocate(static_cast<size_t>(size)));
  Registered result{.local = {.data = buffer.data(),
                              .length = buffer.size(),
                              .lkey = buffer.lkey()},
                    .rkey = buffer.rkey()};
  result.handle = buffers_.Add(std::move(buffer));
  return result;
}

void PoolMemory::Free(const Registered& buffer) {
  buffers_.Remove(buffer.handle);
}

absl::StatusOr<Registered> PoolMemory::Register(std::span<std::byte> bytes,
                                                unsigned access) {
  ND_ASSIGN_OR_RETURN(RegistrationCache::Use use,
                      cache_.Acquire(bytes, access));
  Registered result{.local = {.data = bytes.data(),
                              .length = bytes.size(),
                              .lkey = use.keys().lkey},
                    .rkey = use.keys().rkey};
  result.handle = uses_.Add(std::move(use));
  return result;
}

absl::StatusOr<Registered> PoolMemory::RegisterSource(
    std::span<const std::byte> bytes) {
  // Read by the device alone; verbs know no const.
  return Register({const_cast<std::byte*>(bytes.data()), bytes.size()}, 0);
}

absl::StatusOr<Registered> PoolMemory::RegisterTarget(
    std::span<std::byte> bytes) {
  return Register(bytes, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
}

absl::StatusOr<Registered> PoolMemory::RegisterSink(
    std::span<std::byte> bytes) {
  return Register(bytes, IBV_ACCESS_LOCAL_WRITE);
}

void PoolMemory::Unregister(const Registered& memory) {
  uses_.Remove(memory.handle);
}

absl::StatusOr<LocalPiece> PoolMemory::AllocateStages() {
  ND_ASSIGN_OR_RETURN(stages_, stage_pool_.Allocate(kStages * kStageBytes));
  // Whoever has copies under way is polled until they are done.
  copies_.emplace(CopyWorkers::Shared(), kStages, [] {});
  return LocalPiece{
      .data = stages_.data(), .length = stages_.size(), .lkey = stages_.lkey()};
}

bool PoolMemory::Copy(uint32_t stage, std::span<const std::byte> from,
                      std::byte* to) {
  return copies_->Copy(jobs_[stage], from, to);
}

void PoolMemory::TakeCopied(absl::FunctionRef<void(uint32_t)> copied) {
  copies_->Poll([&](CopyJob& job) {
    copied(static_cast<uint32_t>(&job - jobs_.data()));
  });
}

// Its end does the waiting, and the rest of the copying.
void PoolMemory::AwaitCopies() { copies_.reset(); }

}  // namespace nd::transport
