// Messages one way on one stream of a session: the end that sends and the end
// that receives.
#ifndef ND_NDPING_MESSAGE_FLOWS_H_
#define ND_NDPING_MESSAGE_FLOWS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "nd/memory.h"
#include "nd/operation.h"
#include "nd/stream.h"
#include "ndping/engine/pattern.h"
#include "ndping/engine/phase.h"

namespace nd::ndping {

// What both are made of. All of it outlives them.
struct FlowOptions {
  const Phase* phase = nullptr;
  Stream* stream = nullptr;
  uint32_t index = 0;  // the pattern's "qp"
  uint64_t size = 0;   // of a message
  // Gets the first error of an operation.
  absl::Status* failure = nullptr;
};

// Keeps a window of messages under way, in parts, as Initiator does on a QP.
// Used, and its operations end, on the thread that has the reactor.
class Sender {
 public:
  struct Options : FlowOptions {
    uint32_t window = 1;
    // Slots of `stride` bytes each, from `begin` to `end` in it: with `verify`
    // one for each message under way, else one for all.
    const RegisteredMemory* memory = nullptr;
    uint64_t begin = 0, end = 0;
    uint64_t stride = 0;
    // Sends the next message by itself whenever one is done.
    bool by_itself = false;
  };
  explicit Sender(const Options& options);
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  void Begin(uint64_t messages) { goal_ = posted_ + messages; }
  void Stop() { goal_ = posted_; }
  uint64_t Room() const {
    return std::min<uint64_t>(goal_ - posted_, free_.size());
  }
  absl::Status Post(uint64_t count);
  absl::Status Close() { return absl::OkStatus(); }

  bool waits_for_credit() const { return false; }
  bool all_posted() const { return posted_ == goal_; }
  bool over() const { return all_posted() && completed_ == goal_; }
  uint64_t posted() const { return posted_; }
  uint64_t completed() const { return completed_; }
  uint32_t index() const { return options_.index; }
  bool Quiet() const;

 private:
  struct Place {
    SendOperation operation;
    Sender* sender = nullptr;
    uint64_t offset = 0;
  };

  static void OnDone(Operation& operation, void* place);
  void PostOne();

  const Options options_;
  const std::unique_ptr<Place[]> places_;
  std::vector<Place*> free_;
  uint64_t goal_ = 0, posted_ = 0, completed_ = 0;
};

// Takes messages as they come, on loan, and checks them. Likewise.
class Receiver {
 public:
  struct Options : FlowOptions {
    uint32_t receives = 1;  // that wait at a time
    Verdict* verdict = nullptr;
    // Only faults count: the messages are none of the test's own.
    bool faults_only = false;
    uint64_t* taken = nullptr;  // counts as well; may be null
  };
  explicit Receiver(const Options& options);
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  uint64_t taken() const { return taken_; }

  // No more messages are expected: ends the receives that wait. Whether all
  // have ended; to be asked until then.
  bool Settled();
  bool Quiet() const;

 private:
  struct Place {
    ReceiveOperation operation;
    Receiver* receiver = nullptr;
  };

  static void OnDone(Operation& operation, void* place);
  void Take(const Message& message);

  const Options options_;
  const std::unique_ptr<Place[]> places_;
  uint64_t taken_ = 0;
  bool ending_ = false;
};

// Judges a message of the peer's.
void CheckMessage(const Phase& phase, uint32_t index, uint64_t sequence,
                  uint64_t size, std::span<const std::byte> message,
                  bool faults_only, Verdict& verdict);

}  // namespace nd::ndping

#endif  // ND_NDPING_MESSAGE_FLOWS_H_
