// Completions on their way to the application (IBA vol. 1, ch. 11, poll for
// completion).
#ifndef ND_SOFT_DEVICE_COMPLETION_QUEUE_H_
#define ND_SOFT_DEVICE_COMPLETION_QUEUE_H_

#include <infiniband/verbs.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/base/thread_annotations.h"
#include "base/lock.h"
#include "soft/device/event_queue.h"

namespace nd::soft {

class CompletionQueue;
using CompletionChannel = EventQueue<CompletionQueue*>;

struct CqEntry {
  ibv_wc wc{};
  bool solicited = false;
};

// Any thread.
class CompletionQueue {
 public:
  // `channel` may be null, and outlives it; `owner` is whatever its user wants
  // to find it by.
  CompletionQueue(uint32_t capacity, CompletionChannel* channel, void* owner);
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  // False: there was no room, it is lost, and from now on the queue is in error
  // (IBA ch. 11, CQ error).
  [[nodiscard]] bool Push(const CqEntry& entry);
  // Returns how many it took; -1: the queue has overrun.
  int Poll(std::span<ibv_wc> out);
  uint32_t size() const { return size_.load(std::memory_order_acquire); }
  bool empty() const { return size() == 0; }

  // The next completion, or only the next solicited one, makes an event.
  void Arm(bool solicited_only);
  bool armed() const {
    return armed_.load(std::memory_order_relaxed) != Armed::kNo;
  }
  // Takes out the completions of a queue pair that is destroyed or reset.
  void Forget(uint32_t qpn);
  // False: more are queued than would fit.
  [[nodiscard]] bool Resize(uint32_t capacity);

  CompletionChannel* channel() const { return channel_; }
  void* owner() const { return owner_; }
  uint32_t capacity() const;

 private:
  enum class Armed : uint8_t { kNo, kSolicited, kAny };

  CompletionChannel* const channel_;
  void* const owner_;
  // Both change under the lock only.
  std::atomic<uint32_t> size_{0};
  std::atomic<Armed> armed_{Armed::kNo};

  mutable Lock mutex_;
  uint32_t capacity_ ABSL_GUARDED_BY(mutex_);
  // Not touched before it is used: a large queue costs what it holds.
  std::unique_ptr<ibv_wc[]> entries_ ABSL_GUARDED_BY(mutex_);
  uint32_t begin_ ABSL_GUARDED_BY(mutex_) = 0;
  bool overrun_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_COMPLETION_QUEUE_H_
