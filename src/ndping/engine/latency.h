// One message at a time, and how long it takes.
#ifndef ND_NDPING_ENGINE_LATENCY_H_
#define ND_NDPING_ENGINE_LATENCY_H_

#include "absl/status/statusor.h"
#include "base/histogram.h"
#include "ndping/engine/phase.h"

namespace nd::ndping {

// Runs a latency phase; the client's fills `latencies`.
//
// How it ends. The client alone decides: after its count, its time, or when it
// is interrupted, but never with a message unanswered. Then it tells the peer.
// A responder answers until it hears that: no question can be open then, and it
// may stop whatever the count says. A target of one-sided operations has
// nothing to do but to wait for the same word. So neither side can wait for a
// message that the other will not send; what breaks the peer or the path ends
// both by the cancellation.
absl::StatusOr<v1::PhaseReport> RunLatency(VerbsPhase& phase,
                                           Histogram* latencies);

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_LATENCY_H_
