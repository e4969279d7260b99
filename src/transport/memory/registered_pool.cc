#include "transport/memory/registered_pool.h"

#include <infiniband/verbs.h>

#include <algorithm>
#include <cassert>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

#ifdef ABSL_HAVE_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace nd::transport {
namespace {

constexpr size_t kUnit = RegisteredPool::kAlignment;
// More than an address space has; sums of less do not overflow.
constexpr size_t kMostBytes = size_t{1} << 48;

size_t RoundUp(size_t bytes, size_t step) {
  return (bytes + step - 1) / step * step;
}

// What is not handed out is out of bounds to whom AddressSanitizer watches. Not
// where a peer has keys: that is free to write there.
void Watch([[maybe_unused]] std::span<std::byte> bytes,
           [[maybe_unused]] unsigned access, [[maybe_unused]] bool handed_out) {
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  if ((access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
                 IBV_ACCESS_REMOTE_ATOMIC)) != 0) {
    return;
  }
  if (handed_out) {
    ASAN_UNPOISON_MEMORY_REGION(bytes.data(), bytes.size());
  } else {
    ASAN_POISON_MEMORY_REGION(bytes.data(), bytes.size());
  }
#endif
}

}  // namespace

Buffer::~Buffer() {
  if (pool_ != nullptr) pool_->Free(block_);
}

RegisteredPool::RegisteredPool(std::shared_ptr<Registrar> registrar,
                               std::shared_ptr<Budget> budget,
                               const Options& options)
    : registrar_(std::move(registrar)),
      budget_(std::move(budget)),
      options_(options) {}

RegisteredPool::~RegisteredPool() {
  assert(statistics_.buffers == 0);
  ReleaseUnused();
}

absl::StatusOr<Buffer> RegisteredPool::Allocate(size_t size) {
  if (Buffer held = TryAllocate(size)) return held;
  if (size > std::min(budget_->limit(), kMostBytes)) {
    ++statistics_.failures;
    return absl::ResourceExhaustedError(absl::StrCat(
        budget_->name(), ": ", size, " bytes asked for, ", budget_->used(),
        " in use of a budget of ", budget_->limit()));
  }
  if (absl::Status grown = Grow(UnitsFor(size)); !grown.ok()) {
    ++statistics_.failures;
    return grown;
  }
  return TryAllocate(size);
}

Buffer RegisteredPool::TryAllocate(size_t size) {
  if (size > statistics_.region_bytes) return {};
  const SegregatedFit::Block block = fit_.Take(UnitsFor(size));
  if (block == SegregatedFit::kNone) return {};
  return Hand(block, size);
}

Buffer RegisteredPool::Hand(SegregatedFit::Block block, size_t size) {
  const Region& region = *regions_[fit_.area(block)];
  const auto bytes =
      region.memory.bytes().subspan(fit_.begin(block) * kUnit, size);
  Watch(bytes, options_.access, /*handed_out=*/true);
  ++statistics_.buffers;
  statistics_.bytes_in_use += fit_.units(block) * kUnit;
  statistics_.peak_bytes_in_use =
      std::max(statistics_.peak_bytes_in_use, statistics_.bytes_in_use);
  return Buffer(this, block, bytes, region.registration->keys());
}

void RegisteredPool::Free(SegregatedFit::Block block) {
  const size_t size = fit_.units(block) * kUnit;
  const Region& region = *regions_[fit_.area(block)];
  Watch(region.memory.bytes().subspan(fit_.begin(block) * kUnit, size),
        options_.access, /*handed_out=*/false);
  --statistics_.buffers;
  statistics_.bytes_in_use -= size;
  fit_.Free(block);
}

// A whole class, unless that would be more than the budget can ever have. What
// is not a whole class then is more than half of the budget: there can be one
// such block at a time, so SegregatedFit finds it.
uint64_t RegisteredPool::UnitsFor(size_t size) const {
  const uint64_t units = std::max<uint64_t>(1, RoundUp(size, kUnit) / kUnit);
  const uint64_t rounded = SegregatedFit::ClassSize(units);
  const bool fits =
      RoundUp(rounded * kUnit, MappedMemory::PageSize()) <= budget_->limit();
  return fits ? rounded : units;
}

absl::Status RegisteredPool::Grow(uint64_t units) {
  ND_ASSIGN_OR_RETURN(Budget::Share share, TakeShare(units * kUnit));
  const size_t bytes = share.bytes();
  return Annotate(
      AddRegion(std::move(share)),
      absl::StrCat("pool of registered memory, ", bytes, " bytes more"));
}

// Room for a region: the size of the options if the budget has that, else what
// it has of it, at least `bytes`.
absl::StatusOr<Budget::Share> RegisteredPool::TakeShare(size_t bytes) {
  const size_t page = MappedMemory::PageSize();
  const size_t least = RoundUp(bytes, page);
  size_t wanted = std::max(least, RoundUp(options_.region_bytes, page));
  if (wanted >= MappedMemory::kHugePage) {
    wanted = RoundUp(wanted, MappedMemory::kHugePage);
  }
  for (;;) {
    Budget::Share share = budget_->TryTakeShare(wanted);
    if (share.bytes() != 0) return share;
    if (wanted > least) {
      wanted = std::max(least, RoundUp(wanted / 2, page));
    } else if (!ReleaseOneUnused()) {
      return budget_->TakeShare(least);  // for its message
    }
  }
}

absl::Status RegisteredPool::AddRegion(Budget::Share share) {
  ND_ASSIGN_OR_RETURN(MappedMemory memory,
                      MappedMemory::Map(share.bytes(), options_.memory));
  ND_ASSIGN_OR_RETURN(auto registration,
                      registrar_->Register(memory.bytes(), options_.access));
  const size_t bytes = memory.bytes().size();
  const auto hole = std::find(regions_.begin(), regions_.end(), nullptr);
  const auto index = static_cast<uint32_t>(hole - regions_.begin());
  if (hole == regions_.end()) regions_.emplace_back();
  regions_[index] = std::make_unique<Region>(
      Region{.share = std::move(share),
             .memory = std::move(memory),
             .registration = std::move(registration),
             .first = fit_.AddArea(index, bytes / kUnit)});
  const Region& region = *regions_[index];
  Watch(region.memory.bytes(), options_.access, /*handed_out=*/false);
  ++statistics_.grown;
  ++statistics_.regions;
  statistics_.region_bytes += bytes;
  statistics_.regions_of_reserved_huge_pages +=
      region.memory.reserved_huge_pages();
  statistics_.regions_on_node += region.memory.on_node();
  return absl::OkStatus();
}

void RegisteredPool::ReleaseUnused() {
  while (ReleaseOneUnused()) {
  }
}

bool RegisteredPool::ReleaseOneUnused() {
  const auto unused = std::find_if(
      regions_.begin(), regions_.end(), [this](const auto& region) {
        return region != nullptr && fit_.IsFree(region->first);
      });
  if (unused == regions_.end()) return false;
  const Region& region = **unused;
  Watch(region.memory.bytes(), options_.access, /*handed_out=*/true);
  fit_.RemoveArea(region.first);
  --statistics_.regions;
  statistics_.region_bytes -= region.memory.bytes().size();
  statistics_.regions_of_reserved_huge_pages -=
      region.memory.reserved_huge_pages();
  statistics_.regions_on_node -= region.memory.on_node();
  unused->reset();
  return true;
}

}  // namespace nd::transport
