// What follows from a TestSpec for the data path: who sends what into which
// memory, how much may be under way, and how large the queues are. Both sides
// compute the same.
#ifndef ND_NDPING_ENGINE_PLAN_H_
#define ND_NDPING_ENGINE_PLAN_H_

#include <infiniband/verbs.h>

#include <cstdint>

#include "absl/status/statusor.h"
#include "nd/v1/harness.pb.h"

namespace nd::ndping {

struct OperationFacts {
  ibv_wr_opcode opcode = IBV_WR_SEND;
  bool carries_data = false;   // from the initiator to the target
  bool takes_receive = false;  // of the target
  bool has_immediate = false;
  bool names_memory = false;  // of the target
  bool is_atomic = false;
};
OperationFacts FactsOf(v1::Operation operation);

struct TestPlan {
  // RESOURCE_EXHAUSTED when not even one message in each direction fits into
  // `max_memory`.
  static absl::StatusOr<TestPlan> Make(const v1::TestSpec& spec,
                                       uint64_t max_memory);

  OperationFacts op;
  uint32_t qps = 1;
  bool verify = false;
  bool latency = false;
  bool bidirectional = false;
  // A latency test whose answer is a message like the question.
  bool ping_pong = false;
  // The target of a bandwidth test hears of each message, or of batches of
  // them, and has to answer with credits.
  bool target_takes_part = false;

  // Buffers of each QP, one of each kind: where messages go out from (or what
  // is fetched arrives), and where they come in (or are fetched from).
  // Unchecked messages all use the same slot. Every size of a sweep uses the
  // same slots, so that a receive that was posted in one phase serves the next.
  uint64_t stride = 64;  // bytes from slot to slot; at least the largest size
  uint32_t slots = 1;

  // Per QP.
  uint32_t window = 1;          // messages under way
  uint32_t signal_every = 1;    // of them is signalled
  uint32_t receives = 0;        // that a target keeps posted
  uint32_t uncredited = 0;      // messages not yet taken; 0: any number
  uint32_t credit_every = 0;    // messages taken, a credit is returned
  uint32_t notify_every = 0;    // checked WRITEs, the target is told of them
  uint32_t send_places = 1;     // of the send queue
  uint32_t max_unsignaled = 0;  // QueuePair::Options has it

  bool Initiates(bool client) const { return client || bidirectional; }
  bool IsTarget(bool client) const { return !client || bidirectional; }
  bool HasLocal(bool client) const { return Initiates(client) || ping_pong; }
  bool HasTarget(bool client) const { return IsTarget(client) || ping_pong; }

  uint64_t area_bytes() const { return stride * slots; }
  uint32_t SlotOf(uint64_t sequence) const {
    // A division costs more than the rest of a message's bookkeeping.
    return slots == 1 ? 0 : static_cast<uint32_t>(sequence % slots);
  }

  // Of `total` messages dealt to the QPs in turn, those of QP `index`.
  uint64_t ShareOf(uint64_t total, uint32_t index) const {
    return total / qps + (index < total % qps ? 1 : 0);
  }
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_PLAN_H_
