// The exchange of a latency test over streams: a message, and one like it in
// answer.
#ifndef ND_NDPING_MESSAGE_STREAM_PING_PONG_H_
#define ND_NDPING_MESSAGE_STREAM_PING_PONG_H_

#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "nd/operation.h"
#include "ndping/engine/pattern.h"
#include "ndping/engine/phase.h"
#include "ndping/engine/turn.h"

namespace nd::ndping {

struct StreamSide;

// An Exchange (rounds.h). The thread that has the reactor.
class StreamPingPong {
 public:
  // Half a round trip is what a message takes.
  static constexpr unsigned kMessagesPerRound = 2;

  // `failure`: of anything on the session.
  StreamPingPong(Phase& phase, const StreamSide& side, Verdict& verdict,
                 absl::Status& failure);
  StreamPingPong(const StreamPingPong&) = delete;
  StreamPingPong& operator=(const StreamPingPong&) = delete;

  void Prepare(const Turn& turn);
  absl::Status Post(const Turn& turn);
  absl::StatusOr<bool> Await(const Turn& turn);
  void Check(const Turn& turn);
  absl::Status PostReceiveAgain() { return absl::OkStatus(); }
  // A message is made before the peer's last one has come.
  bool one_slot() const { return false; }

  // At the end: all that was sent has left; nothing is under way any more, to
  // be asked until it is so.
  absl::Status AwaitSent();
  bool Settled();
  // As StreamPhase has it.
  bool Quiet();

 private:
  // By turns, so that one is made, or checked, while the other is under way.
  static constexpr uint64_t kPlaces = 2;
  struct Lane {
    SendOperation sends[kPlaces];
    ReceiveOperation receives[kPlaces];
  };

  absl::StatusOr<bool> TurnReactor(Duration at_most);
  absl::Status AwaitEnd(const Operation& operation);
  // In the memory that messages leave from.
  uint64_t OffsetOf(const Turn& turn) const;
  // Gives a message back, and waits for the one after the next.
  void ReceiveAgain();

  Phase& phase_;
  const StreamSide& side_;
  Verdict& verdict_;
  absl::Status& failure_;
  const std::unique_ptr<Lane[]> lanes_;  // by stream
  ReceiveOperation* taken_ = nullptr;    // not waiting yet
  uint32_t taken_stream_ = 0;
  bool ending_ = false;
  uint64_t turns_ = 0;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_MESSAGE_STREAM_PING_PONG_H_
