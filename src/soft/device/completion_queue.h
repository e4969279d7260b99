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

// What comes in comes under the device's lock, and so does all that Push has to
// agree with; what goes out is taken by any thread.
class CompletionQueue {
 public:
  // `channel` may be null, and outlives it; `owner` is whatever its user wants
  // to find it by.
  CompletionQueue(uint32_t capacity, CompletionChannel* channel, void* owner);
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  // Any thread. Returns how many it took; -1: the queue has overrun.
  int Poll(std::span<ibv_wc> out);
  uint32_t size() const {
    return pushed_.load(std::memory_order_acquire) -
           taken_.load(std::memory_order_relaxed);
  }
  bool empty() const { return size() == 0; }
  bool armed() const {
    return armed_.load(std::memory_order_relaxed) != Armed::kNo;
  }
  CompletionChannel* channel() const { return channel_; }
  void* owner() const { return owner_; }

  // Under the device's lock.
  // False: there was no room, it is lost, and from now on the queue is in error
  // (IBA ch. 11, CQ error).
  [[nodiscard]] bool Push(const CqEntry& entry);
  // The next completion, or only the next solicited one, makes an event.
  void Arm(bool solicited_only);
  // Takes out the completions of a queue pair that is destroyed or reset.
  void Forget(uint32_t qpn);
  // False: more are queued than would fit.
  [[nodiscard]] bool Resize(uint32_t capacity);
  uint32_t capacity() const { return capacity_; }
  // Who polls it looks for what may have come; `last`: before it sleeps.
  void BeginLook(bool last) {
    awaits_receive_ = !last && !received_;
    received_ = false;
  }
  // The last look had brought no receive, and this one has.
  bool has_awaited_receive() const { return awaits_receive_ && received_; }

 private:
  enum class Armed : uint8_t { kNo, kSolicited, kAny };

  uint32_t After(uint32_t place) const {
    return place + 1 == capacity_ ? 0 : place + 1;
  }
  uint32_t Behind(uint32_t entries) const {  // those that are taken next
    return static_cast<uint32_t>((uint64_t{out_} + entries) % capacity_);
  }

  CompletionChannel* const channel_;
  void* const owner_;
  // Not touched before it is used: a large queue costs what it holds. Room and
  // entries change with both locks.
  std::unique_ptr<ibv_wc[]> entries_;
  uint32_t capacity_;

  // The device's lock. Both numbers count for ever.
  std::atomic<uint32_t> pushed_{0};
  std::atomic<Armed> armed_{Armed::kNo};
  std::atomic<bool> overrun_{false};
  uint32_t in_ = 0;        // where the next goes
  bool received_ = false;  // since the last look began
  bool awaits_receive_ = false;

  Lock mutex_;  // of those that take
  std::atomic<uint32_t> taken_{0};
  uint32_t out_ = 0;  // where the oldest is
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_COMPLETION_QUEUE_H_
