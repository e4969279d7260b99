// The sending side of one QP in a bandwidth test.
#ifndef ND_NDPING_ENGINE_INITIATOR_H_
#define ND_NDPING_ENGINE_INITIATOR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "ndping/engine/flow.h"
#include "ndping/engine/phase.h"
#include "verbs/queue_pair.h"

namespace nd::ndping {

// Keeps a window of messages under way, in parts: the warm-up, the measured
// part. A part is over when all its messages are complete, which needs the last
// request of the part to be signalled. One thread.
class Initiator {
 public:
  Initiator(VerbsPhase& phase, Queue& queue, Verdict& verdict);

  // Begins a part of so many messages.
  void Begin(uint64_t messages) { goal_ = window_.posted() + messages; }

  // What is posted is the part.
  void Stop() { goal_ = window_.posted(); }

  // Messages that Post would take now.
  uint64_t Room();

  // Posts `count` messages, at most Room(), with one doorbell for each burst.
  absl::Status Post(uint64_t count);

  // Posts the request that closes the part, if it takes one: when messages are
  // still unsignalled, or the target has not been told of them all.
  absl::Status Close();

  // A message, or a request that follows `upto` of them, is complete.
  void OnCompletion(uint32_t upto);

  // Nothing more to post before the peer has sent a credit, which makes no
  // completion here.
  bool waits_for_credit() const {
    return window_.posted() < goal_ && window_.WaitsForCredit();
  }
  bool all_posted() const { return window_.posted() == goal_; }
  bool over() const {
    return all_posted() && window_.completed() == goal_ && closings_ == 0;
  }
  uint64_t posted() const { return window_.posted(); }
  uint64_t completed() const { return window_.completed(); }
  uint32_t index() const { return queue_->index(); }

  // The closing request is complete.
  void OnClosed(uint32_t upto);

 private:
  // Posted with one doorbell.
  static constexpr size_t kBurst = 32;

  absl::Status PostBurst(uint64_t count);
  void Add(const verbs::SendRequest& request) { chain_[chained_++] = request; }
  void AddMessage(uint64_t sequence);
  verbs::SendRequest Notice(uint64_t upto) const;

  VerbsPhase* phase_;
  Queue* queue_;
  Verdict* verdict_;
  SendWindow window_;
  uint64_t goal_ = 0;
  uint64_t signaled_ = 0;  // messages up to the last signalled one
  uint64_t noticed_ = 0;   // messages that the target was told of
  unsigned closings_ = 0;  // under way

  // Room for a notice after each message.
  std::array<verbs::SendRequest, 2 * kBurst> chain_;
  std::array<ibv_sge, kBurst> sges_;
  size_t chained_ = 0;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_INITIATOR_H_
