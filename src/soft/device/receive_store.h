// Receives that were posted and wait for a message.
#ifndef ND_SOFT_DEVICE_RECEIVE_STORE_H_
#define ND_SOFT_DEVICE_RECEIVE_STORE_H_

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "soft/device/async_event.h"
#include "soft/device/memory_table.h"

namespace nd::soft {

struct PostedReceive {
  uint64_t wr_id = 0;
  // Of the store: good until the next Post.
  std::span<const ibv_sge> sges{};
};

// A receive queue's. One thread at a time.
class ReceiveStore {
 public:
  ReceiveStore(size_t capacity, size_t max_sges);

  // False: it is full, or there are too many elements.
  [[nodiscard]] bool Post(uint64_t wr_id, std::span<const ibv_sge> sges);
  std::optional<PostedReceive> Take();
  void Clear();

  size_t size() const { return size_; }
  size_t capacity() const { return slots_.size(); }
  size_t max_sges() const { return max_sges_; }
  // False: more are posted than would fit.
  [[nodiscard]] bool Resize(size_t capacity);

 private:
  struct Slot {
    uint64_t wr_id = 0;
    size_t sges = 0;
  };

  size_t SlotOf(size_t index) const { return (begin_ + index) % slots_.size(); }

  size_t max_sges_;
  std::vector<Slot> slots_;
  std::vector<ibv_sge> sges_;  // max_sges_ for each slot
  size_t begin_ = 0;
  size_t size_ = 0;
};

// A shared receive queue (IBA vol. 1, ch. 10). One thread at a time.
class SharedReceiveQueue {
 public:
  struct Options {
    PdId pd{};
    size_t capacity = 1;
    size_t max_sges = 1;
    AsyncSource events{};
  };
  explicit SharedReceiveQueue(const Options& options)
      : pd_(options.pd),
        events_(options.events),
        store_(options.capacity, options.max_sges) {}

  [[nodiscard]] bool Post(uint64_t wr_id, std::span<const ibv_sge> sges) {
    return store_.Post(wr_id, sges);
  }
  // Fewer receives left than the limit make an event, once.
  std::optional<PostedReceive> Take();

  // 0 disarms it.
  void set_limit(uint32_t limit) { limit_ = limit; }
  uint32_t limit() const { return limit_; }
  ReceiveStore& store() { return store_; }
  PdId pd() const { return pd_; }

 private:
  const PdId pd_;
  const AsyncSource events_;
  ReceiveStore store_;
  uint32_t limit_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_RECEIVE_STORE_H_
