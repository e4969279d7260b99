#include "ndping/message/session_plan.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "control/layout.h"

namespace nd::ndping {
namespace {

// Beside the test's: the one that shows the token, and the load's.
constexpr uint32_t kMoreStreams = 2;

constexpr uint64_t kMinWindow = 256 << 10;
constexpr uint64_t kMaxWindow = 16 << 20;

// Of long messages, one that is taken and a few that are on their way to a
// stream at a time.
constexpr uint64_t kLongMessages = 6;

uint64_t RoundUp(uint64_t bytes, uint64_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

uint64_t Largest(const v1::TestSpec& spec) {
  return spec.sizes().empty() ? 0 : *std::ranges::max_element(spec.sizes());
}

// Twice what is on its way, so that the word of what was taken comes in time.
uint64_t WindowFor(uint64_t size, uint64_t depth, uint64_t eager_limit) {
  const uint64_t cost = control::kMessageCost + std::min(size, eager_limit);
  return std::clamp(RoundUp(2 * depth * cost, 4096), kMinWindow, kMaxWindow);
}

}  // namespace

StreamClass ClassOf(v1::StreamClass stream_class) {
  return stream_class == v1::STREAM_CLASS_BULK ? StreamClass::kBulk
                                               : StreamClass::kLatency;
}

absl::StatusOr<SessionPlan> SessionPlan::Make(const v1::TestSpec& spec,
                                              uint64_t max_memory) {
  const v1::SessionOptions& options = spec.session();
  SessionPlan plan;
  plan.has_load = options.has_load();
  const v1::Load& load = options.load();
  uint64_t window =
      WindowFor(Largest(spec), spec.depth(), options.eager_limit());
  const uint64_t streams = uint64_t{spec.qps()} + kMoreStreams;
  uint64_t long_bytes = Largest(spec) * kLongMessages * spec.qps();
  uint64_t longest = Largest(spec);
  if (plan.has_load) {
    window = std::max(
        window, WindowFor(load.size(), load.depth(), options.eager_limit()));
    long_bytes += load.size() * kLongMessages;
    longest = std::max(longest, load.size());
    plan.load_window = load.depth();
    plan.load_slots = spec.verify() ? load.depth() : 1;
    plan.load_stride = RoundUp(load.size(), 64);
  }
  // Many streams share what there is.
  const uint64_t room = max_memory / 2;
  if (window * streams > room / 2) {
    window =
        std::max(RoundUp(room / 2 / streams, 4096),
                 RoundUp(options.eager_limit() + control::kMessageCost, 4096));
  }
  const uint64_t windows = window * streams;
  // No less than applications have that do not say.
  long_bytes = std::max(long_bytes, SessionLayout{}.receive_budget);
  if (windows + longest > room) {
    return absl::ResourceExhaustedError(
        absl::StrCat("memory: ", streams, " streams with messages of up to ",
                     longest, " bytes need ", 2 * (windows + longest),
                     " bytes of buffers for what arrives, and ", max_memory,
                     " are allowed"));
  }
  plan.layout = {
      .latency_connections = options.connections(),
      .bulk_connections = options.connections(),
      .slots = options.slots(),
      .slot_size = options.slot_size(),
      .eager_limit = options.eager_limit(),
      .eager_mode = options.ring() ? EagerMode::kRing : EagerMode::kSend,
      .digest = options.digest(),
      .stream_window = static_cast<uint32_t>(window),
      .max_streams = static_cast<uint32_t>(streams),
      .receive_budget = std::min(room, windows + long_bytes)};
  return plan;
}

}  // namespace nd::ndping
