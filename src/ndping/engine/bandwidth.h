// As many messages as possible: bandwidth, message rate, in one direction or
// both.
#ifndef ND_NDPING_ENGINE_BANDWIDTH_H_
#define ND_NDPING_ENGINE_BANDWIDTH_H_

#include "absl/status/statusor.h"
#include "ndping/engine/phase.h"

namespace nd::ndping {

// Runs a bandwidth phase. One loop drives the initiators and the targets of all
// QPs, since both live on the same queue pairs and completion queue.
//
// How it ends. A side says that it is done when all that it initiated is
// complete; what was said then is exact, and the other side knows for how much
// more to wait. Saying so blocks until the other side has said it too, and a
// side that is blocked returns no credits. So:
//   - A side that only takes part as a target says it after the initiator.
//   - Where both initiate and both need credits, a side goes on serving until
//     it has all that the peer will send, as far as that is known, or until the
//     peer is done. Where it is not known (a duration, an interruption) it says
//     so at once, and the peer, which sees that, initiates nothing more. What
//     it has posted then was covered by credits and completes by itself.
//   - One-sided operations need nobody's credits: each side ends by itself.
// Whatever breaks meanwhile ends both by an error or the cancellation.
absl::StatusOr<v1::PhaseReport> RunBandwidth(VerbsPhase& phase);

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_BANDWIDTH_H_
