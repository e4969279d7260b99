// The two kinds of phases over a session's streams.
#ifndef ND_NDPING_MESSAGE_PHASES_H_
#define ND_NDPING_MESSAGE_PHASES_H_

#include <cstddef>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "base/histogram.h"
#include "nd/stream.h"
#include "ndping/engine/phase.h"
#include "ndping/message/progress.h"
#include "ndping/message/session_plan.h"

namespace nd::ndping {

// What a side has for all its phases, which outlives them.
struct StreamSide {
  Progress& progress;
  const SessionPlan& plan;
  std::span<Stream> streams;  // of the test, by index
  Stream* load = nullptr;     // null: none
  // Of each stream: TestPlan's slots where messages leave from.
  const RegisteredMemory& memory;
  const RegisteredMemory& load_memory;
};

// Runs once. What it has under way when it fails is the session's until that
// has ended, and it has to be kept until then; one that went well has nothing
// under way. The thread that has the reactor.
class StreamPhase {
 public:
  static std::unique_ptr<StreamPhase> Create(const Phase& phase,
                                             const StreamSide& side);
  virtual ~StreamPhase() = default;

  // `latencies` as TestSide::Run has it.
  virtual absl::StatusOr<v1::PhaseReport> Run(Histogram* latencies) = 0;

  // Gives back what it has on loan; whether nothing is under way.
  virtual bool Quiet() = 0;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_MESSAGE_PHASES_H_
