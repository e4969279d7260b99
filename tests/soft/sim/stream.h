// One direction of a connection in the simulation: random work, what it must
// come to, and the comparison with what it came to.
#ifndef ND_TESTS_SOFT_SIM_STREAM_H_
#define ND_TESTS_SOFT_SIM_STREAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/random.h"
#include "soft/rc/work.h"
#include "soft/sim/device.h"

namespace nd::soft {

// What is wrong with one step of a stream.
enum class Defect : uint8_t {
  kNone,
  kLongSend,  // for its receive
  kWrongKey,
  kOutOfRange,
  kMisaligned,  // where READs and atomics are allowed
  kWrongInvalidate,
  kLocalFault,
};

struct StreamOptions {
  std::string name;
  uint32_t mtu_bytes = 256;
  size_t steps = 10;
  bool answered = true;  // READs and atomics too
  Defect defect = Defect::kNone;
  // The connection may end in errors: a defect of either direction, or a
  // network that is too bad for the retries.
  bool may_break = false;
  Rkey first_rkey{};  // this stream's own, and those that follow it
};

// A region at the responder that every stream adds to.
struct SharedCounter {
  Rkey rkey{};
  uint64_t expected = 0;
  alignas(8) std::array<std::byte, 8> bytes{};
};

// The responder's memory is this stream's alone but for the counter, and its
// works run in order, so that what each of them reads and leaves is known
// beforehand. Where READs are followed by something that changes what they
// read, that is fenced. One thread at a time.
class Stream {
 public:
  Stream(const StreamOptions& options, Random& random, SharedCounter& counter,
         Findings& findings);

  // For the responder's queue pair.
  void Register(SimMemory& memory);
  // How large the receives must be, in the order in which they are used.
  const std::vector<size_t>& receive_sizes() const { return receive_sizes_; }
  size_t largest_receive() const;

  size_t steps() const { return steps_.size(); }
  const SendWork& work(size_t index) const { return steps_[index].work; }

  void OnSendCompleted(const WorkCompletion& completion);
  void OnReceiveCompleted(const WorkCompletion& completion,
                          const SimReceive* receive, bool in_order);

  // Once nothing moves any more.
  void CheckEnd(const SimMemory& memory);
  bool broken() const { return broken_; }
  bool finished() const { return checked_ == steps_.size(); }

 private:
  struct Step {
    SendWork work;
    std::vector<std::byte> bytes;  // gathered or filled
    std::vector<Segment> segments;
    std::vector<std::byte> after;  // `bytes` at the end
    bool uses_receive = false;
    WorkCompletion received;  // what the receive must tell
  };

  size_t RandomSize(Random& random) const;
  void MakeStep(Random& random);
  void MakeSend(Step& step, Random& random);
  void MakeWrite(Step& step, Random& random);
  void MakeRead(Step& step, Random& random);
  void MakeAtomic(Step& step, Random& random);
  void Spoil(Step& step);
  void FillBytes(Step& step, size_t size, Random& random);

  void CheckStep(const Step& step);
  void OnError(const WorkCompletion& completion);
  void OnReceiveError(const WorkCompletion& completion);
  void Find(const std::string& what);

  const StreamOptions options_;
  SharedCounter& counter_;
  Findings& findings_;

  std::vector<std::byte> memory_;  // the responder's
  std::vector<std::byte> model_;   // what it must be in the end
  size_t write_bytes_ = 0;         // the first part, for WRITEs
  size_t read_bytes_ = 0;          // the second, for READs; then words
  bool must_fence_ = false;
  size_t windows_ = 0;
  size_t windows_left_ = 0;

  std::deque<Step> steps_;
  std::vector<size_t> receive_sizes_;
  size_t defect_at_ = 0;

  size_t checked_ = 0;   // steps whose completion has come, or was not due
  size_t received_ = 0;  // steps whose receive has come
  uint64_t next_wr_id_ = 0;
  bool broken_ = false;
  bool receive_broken_ = false;
};

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_SIM_STREAM_H_
