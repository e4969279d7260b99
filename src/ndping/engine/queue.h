// One connection of a test as its data loops see it: the QP, its slots here,
// and what the peer lets it use there.
#ifndef ND_NDPING_ENGINE_QUEUE_H_
#define ND_NDPING_ENGINE_QUEUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "ndping/engine/buffers.h"
#include "ndping/engine/plan.h"
#include "verbs/queue_pair.h"

namespace nd::ndping {

// What a request was for, kept in its wr_id.
enum class WorkKind : uint8_t {
  kReceive,  // value: its slot
  kMessage,  // value: how many messages were posted up to this one
  kNotice,
  kCredit,
};
struct Work {
  WorkKind kind = WorkKind::kReceive;
  uint32_t qp = 0;  // index, below 2^24
  uint32_t value = 0;

  constexpr uint64_t Encode() const {
    return uint64_t{static_cast<uint8_t>(kind)} << 56 | uint64_t{qp} << 32 |
           value;
  }
  static constexpr Work Decode(uint64_t wr_id) {
    return {.kind = static_cast<WorkKind>(wr_id >> 56),
            .qp = static_cast<uint32_t>(wr_id >> 32) & 0xffffff,
            .value = static_cast<uint32_t>(wr_id)};
  }
};

// Refers to objects of its Connections. One thread.
class Queue {
 public:
  Queue(uint32_t index, verbs::QueuePair& qp, const Buffers& buffers,
        const TestPlan& plan)
      : index_(index),
        qp_(&qp),
        buffers_(&buffers),
        place_(buffers.PlaceOf(index)),
        plan_(&plan) {}

  uint32_t index() const { return index_; }
  verbs::QueuePair& qp() const { return *qp_; }

  // The slots of this side. A message of no bytes has no element.
  std::span<std::byte> LocalSlot(uint32_t slot, uint64_t size) const {
    return {buffers_->at(place_.local + slot * plan_->stride), size};
  }
  std::span<std::byte> TargetSlot(uint32_t slot, uint64_t size) const {
    return {buffers_->at(place_.target + slot * plan_->stride), size};
  }
  ibv_sge LocalSge(uint32_t slot, uint64_t size) const {
    return buffers_->region().Sge(place_.local + slot * plan_->stride,
                                  static_cast<uint32_t>(size));
  }

  // Posts a receive for the messages of this test into `slot`.
  absl::Status PostReceive(uint32_t slot) {
    const Work work{.qp = index_, .value = slot};
    if (plan_->op.names_memory) return qp_->PostReceive(work.Encode(), {});
    const ibv_sge sge =
        buffers_->region().Sge(place_.target + slot * plan_->stride,
                               static_cast<uint32_t>(plan_->stride));
    return qp_->PostReceive(work.Encode(), {&sge, 1});
  }

  // The counter that the peer's atomics work on.
  std::atomic_ref<uint64_t> AtomicTarget() const {
    return std::atomic_ref(Word(place_.target));
  }

  // The word into which the peer writes credits, and the one that holds what
  // this side returns.
  std::atomic_ref<uint64_t> CreditIn() const {
    return std::atomic_ref(Word(place_.credit_in));
  }
  std::atomic_ref<uint64_t> CreditOut() const {
    return std::atomic_ref(Word(place_.credit_out));
  }
  ibv_sge CreditOutSge() const {
    return buffers_->region().Sge(place_.credit_out, sizeof(uint64_t));
  }

  // What this side offers to the peer, and what the peer offers.
  v1::Layout::Queue Offer() const;
  void Take(const v1::Layout::Queue& offer, bool wrong_rkey);

  struct Remote {
    uint64_t address = 0;
    uint32_t rkey = 0;
    uint64_t credit_address = 0;
    uint32_t credit_rkey = 0;
  };
  const Remote& remote() const { return remote_; }
  uint64_t RemoteSlot(uint32_t slot) const {
    return remote_.address + slot * plan_->stride;
  }

 private:
  uint64_t& Word(size_t offset) const {
    return *reinterpret_cast<uint64_t*>(buffers_->at(offset));
  }

  uint32_t index_;
  verbs::QueuePair* qp_;
  const Buffers* buffers_;
  Buffers::Place place_;
  const TestPlan* plan_;
  Remote remote_;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_QUEUE_H_
