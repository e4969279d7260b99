#include "transport/memory/registration_cache.h"

#include <infiniband/verbs.h>

#include <algorithm>
#include <cassert>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::transport {
namespace {

bool OpenToPeer(unsigned access) {
  return (access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
                    IBV_ACCESS_REMOTE_ATOMIC)) != 0;
}

}  // namespace

MemoryKeys RegistrationCache::Use::keys() const {
  return entry_->registration->keys();
}

RegistrationCache::RegistrationCache(std::shared_ptr<Registrar> registrar,
                                     const Options& options)
    : registrar_(std::move(registrar)), options_(options) {}

RegistrationCache::~RegistrationCache() { assert(in_use_.empty()); }

bool RegistrationCache::Keeps(unsigned access) const {
  switch (options_.keep) {
    case Keep::kNothing:
      return false;
    case Keep::kLocal:
      return !OpenToPeer(access);
    case Keep::kAll:
      return true;
  }
  return false;
}

bool RegistrationCache::ServesParts(unsigned access) const {
  return Keeps(access) && !OpenToPeer(access);
}

absl::StatusOr<RegistrationCache::Use> RegistrationCache::Acquire(
    std::span<std::byte> memory, unsigned access) {
  if (memory.empty()) {
    return absl::InvalidArgumentError("no bytes to register");
  }
  const uint64_t begin = reinterpret_cast<uint64_t>(memory.data());
  const Range range{access, begin, begin + memory.size()};
  const Holding holding(lock_);
  if (const auto entry = Find(range); entry != in_use_.end()) {
    ++statistics_.hits;
    if (entry->uses++ == 0) {
      in_use_.splice(in_use_.end(), kept_, entry);
      ++statistics_.entries_in_use;
      statistics_.bytes_in_use += entry->range.size();
    }
    return Use(this, entry);
  }
  ND_RETURN_IF_ERROR(MakeRoom(memory.size()));
  ND_ASSIGN_OR_RETURN(auto registration, Register(memory, access));
  ++statistics_.misses;
  ++statistics_.entries;
  ++statistics_.entries_in_use;
  statistics_.bytes += memory.size();
  statistics_.bytes_in_use += memory.size();
  if (ServesParts(access)) RetireWithin(range);
  return Use(this, NewEntry(range, std::move(registration)));
}

RegistrationCache::Entries::iterator RegistrationCache::NewEntry(
    const Range& range, std::unique_ptr<Registration> registration) {
  if (spare_.empty()) spare_.emplace_back();
  const auto entry = spare_.begin();
  in_use_.splice(in_use_.end(), spare_, entry);
  entry->range = range;
  entry->registration = std::move(registration);
  entry->uses = 1;
  entry->indexed = true;
  if (entry->place.empty()) {
    index_.insert(entry);
  } else {
    index_.insert(std::move(entry->place));
  }
  return entry;
}

// What serves the range; in_use_.end() if nothing does.
RegistrationCache::Entries::iterator RegistrationCache::Find(
    const Range& range) {
  if (!ServesParts(range.access)) {
    const auto same = index_.find(range);
    return same == index_.end() ? in_use_.end() : *same;
  }
  // Of those that begin early enough, the last one reaches the furthest.
  auto next = index_.upper_bound(Range{range.access, range.begin, UINT64_MAX});
  if (next == index_.begin()) return in_use_.end();
  const auto entry = *std::prev(next);
  const bool serves =
      entry->range.access == range.access && entry->range.end >= range.end;
  return serves ? entry : in_use_.end();
}

absl::Status RegistrationCache::MakeRoom(size_t bytes) {
  const size_t in_use = statistics_.bytes_in_use;
  if (statistics_.entries_in_use >= options_.max_entries ||
      bytes > options_.max_bytes - in_use) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "registrations of application memory: ", bytes, " bytes asked for, ",
        in_use, " bytes in ", statistics_.entries_in_use, " in use of at most ",
        options_.max_bytes, " in ", options_.max_entries));
  }
  while (statistics_.entries >= options_.max_entries ||
         statistics_.bytes > options_.max_bytes - bytes) {
    EvictOldest();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Registration>> RegistrationCache::Register(
    std::span<std::byte> memory, unsigned access) {
  auto registration = registrar_->Register(memory, access);
  if (!absl::IsResourceExhausted(registration.status()) || kept_.empty()) {
    return registration;
  }
  // The limit on pinned memory, or on the device's regions, is lower than ours.
  while (!kept_.empty()) EvictOldest();
  return registrar_->Register(memory, access);
}

void RegistrationCache::RetireWithin(const Range& range) {
  auto next = index_.lower_bound(Range{range.access, range.begin, 0});
  while (next != index_.end() && (*next)->range.access == range.access &&
         (*next)->range.end <= range.end) {
    Unindex(*next++);
  }
}

void RegistrationCache::EvictOldest() {
  ++statistics_.evictions;
  Unindex(kept_.begin());
}

// No request finds it again; it goes now or with its last use.
void RegistrationCache::Unindex(Entries::iterator entry) {
  entry->place = index_.extract(entry);
  entry->indexed = false;
  if (entry->uses == 0) Unregister(kept_, entry);
}

void RegistrationCache::Unregister(Entries& from, Entries::iterator entry) {
  --statistics_.entries;
  statistics_.bytes -= entry->range.size();
  entry->registration.reset();
  spare_.splice(spare_.begin(), from, entry);
}

void RegistrationCache::Release(Entries::iterator entry) {
  const Holding holding(lock_);
  if (--entry->uses > 0) return;
  --statistics_.entries_in_use;
  statistics_.bytes_in_use -= entry->range.size();
  if (entry->indexed && Keeps(entry->range.access)) {
    kept_.splice(kept_.end(), in_use_, entry);
    return;
  }
  if (entry->indexed) entry->place = index_.extract(entry);
  Unregister(in_use_, entry);
}

size_t RegistrationCache::Invalidate(const void* address, size_t size) {
  const uint64_t begin = reinterpret_cast<uint64_t>(address);
  const uint64_t end = begin + std::min(size, UINT64_MAX - begin);
  const auto overlaps = [begin, end](const Entry& entry) {
    return entry.range.begin < end && begin < entry.range.end;
  };
  const Holding holding(lock_);
  for (auto next = index_.begin(); next != index_.end();) {
    const auto entry = *next++;
    if (!overlaps(*entry)) continue;
    ++statistics_.invalidated;
    Unindex(entry);
  }
  // Also those that an earlier call, or a wider entry, has made unfindable.
  return static_cast<size_t>(
      std::count_if(in_use_.begin(), in_use_.end(), overlaps));
}

RegistrationCache::Statistics RegistrationCache::statistics() const {
  const Holding holding(lock_);
  return statistics_;
}

}  // namespace nd::transport
