// The exchange of a latency test whose answer is a message like the question:
// SEND and WRITE, with or without immediate.
#ifndef ND_NDPING_ENGINE_PING_PONG_H_
#define ND_NDPING_ENGINE_PING_PONG_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ndping/engine/pattern.h"
#include "ndping/engine/phase.h"
#include "ndping/engine/turn.h"

namespace nd::ndping {

// Messages are not signalled: the answer proves that the question arrived. One
// thread.
class PingPong {
 public:
  // Half a round trip is what a message takes.
  static constexpr unsigned kMessagesPerRound = 2;

  PingPong(VerbsPhase& phase, Verdict& verdict);

  // Makes the next message that this side sends.
  void Prepare(const Turn& turn);

  // Sends it, and posts again the receive that the peer's last one took.
  absl::Status Post(const Turn& turn);
  absl::Status PostReceiveAgain();

  // Waits for the peer's message of that turn. False: the peer is done and will
  // send none; of interest to a responder.
  absl::StatusOr<bool> Await(const Turn& turn);

  // Checks that message: before this side's next Post when there is one_slot(),
  // or else before the one after it. With one slot, moreover, the next message
  // must not be made before the peer's next one has come, which says that the
  // last one has left.
  void Check(const Turn& turn);
  bool one_slot() const { return phase_.plan.slots == 1; }

 private:
  absl::StatusOr<bool> AwaitReceive(const Turn& turn);
  absl::StatusOr<bool> AwaitMemory(const Turn& turn);
  absl::Status Take(const Turn& turn, CqReader::Batch batch);
  absl::Status MakeRoom(const Queue& queue);

  VerbsPhase& phase_;
  Verdict& verdict_;
  const Cancellation* const cancel_;
  const bool in_memory_;         // seen there and not by a completion
  std::optional<Work> receive_;  // that the peer's last message took
  uint32_t last_slot_ = 0;       // where that receive was
  uint32_t byte_len_ = 0;        // of that message
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_PING_PONG_H_
