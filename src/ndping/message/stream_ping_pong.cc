#include "ndping/message/stream_ping_pong.h"

#include <utility>

#include "base/status.h"
#include "ndping/engine/cq_reader.h"
#include "ndping/message/flows.h"
#include "ndping/message/phases.h"

namespace nd::ndping {
namespace {

// Turns between two looks at whether the test has ended.
constexpr uint64_t kTurnsPerLook = 64;

}  // namespace

StreamPingPong::StreamPingPong(Phase& phase, const StreamSide& side,
                               Verdict& verdict, absl::Status& failure)
    : phase_(phase),
      side_(side),
      verdict_(verdict),
      failure_(failure),
      lanes_(new Lane[phase.plan.qps]) {
  for (uint32_t i = 0; i < phase.plan.qps; ++i) {
    for (ReceiveOperation& receive : lanes_[i].receives) {
      receive.set_loan();
      side.streams[i].Receive(receive);
    }
  }
}

uint64_t StreamPingPong::OffsetOf(const Turn& turn) const {
  const TestPlan& plan = phase_.plan;
  return turn.qp * plan.area_bytes() + plan.SlotOf(turn.sequence) * plan.stride;
}

absl::StatusOr<bool> StreamPingPong::TurnReactor(Duration at_most) {
  ND_ASSIGN_OR_RETURN(
      const bool came,
      side_.progress.Turn(at_most, phase_.control.cancellation()));
  ND_RETURN_IF_ERROR(failure_);
  // Of a load something comes all the time.
  if (++turns_ % kTurnsPerLook == 0 && phase_.Cancelled()) {
    return absl::CancelledError("");
  }
  return came;
}

absl::Status StreamPingPong::AwaitEnd(const Operation& operation) {
  while (operation.pending()) {
    ND_RETURN_IF_ERROR(TurnReactor(CqReader::kSlice));
  }
  return operation.done() ? operation.status() : absl::OkStatus();
}

// That the answer to a message is here does not say that its memory is free.
void StreamPingPong::Prepare(const Turn& turn) {
  if (!phase_.plan.verify) return;
  const absl::Status sent =
      AwaitEnd(lanes_[turn.qp].sends[turn.sequence % kPlaces]);
  if (!sent.ok()) {
    if (failure_.ok()) failure_ = sent;
    return;
  }
  FillPattern(phase_.Key(phase_.client, turn.qp, turn.sequence),
              side_.memory.bytes().subspan(OffsetOf(turn), phase_.size));
}

absl::Status StreamPingPong::Post(const Turn& turn) {
  SendOperation& send = lanes_[turn.qp].sends[turn.sequence % kPlaces];
  ND_RETURN_IF_ERROR(failure_);
  ND_RETURN_IF_ERROR(AwaitEnd(send));
  send.set_piece(side_.memory.Source(OffsetOf(turn), phase_.size));
  side_.streams[turn.qp].Send(send);
  return absl::OkStatus();
}

absl::StatusOr<bool> StreamPingPong::Await(const Turn& turn) {
  ReceiveOperation& receive = lanes_[turn.qp].receives[turn.sequence % kPlaces];
  if (taken_ != nullptr) {
    // What was sent leaves with a turn: behind it is time for what can wait.
    ND_RETURN_IF_ERROR(TurnReactor(Duration::zero()));
    ReceiveAgain();
  }
  while (!receive.done()) {
    ND_ASSIGN_OR_RETURN(const bool came, TurnReactor(CqReader::kSlice));
    if (!came && phase_.control.peer_done() && !receive.done()) return false;
  }
  ND_RETURN_IF_ERROR(receive.status());
  taken_ = &receive;
  taken_stream_ = turn.qp;
  return true;
}

void StreamPingPong::ReceiveAgain() {
  taken_->message().Drop();
  side_.streams[taken_stream_].Receive(*std::exchange(taken_, nullptr));
}

void StreamPingPong::Check(const Turn& turn) {
  const Message& message =
      lanes_[turn.qp].receives[turn.sequence % kPlaces].message();
  if (phase_.plan.verify) {
    return CheckMessage(phase_, turn.qp, turn.sequence, phase_.size,
                        message.bytes(), false, verdict_);
  }
  if (message.size() != phase_.size) {
    verdict_.AddFault(
        DescribeMessage(phase_.Key(!phase_.client, turn.qp, turn.sequence)));
  }
}

absl::Status StreamPingPong::AwaitSent() {
  for (uint32_t i = 0; i < phase_.plan.qps; ++i) {
    for (const SendOperation& send : lanes_[i].sends) {
      ND_RETURN_IF_ERROR(AwaitEnd(send));
    }
  }
  return absl::OkStatus();
}

bool StreamPingPong::Quiet() {
  bool quiet = true;
  for (uint32_t i = 0; i < phase_.plan.qps; ++i) {
    for (ReceiveOperation& receive : lanes_[i].receives) {
      if (!receive.pending()) receive.message().Drop();
      quiet = quiet && !receive.pending();
    }
    for (const SendOperation& send : lanes_[i].sends) {
      quiet = quiet && !send.pending();
    }
  }
  return quiet;
}

bool StreamPingPong::Settled() {
  const bool first = !std::exchange(ending_, true);
  if (first && taken_ != nullptr)
    std::exchange(taken_, nullptr)->message().Drop();
  bool all = true;
  for (uint32_t i = 0; i < phase_.plan.qps; ++i) {
    for (ReceiveOperation& receive : lanes_[i].receives) {
      if (first && receive.pending()) side_.streams[i].Cancel(receive);
      all = all && !receive.pending();
    }
  }
  return all;
}

}  // namespace nd::ndping
