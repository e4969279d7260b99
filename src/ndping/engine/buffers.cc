#include "ndping/engine/buffers.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::ndping {
namespace {

// A cache line for each word.
constexpr size_t kCreditStep = 64;
constexpr size_t kControlBytes = 2 * kCreditStep;

constexpr unsigned kAccess = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                             IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;

size_t TargetBytes(const TestPlan& plan, bool client) {
  return plan.HasTarget(client) ? plan.area_bytes() : 0;
}
size_t LocalBytes(const TestPlan& plan, bool client) {
  return plan.HasLocal(client) ? plan.area_bytes() : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Buffers>> Buffers::Create(
    std::shared_ptr<verbs::ProtectionDomain> pd, const TestPlan& plan,
    bool client) {
  const size_t size = plan.qps * (kControlBytes + TargetBytes(plan, client) +
                                  LocalBytes(plan, client));
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return ErrnoStatus(errno, absl::StrCat("mmap of ", size, " bytes for the ",
                                           "buffers of ", plan.qps, " QPs"));
  }
  auto buffers = absl::WrapUnique(
      new Buffers(plan, client, {static_cast<std::byte*>(memory), size}));
  ND_ASSIGN_OR_RETURN(
      buffers->region_,
      verbs::MemoryRegion::Register(std::move(pd), buffers->memory_, kAccess));
  return buffers;
}

Buffers::Buffers(const TestPlan& plan, bool client, std::span<std::byte> memory)
    : target_bytes_(TargetBytes(plan, client)),
      local_bytes_(LocalBytes(plan, client)),
      memory_(memory) {}

Buffers::~Buffers() {
  region_.reset();
  munmap(memory_.data(), memory_.size());
}

Buffers::Place Buffers::PlaceOf(uint32_t qp) const {
  const size_t start = qp * (kControlBytes + target_bytes_ + local_bytes_);
  return {.credit_in = start,
          .credit_out = start + kCreditStep,
          .target = start + kControlBytes,
          .local = start + kControlBytes + target_bytes_};
}

}  // namespace nd::ndping
