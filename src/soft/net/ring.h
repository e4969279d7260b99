// A queue of byte records in memory that two processes share, from one to the
// other. Neither believes what the other wrote: an index or length that cannot
// be is answered by no room, or by kBroken, never by a look beyond the memory.
#ifndef ND_SOFT_NET_RING_H_
#define ND_SOFT_NET_RING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/cache_line.h"

namespace nd::soft {

// What stands in front of the records. Indices count bytes for ever. Where a
// record is to be found says the word in front of it, so that one who waits for
// it looks at the cache line in which it comes; the tail is for the record.
struct RingControl {
  alignas(kCacheLineBytes) std::atomic<uint64_t> tail{0};  // producer writes
  alignas(kCacheLineBytes) std::atomic<uint64_t> head{0};  // consumer writes
  // The consumer waits to be woken for the next record. So it does at first.
  alignas(kCacheLineBytes) std::atomic<uint32_t> resting{1};
  // The producer waits to be woken once there is room.
  alignas(kCacheLineBytes) std::atomic<uint32_t> starved{0};
  // Where the producer has this. Who reads its memory there, and finds the same
  // said, reads the producer's memory.
  alignas(kCacheLineBytes) std::atomic<uint64_t> self{0};
  // The consumer does, and can fetch what is lent to it.
  std::atomic<uint32_t> fetches{0};
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

inline constexpr size_t kRingControlBytes = 4096;
static_assert(sizeof(RingControl) <= kRingControlBytes);

// Whether memory of that size can be a ring: control, and a power of two.
bool IsRingSize(size_t memory_bytes);

// One thread at a time. The memory is of a ring's size, aligned to a cache
// line, and outlives it.
class RingProducer {
 public:
  // Makes a ring of the memory, which is zeros. Before the consumer sees it.
  explicit RingProducer(std::span<std::byte> memory);

  // Whether a record of up to that many bytes surely fits. False: the consumer
  // has been asked to say when there is room again.
  [[nodiscard]] bool HasRoom(size_t record_bytes);
  // Where to write a record, which is at most half as large as the ring; Commit
  // is next. Empty: no room.
  std::span<std::byte> Reserve(size_t record_bytes);
  // The record that was reserved is complete.
  void Commit();
  // Shows the consumer what was committed. True: wake it.
  [[nodiscard]] bool Publish();
  // Whether the consumer has taken anything yet.
  bool consumed() const {
    return control_.head.load(std::memory_order_relaxed) != 0;
  }
  // Whether it fetches what is lent to it.
  bool fetches() const {
    return control_.fetches.load(std::memory_order_relaxed) != 0;
  }

 private:
  size_t Used(uint64_t head) const;
  bool FitsAt(uint64_t head, size_t need) const;
  void Say(uint32_t word);

  RingControl& control_;
  const std::span<std::byte> data_;
  uint64_t tail_ = 0;        // committed
  uint64_t published_ = 0;   // of it
  uint32_t first_word_ = 0;  // of what was not published
  uint64_t head_ = 0;        // as last read
  size_t reserved_ = 0;
};

enum class RingState { kRecord, kEmpty, kBroken };

// One thread at a time; like RingProducer otherwise.
class RingConsumer {
 public:
  explicit RingConsumer(std::span<std::byte> memory);

  // Whether the producer has published more than was popped.
  bool empty() const;
  // The oldest record, which stays until it is popped and the pop published.
  RingState Peek(std::span<const std::byte>& record);
  // Remembers what the producer says that it has published.
  void Mark();
  // Whether all of that was popped, or there is nothing.
  bool PassedMark() const;
  void Pop();
  // Gives back the room of what was popped. True: wake the producer.
  [[nodiscard]] bool Publish();
  // The same, once it is worth it.
  [[nodiscard]] bool PublishMuch();

  // From now on the producer wakes the consumer. False: a record is there.
  [[nodiscard]] bool Rest();
  void StopResting();

  // Where in the producer's memory the same number lies.
  uint64_t producer_self() const {
    return control_.self.load(std::memory_order_relaxed);
  }
  void set_fetches(bool fetches) {
    control_.fetches.store(fetches ? 1 : 0, std::memory_order_relaxed);
  }

 private:
  RingControl& control_;
  const std::span<std::byte> data_;
  uint64_t head_ = 0;  // of what was not popped
  uint64_t published_ = 0;
  uint64_t mark_ = 0;
  size_t peeked_ = 0;  // bytes that Pop frees
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_RING_H_
