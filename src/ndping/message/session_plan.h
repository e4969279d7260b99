// What follows from a TestSpec for a session: how it is laid out, and how many
// messages each end has under way. Both sides compute the same.
#ifndef ND_NDPING_MESSAGE_SESSION_PLAN_H_
#define ND_NDPING_MESSAGE_SESSION_PLAN_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "nd/session.h"
#include "nd/stream.h"
#include "nd/v1/harness.pb.h"
#include "ndping/engine/plan.h"

namespace nd::ndping {

// Receives that wait on a stream: a few, so that memory that was just read is
// written next.
inline constexpr uint32_t kReceives = 16;

struct SessionPlan {
  // RESOURCE_EXHAUSTED when what the session keeps for messages that arrive
  // does not fit into `max_memory`.
  static absl::StatusOr<SessionPlan> Make(const v1::TestSpec& spec,
                                          uint64_t max_memory);

  SessionLayout layout;
  bool has_load = false;
  // The load's window, and the memory that its messages leave from.
  uint32_t load_window = 0;
  uint64_t load_slots = 0;
  uint64_t load_stride = 0;
};

StreamClass ClassOf(v1::StreamClass stream_class);

}  // namespace nd::ndping

#endif  // ND_NDPING_MESSAGE_SESSION_PLAN_H_
