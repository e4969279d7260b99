#include "soft/device/memory_table.h"

#include "absl/strings/str_cat.h"

namespace nd::soft {
namespace {

constexpr unsigned kRemoteChange =
    IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
constexpr unsigned kWindowAccess =
    IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;

absl::Status NoSuchKey(const char* what, uint32_t key) {
  return absl::NotFoundError(
      absl::StrCat("key 0x", absl::Hex(key), " names no ", what));
}

// IBA ch. 10, memory access: what a peer may change, this side may change too.
absl::Status CheckAccess(unsigned access) {
  if ((access & kRemoteChange) != 0 && (access & IBV_ACCESS_LOCAL_WRITE) == 0) {
    return absl::InvalidArgumentError(
        "remote write or atomic access without local write access");
  }
  return absl::OkStatus();
}

}  // namespace

const MemoryTable::Entry* MemoryTable::Find(uint32_t key) const {
  const uint32_t index = IndexOf(key);
  if (index >= entries_.size()) return nullptr;
  const Entry& entry = entries_[index];
  if (entry.kind == Kind::kNone || KeyOf(index) != key) return nullptr;
  return &entry;
}

MemoryTable::Entry* MemoryTable::Find(uint32_t key) {
  return const_cast<Entry*>(std::as_const(*this).Find(key));
}

MemoryTable::Entry* MemoryTable::FindWindow(uint32_t any_key) {
  const uint32_t index = IndexOf(any_key);
  if (index >= entries_.size()) return nullptr;
  Entry& entry = entries_[index];
  const bool window =
      entry.kind == Kind::kWindow1 || entry.kind == Kind::kWindow2;
  return window ? &entry : nullptr;
}

absl::StatusOr<uint32_t> MemoryTable::TakeIndex() {
  if (used_ >= max_entries_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "all ", max_entries_, " memory regions and windows are taken"));
  }
  ++used_;
  if (!free_.empty()) {
    const uint32_t index = free_.back();
    free_.pop_back();
    return index;
  }
  entries_.emplace_back();
  return static_cast<uint32_t>(entries_.size() - 1);
}

void MemoryTable::Release(uint32_t index) {
  entries_[index] = {.tag = static_cast<uint8_t>(entries_[index].tag + 1)};
  free_.push_back(index);
  --used_;
}

absl::StatusOr<uint32_t> MemoryTable::AddRegion(const RegionOptions& options) {
  if (absl::Status status = CheckAccess(options.access); !status.ok()) {
    return status;
  }
  const absl::StatusOr<uint32_t> index = TakeIndex();
  if (!index.ok()) return index.status();
  Entry& entry = entries_[*index];
  entry.kind = Kind::kRegion;
  entry.pd = options.pd;
  entry.access = options.access;
  entry.base = static_cast<std::byte*>(options.address);
  entry.start =
      (options.access & IBV_ACCESS_ZERO_BASED) != 0 ? 0 : options.iova;
  entry.length = options.length;
  return KeyOf(*index);
}

absl::Status MemoryTable::ChangeRegion(uint32_t key,
                                       const RegionChange& change) {
  Entry* const entry = Find(key);
  if (entry == nullptr || entry->kind != Kind::kRegion) {
    return NoSuchKey("region", key);
  }
  if (entry->bound > 0) {
    return absl::FailedPreconditionError("windows are bound to the region");
  }
  if (change.access) {
    if (absl::Status status = CheckAccess(*change.access); !status.ok()) {
      return status;
    }
    entry->access = *change.access;
  }
  if (change.pd) entry->pd = *change.pd;
  if (change.range) {
    entry->base = static_cast<std::byte*>(change.range->address);
    entry->start = reinterpret_cast<uintptr_t>(change.range->address);
    entry->length = change.range->length;
  }
  return absl::OkStatus();
}

absl::Status MemoryTable::RemoveRegion(uint32_t key) {
  const Entry* const entry = Find(key);
  if (entry == nullptr || entry->kind != Kind::kRegion) {
    return NoSuchKey("region", key);
  }
  if (entry->bound > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(entry->bound, " windows are bound to the region"));
  }
  Release(IndexOf(key));
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> MemoryTable::AddWindow(PdId pd, ibv_mw_type type) {
  const absl::StatusOr<uint32_t> index = TakeIndex();
  if (!index.ok()) return index.status();
  Entry& entry = entries_[*index];
  entry.kind = type == IBV_MW_TYPE_1 ? Kind::kWindow1 : Kind::kWindow2;
  entry.pd = pd;
  return KeyOf(*index);
}

void MemoryTable::Unbind(Entry& window) {
  if (Entry* const region = Find(window.bound)) --region->bound;
  window.bound = 0;
  window.length = 0;
  window.owner = {};
}

void MemoryTable::RemoveWindow(uint32_t key) {
  Entry* const entry = FindWindow(key);
  if (entry == nullptr) return;
  Unbind(*entry);
  Release(IndexOf(key));
}

// IBA C10-72 to C10-75: window, region and queue pair are of one PD, the region
// allows windows, what the window allows the region allows to itself, and the
// window lies in it.
absl::Status MemoryTable::Bind(Entry& window, const Accessor& by,
                               const WindowBind& bind) {
  Entry* const region = Find(bind.region_key);
  if (region == nullptr || region->kind != Kind::kRegion) {
    return NoSuchKey("region", bind.region_key);
  }
  const unsigned rights = bind.access & kWindowAccess;
  const bool changes = (rights & kRemoteChange) != 0;
  if (window.pd != by.pd || region->pd != by.pd ||
      (region->access & IBV_ACCESS_MW_BIND) == 0 ||
      (changes && (region->access & IBV_ACCESS_LOCAL_WRITE) == 0)) {
    return absl::PermissionDeniedError("the region does not allow this window");
  }
  const auto bytes = Slice(*region, bind.address, bind.length);
  if (!bytes) {
    return absl::OutOfRangeError("the window exceeds its region");
  }
  Unbind(window);
  ++region->bound;
  window.bound = bind.region_key;
  window.access = rights;
  window.base = bytes->data();
  window.start = (bind.access & IBV_ACCESS_ZERO_BASED) != 0 ? 0 : bind.address;
  window.length = bind.length;
  return absl::OkStatus();
}

absl::Status MemoryTable::BindType1(uint32_t window_key, uint32_t new_key,
                                    const Accessor& by,
                                    const WindowBind& bind) {
  Entry* const window = FindWindow(window_key);
  if (window == nullptr || window->kind != Kind::kWindow1 ||
      IndexOf(new_key) != IndexOf(window_key)) {
    return NoSuchKey("type 1 window", window_key);
  }
  if (bind.length == 0) {
    Unbind(*window);
  } else if (absl::Status status = Bind(*window, by, bind); !status.ok()) {
    return status;
  }
  window->tag = static_cast<uint8_t>(new_key);
  return absl::OkStatus();
}

absl::Status MemoryTable::BindType2(uint32_t window_key, uint32_t new_key,
                                    const Accessor& by,
                                    const WindowBind& bind) {
  Entry* const window = FindWindow(window_key);
  if (window == nullptr || window->kind != Kind::kWindow2 ||
      IndexOf(new_key) != IndexOf(window_key)) {
    return NoSuchKey("type 2 window", window_key);
  }
  if (window->bound != 0 || bind.length == 0) {
    return absl::FailedPreconditionError("the window is bound already");
  }
  if (absl::Status status = Bind(*window, by, bind); !status.ok()) {
    return status;
  }
  window->owner = by.qpn;
  window->tag = static_cast<uint8_t>(new_key);
  return absl::OkStatus();
}

bool MemoryTable::Invalidate(uint32_t key, const Accessor& by) {
  Entry* const entry = Find(key);
  if (entry == nullptr || entry->kind != Kind::kWindow2 || entry->bound == 0 ||
      entry->pd != by.pd || entry->owner != by.qpn) {
    return false;
  }
  Unbind(*entry);
  return true;
}

std::optional<std::span<std::byte>> MemoryTable::Slice(const Entry& entry,
                                                       uint64_t address,
                                                       uint64_t length) {
  if (address < entry.start || length > entry.length ||
      address - entry.start > entry.length - length) {
    return std::nullopt;
  }
  return std::span(entry.base + (address - entry.start), length);
}

std::optional<Segment> MemoryTable::FindLocal(PdId pd, const ibv_sge& sge,
                                              bool write) const {
  if (sge.length == 0) return Segment();
  const Entry* const entry = Find(sge.lkey);
  if (entry == nullptr || entry->kind != Kind::kRegion || entry->pd != pd) {
    return std::nullopt;
  }
  if (write && (entry->access & IBV_ACCESS_LOCAL_WRITE) == 0) {
    return std::nullopt;
  }
  return Slice(*entry, sge.addr, sge.length);
}

std::optional<std::span<std::byte>> MemoryTable::FindRemote(
    const Accessor& by, const MemoryClaim& claim) const {
  const Entry* const entry = Find(ToUint(claim.rkey));
  if (entry == nullptr || entry->pd != by.pd ||
      (entry->access & claim.access) == 0) {
    return std::nullopt;
  }
  if (entry->kind == Kind::kWindow2 && entry->owner != by.qpn) {
    return std::nullopt;
  }
  return Slice(*entry, claim.address, claim.length);
}

}  // namespace nd::soft
