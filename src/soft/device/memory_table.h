// Protection domains' memory: regions, windows, and the keys that name them
// (IBA vol. 1, ch. 10, memory management).
#ifndef ND_SOFT_DEVICE_MEMORY_TABLE_H_
#define ND_SOFT_DEVICE_MEMORY_TABLE_H_

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "soft/rc/memory.h"
#include "soft/rc/segments.h"
#include "soft/wire/serial.h"

namespace nd::soft {

enum class PdId : uint32_t {};

// Whoever asks for remote memory: a queue pair.
struct Accessor {
  PdId pd{};
  Qpn qpn{};
};

struct WindowBind {
  uint32_t region_key = 0;
  uint64_t address = 0;
  uint64_t length = 0;  // 0 unbinds
  unsigned access = 0;  // IBV_ACCESS_*, ZERO_BASED too
};

// A key is an index and a tag of 8 bits that changes each time the index is
// used again, so that a key that is gone stays gone for a while. The same key
// serves as lkey and rkey. One thread at a time.
class MemoryTable {
 public:
  explicit MemoryTable(size_t max_entries) : max_entries_(max_entries) {}

  struct RegionOptions {
    PdId pd{};
    void* address = nullptr;
    uint64_t length = 0;
    uint64_t iova = 0;  // what names the first byte
    unsigned access = 0;
  };
  // InvalidArgument for access that makes no sense. Whether there is memory at
  // the address is for the caller to know.
  absl::StatusOr<uint32_t> AddRegion(const RegionOptions& options);
  struct Range {
    void* address = nullptr;
    uint64_t length = 0;
  };
  struct RegionChange {
    std::optional<PdId> pd{};
    std::optional<Range> range{};
    std::optional<unsigned> access{};
  };
  // The key stays. FailedPrecondition while windows are bound to it.
  absl::Status ChangeRegion(uint32_t key, const RegionChange& change);
  // FailedPrecondition while windows are bound to it.
  absl::Status RemoveRegion(uint32_t key);

  // In what follows any key that a window has had names it: who binds one of
  // type 2 knows only the key that it began with.
  absl::StatusOr<uint32_t> AddWindow(PdId pd, ibv_mw_type type);
  void RemoveWindow(uint32_t key);
  // The window's key becomes `new_key`, of the same index. One of type 2 then
  // belongs to the queue pair until it is invalidated (IBA ch. 10,
  // type 2B).
  absl::Status BindType1(uint32_t window_key, uint32_t new_key,
                         const Accessor& by, const WindowBind& bind);
  absl::Status BindType2(uint32_t window_key, uint32_t new_key,
                         const Accessor& by, const WindowBind& bind);
  // IBV_WR_LOCAL_INV and SEND with invalidate: a type 2 window of this QP.
  [[nodiscard]] bool Invalidate(uint32_t key, const Accessor& by);

  // The bytes of a scatter/gather element; nothing if the key does not allow
  // it. An element of no bytes is always allowed.
  std::optional<Segment> FindLocal(PdId pd, const ibv_sge& sge,
                                   bool write) const;
  // What a peer may reach through this queue pair.
  std::optional<std::span<std::byte>> FindRemote(
      const Accessor& by, const MemoryClaim& claim) const;

  bool IsRegion(uint32_t key) const {
    const Entry* const entry = Find(key);
    return entry != nullptr && entry->kind == Kind::kRegion;
  }
  // The key that a type 1 window has after one that it has now.
  static uint32_t NextKey(uint32_t key) {
    return (key & ~0xffu) | ((key + 1) & 0xff);
  }
  size_t size() const { return used_; }

 private:
  enum class Kind : uint8_t { kNone, kRegion, kWindow1, kWindow2 };
  struct Entry {
    Kind kind = Kind::kNone;
    uint8_t tag = 0;
    PdId pd{};
    unsigned access = 0;
    std::byte* base = nullptr;  // where `start` lies in memory
    uint64_t start = 0;
    uint64_t length = 0;
    uint32_t bound = 0;  // regions: windows; windows: the region's key, or 0
    Qpn owner{};         // of a bound type 2 window
  };

  static uint32_t IndexOf(uint32_t key) { return key >> 8; }
  uint32_t KeyOf(uint32_t index) const {
    return index << 8 | entries_[index].tag;
  }
  const Entry* Find(uint32_t key) const;
  Entry* Find(uint32_t key);
  Entry* FindWindow(uint32_t any_key);
  absl::StatusOr<uint32_t> TakeIndex();
  void Release(uint32_t index);
  absl::Status Bind(Entry& window, const Accessor& by, const WindowBind& bind);
  void Unbind(Entry& window);
  static std::optional<std::span<std::byte>> Slice(const Entry& entry,
                                                   uint64_t address,
                                                   uint64_t length);

  const size_t max_entries_;
  size_t used_ = 0;
  std::vector<Entry> entries_{1};  // index 0 names nothing
  std::vector<uint32_t> free_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_MEMORY_TABLE_H_
