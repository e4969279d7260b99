// Registration of memory that applications own.
#ifndef ND_TRANSPORT_MEMORY_REGISTRATION_CACHE_H_
#define ND_TRANSPORT_MEMORY_REGISTRATION_CACHE_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <set>
#include <span>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/lock.h"
#include "transport/memory/registrar.h"

namespace nd::transport {

// Registers an application's buffers, and may keep a registration for the next
// use of the same memory.
//
// Keeping is a promise of the application's, and off without it. A device pins
// pages, not addresses: where the application frees memory and gets other
// memory at the same address, a kept registration still means the old pages,
// and what is sent or received through it is silently wrong. What could tell us
// does not do so in time. Hooks of munmap, madvise and mremap miss what libc
// and the loader do within themselves, and what calls the kernel directly.
// userfaultfd holds up the thread that unmaps until its event is read, but the
// address is free before that: another thread can map it anew and send from it
// while the event waits, and the events have to be allowed by the
// administrator. (A device with on-demand paging needs none of this:
// IBV_ACCESS_ON_DEMAND.) So by default a registration ends with its last use,
// which costs a system call and the pinning of each page for each message; with
// Keep, the application says that it calls Invalidate before it unmaps or frees
// memory that it has sent from or received into, or that it never does.
//
// An entry is a range that was asked for, with its access. A request within a
// kept entry of the same access is served by it. Where ranges overlap
// otherwise, each is an entry of its own: one merged range would grow with each
// use, hold pages that nobody asked for, and could not be registered where half
// of it has been unmapped. But an entry within a newer one has nothing left to
// serve and goes, as soon as it is not in use. Two kinds of requests are served
// only by an entry of the very same range: with access for the peer, because
// its rkey lets the peer reach all of the entry; and without Keep, because of a
// wider entry that a part holds in use, the application may already have freed
// the rest.
//
// What is kept is bounded; the least recently used goes first, what is in use
// never.
//
// Thread-safe. It holds its lock while it registers, which can take long: one
// cache a reactor, of which other threads Invalidate only.
class RegistrationCache {
 private:
  struct Entry;
  using Entries = std::list<Entry>;

 public:
  enum class Keep {
    kNothing,  // a registration ends with its last use
    // What no peer has access to. A kept rkey would let the peer into the
    // memory after it was told that its use is over.
    kLocal,
    kAll,  // of peers, too, that are trusted
  };
  struct Options {
    Keep keep = Keep::kNothing;
    size_t max_entries = 1024;  // kept and in use
    size_t max_bytes = size_t{1} << 30;
  };
  struct Statistics {
    uint64_t hits = 0;
    uint64_t misses = 0;       // registrations made
    uint64_t evictions = 0;    // for want of room
    uint64_t invalidated = 0;  // entries
    size_t entries = 0;        // registered now
    size_t bytes = 0;
    size_t entries_in_use = 0;
    size_t bytes_in_use = 0;
  };

  // A use of a registration. The memory stays registered while it lives, and
  // the cache outlives it. One thread at a time.
  class Use {
   public:
    Use() = default;  // of nothing
    Use(Use&& other) noexcept
        : cache_(std::exchange(other.cache_, nullptr)), entry_(other.entry_) {}
    Use& operator=(Use&& other) noexcept {
      const Use old(std::move(*this));
      cache_ = std::exchange(other.cache_, nullptr);
      entry_ = other.entry_;
      return *this;
    }
    ~Use() {
      if (cache_ != nullptr) cache_->Release(entry_);
    }
    MemoryKeys keys() const;

   private:
    friend class RegistrationCache;
    Use(RegistrationCache* cache, Entries::iterator entry)
        : cache_(cache), entry_(entry) {}
    RegistrationCache* cache_ = nullptr;
    Entries::iterator entry_{};
  };

  RegistrationCache(std::shared_ptr<Registrar> registrar,
                    const Options& options);
  RegistrationCache(const RegistrationCache&) = delete;
  RegistrationCache& operator=(const RegistrationCache&) = delete;
  ~RegistrationCache();

  // `access` is of IBV_ACCESS_*. RESOURCE_EXHAUSTED: what is in use leaves no
  // room, or the registrar has none. INVALID_ARGUMENT: no bytes.
  absl::StatusOr<Use> Acquire(std::span<std::byte> memory, unsigned access);

  // The memory is about to be unmapped or freed: no registration of any of it
  // will be found again. Returns how many are still in use, 0 if all of them
  // are gone; the others go with their last use.
  size_t Invalidate(const void* address, size_t size);

  Statistics statistics() const;

 private:
  // Where an entry is found. Of an access whose entries serve parts, no range
  // holds another, so that their ends are in the order of their beginnings.
  struct Range {
    unsigned access;
    uint64_t begin;
    uint64_t end;
    size_t size() const { return end - begin; }
    // NOLINTNEXTLINE(modernize-use-nullptr): that 0 is the compiler's
    auto operator<=>(const Range&) const = default;
  };
  struct ByRange {
    using is_transparent = void;
    bool operator()(Entries::iterator a, Entries::iterator b) const {
      return a->range < b->range;
    }
    bool operator()(Entries::iterator a, const Range& b) const {
      return a->range < b;
    }
    bool operator()(const Range& a, Entries::iterator b) const {
      return a < b->range;
    }
  };
  using Index = std::set<Entries::iterator, ByRange>;
  // Once it is over it is kept for another range, with its place in the index,
  // so that only registering itself allocates.
  struct Entry {
    Range range{};
    std::unique_ptr<Registration> registration{};
    size_t uses = 0;
    bool indexed = false;  // else it goes with its last use
    Index::node_type place{};
  };

  bool Keeps(unsigned access) const;
  bool ServesParts(unsigned access) const;
  Entries::iterator Find(const Range& range)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  absl::Status MakeRoom(size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  absl::StatusOr<std::unique_ptr<Registration>> Register(
      std::span<std::byte> memory, unsigned access)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  Entries::iterator NewEntry(const Range& range,
                             std::unique_ptr<Registration> registration)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void RetireWithin(const Range& range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void EvictOldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void Unindex(Entries::iterator entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void Unregister(Entries& from, Entries::iterator entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void Release(Entries::iterator entry);

  const std::shared_ptr<Registrar> registrar_;
  const Options options_;
  mutable Lock lock_;  // held while memory is registered, too
  Entries in_use_ ABSL_GUARDED_BY(lock_);
  Entries kept_ ABSL_GUARDED_BY(lock_);  // the least recently used first
  Entries spare_ ABSL_GUARDED_BY(lock_);
  Index index_ ABSL_GUARDED_BY(lock_);
  Statistics statistics_ ABSL_GUARDED_BY(lock_);
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_MEMORY_REGISTRATION_CACHE_H_
