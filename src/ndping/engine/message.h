// The making, asking for, and checking of single messages.
#ifndef ND_NDPING_ENGINE_MESSAGE_H_
#define ND_NDPING_ENGINE_MESSAGE_H_

#include <cstdint>

#include "ndping/engine/pattern.h"
#include "ndping/engine/phase.h"
#include "verbs/queue_pair.h"

namespace nd::ndping {

// The request for message `sequence` of `queue`, not signalled. It refers to
// `sge`, which it fills.
verbs::SendRequest RequestFor(const VerbsPhase& phase, const Queue& queue,
                              uint64_t sequence, ibv_sge& sge);

// Makes the bytes that go out; where bytes are fetched, spoils those that they
// shall replace.
void MakeMessage(const Phase& phase, const Queue& queue, uint64_t sequence);

// Judges what came in: by a completion of `byte_len` bytes, into memory.
void CheckArrived(const Phase& phase, const Queue& queue, uint64_t sequence,
                  uint64_t byte_len, uint32_t slot, Verdict& verdict);
// What an operation of this side fetched.
void CheckFetched(const Phase& phase, const Queue& queue, uint64_t sequence,
                  Verdict& verdict);

// Makes what the peer will find in this side's target slots when a phase
// begins, and the words of the credits.
void PrepareQueue(const v1::TestSpec& spec, const TestPlan& plan, bool client,
                  uint32_t phase, const Queue& queue);

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_MESSAGE_H_
