#include "ndping/engine/plan.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace nd::ndping {
namespace {

// No two slots share a cache line, and atomics are aligned.
constexpr uint64_t kSlotAlignment = 64;

// One under way and one posted in advance, so that a receive can be posted
// again after the answer has left.
constexpr uint32_t kPingPongReceives = 2;
constexpr uint32_t kPingPongPlaces = 64;

// Unchecked, so that a short window does not mean a credit for each message.
constexpr uint32_t kMinReceives = 64;

// At most four notices can be under way: of two halves of the slots, of the
// part half before them (slots may be odd) and of the last part.
constexpr uint32_t kNoticeReceives = 8;

// Besides data: those notices, a credit, and the request that closes a part.
constexpr uint32_t kSparePlaces = 8;

uint64_t Largest(const v1::TestSpec& spec) {
  return spec.sizes().empty() ? 0 : *std::ranges::max_element(spec.sizes());
}

uint32_t WantedSlots(const TestPlan& plan, const v1::TestSpec& spec) {
  if (!plan.verify) return 1;
  // In a ping-pong the message before is checked while the next one is under
  // way.
  return plan.latency ? 2 : std::max(spec.depth(), 1u);
}

absl::Status PlanSlots(const v1::TestSpec& spec, uint64_t max_memory,
                       TestPlan& plan) {
  const uint64_t largest = std::max<uint64_t>(Largest(spec), 1);
  plan.stride =
      (largest + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment;
  const uint64_t areas = plan.bidirectional || plan.ping_pong ? 2 : 1;
  const uint64_t fit = max_memory / plan.qps / areas / plan.stride;
  if (fit == 0) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "memory: ", plan.qps, " QPs with messages of up to ", largest,
        " bytes need at least ", plan.qps * areas * plan.stride,
        " bytes of buffers, and ", max_memory, " are allowed"));
  }
  plan.slots =
      static_cast<uint32_t>(std::min<uint64_t>(fit, WantedSlots(plan, spec)));
  return absl::OkStatus();
}

void PlanLatency(TestPlan& plan) {
  plan.window = 1;
  plan.send_places = plan.ping_pong ? kPingPongPlaces : 2;
  if (plan.op.takes_receive) plan.receives = kPingPongReceives;
}

void PlanBandwidth(const v1::TestSpec& spec, TestPlan& plan) {
  const uint32_t depth = std::max(spec.depth(), 1u);
  plan.window = plan.verify ? plan.slots : depth;
  plan.signal_every = std::clamp(spec.signal_every(), 1u, plan.window);
  plan.send_places = plan.window + kSparePlaces;
  // The application's own signals come often enough.
  plan.max_unsignaled = plan.send_places - 1;
  if (plan.op.takes_receive) {
    plan.receives =
        plan.verify ? plan.slots : std::max(2 * depth, kMinReceives);
    plan.uncredited = plan.receives;
    plan.credit_every = std::max(1u, plan.receives / 4);
  } else if (plan.op.carries_data && plan.verify) {
    plan.receives = kNoticeReceives;
    plan.uncredited = plan.slots;
    plan.notify_every = std::max(1u, plan.slots / 2);
    plan.credit_every = 1;  // with each notice that was taken
  }
  plan.target_takes_part = plan.receives > 0;
}

}  // namespace

OperationFacts FactsOf(v1::Operation operation) {
  switch (operation) {
    case v1::OPERATION_SEND_WITH_IMM:
      return {.opcode = IBV_WR_SEND_WITH_IMM,
              .carries_data = true,
              .takes_receive = true,
              .has_immediate = true};
    case v1::OPERATION_WRITE:
      return {.opcode = IBV_WR_RDMA_WRITE,
              .carries_data = true,
              .names_memory = true};
    case v1::OPERATION_WRITE_WITH_IMM:
      return {.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
              .carries_data = true,
              .takes_receive = true,
              .has_immediate = true,
              .names_memory = true};
    case v1::OPERATION_READ:
      return {.opcode = IBV_WR_RDMA_READ, .names_memory = true};
    case v1::OPERATION_COMPARE_SWAP:
      return {.opcode = IBV_WR_ATOMIC_CMP_AND_SWP,
              .names_memory = true,
              .is_atomic = true};
    case v1::OPERATION_FETCH_ADD:
      return {.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
              .names_memory = true,
              .is_atomic = true};
    case v1::OPERATION_SEND:
    default:
      return {
          .opcode = IBV_WR_SEND, .carries_data = true, .takes_receive = true};
  }
}

absl::StatusOr<TestPlan> TestPlan::Make(const v1::TestSpec& spec,
                                        uint64_t max_memory) {
  TestPlan plan;
  plan.op = FactsOf(spec.operation());
  plan.qps = std::max(spec.qps(), 1u);
  plan.verify = spec.verify();
  plan.latency = spec.kind() == v1::TEST_KIND_LATENCY;
  plan.bidirectional = !plan.latency && spec.bidirectional();
  plan.ping_pong = plan.latency && plan.op.carries_data;
  const absl::Status fits = PlanSlots(spec, max_memory, plan);
  if (!fits.ok()) return fits;
  if (plan.latency) {
    PlanLatency(plan);
  } else {
    PlanBandwidth(spec, plan);
  }
  return plan;
}

}  // namespace nd::ndping
