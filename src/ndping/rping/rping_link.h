// A connection of rping or krping: adverts by SEND, data by READ and WRITE, and
// a bounded wait for each step of the peer's.
#ifndef ND_NDPING_RPING_RPING_LINK_H_
#define ND_NDPING_RPING_RPING_LINK_H_

#include <array>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/wait.h"
#include "ndping/rping/rping_wire.h"
#include "verbs/cm.h"
#include "verbs/completion_waiter.h"
#include "verbs/memory.h"
#include "verbs/queue_pair.h"

namespace nd::ndping {

// Page-aligned zeros that the peer may read and write. Must outlive the link
// whose requests name it.
class RpingBuffer {
 public:
  static absl::StatusOr<std::unique_ptr<RpingBuffer>> Create(
      std::shared_ptr<verbs::ProtectionDomain> pd, uint32_t size);

  std::span<std::byte> bytes() const { return bytes_; }
  RpingAdvert advert() const;
  ibv_sge Sge(size_t offset, uint32_t length) const {
    return mr_->Sge(offset, length);
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  RpingBuffer() = default;

  std::unique_ptr<std::byte, Free> memory_;
  std::span<std::byte> bytes_;
  std::unique_ptr<verbs::MemoryRegion> mr_;
};

// Used by one thread. Every wait ends, besides by what it waits for:
//   DEADLINE_EXCEEDED  the peer is silent
//   UNAVAILABLE        it disconnected (disconnected() holds) or is lost
//   CANCELLED          `interrupt` came, and the step's grace is over
//   INVALID_ARGUMENT   what it sent is no advert
// or with what a failed completion says; each names the peer and the step.
// After one of them the link is good for destruction only.
class RpingLink {
 public:
  struct Options {
    verbs::WaitMode wait = verbs::WaitMode::kAdaptive;
    uint32_t rdma_depth = 1;  // READs and WRITEs outstanding
    // Null: cannot be interrupted. Must outlive the link.
    const Cancellation* interrupt = nullptr;
  };
  struct Target {
    verbs::SocketAddress address;
    std::optional<verbs::SocketAddress> from = std::nullopt;
    uint8_t tos = 0;
  };
  static absl::StatusOr<std::unique_ptr<RpingLink>> Connect(
      const Target& target, const Options& options, const Deadline& deadline);
  static absl::StatusOr<std::unique_ptr<RpingLink>> Accept(
      std::unique_ptr<verbs::CmId> request, const Options& options,
      const Deadline& deadline);

  // Disconnects if that was not done.
  ~RpingLink();
  RpingLink(const RpingLink&) = delete;
  RpingLink& operator=(const RpingLink&) = delete;

  // What is waited for, for messages: "the go-ahead after the READ of ping 7".
  struct Step {
    std::string what;
    Duration timeout;
    Duration grace{};  // how long it may go on when interrupted
  };

  // A server's go-ahead is an empty advert.
  absl::Status SendAdvert(const RpingAdvert& advert, const Step& step);
  absl::StatusOr<RpingAdvert> ReceiveAdvert(const Step& step);

  // Moves data between this side's memory and the peer's, and waits for it; in
  // pieces of kPiece, which the peer cannot tell from one request. `step` is
  // that of a piece.
  absl::Status Transfer(ibv_wr_opcode opcode, const RpingBuffer& buffer,
                        uint32_t length, const RpingAdvert& remote,
                        const Step& step);

  // One READ or WRITE between bytes `piece` of `buffer` and the peer's, not
  // waited for. At most rdma_depth may be outstanding.
  struct Piece {
    uint32_t offset = 0;
    uint32_t length = 0;
  };
  absl::Status Post(ibv_wr_opcode opcode, const RpingBuffer& buffer,
                    const Piece& piece, const RpingAdvert& remote);
  uint64_t rdma_posted() const { return rdma_posted_; }
  uint64_t rdma_completed() const { return rdma_completed_; }

  // For loops that never sleep: takes the completions that are there, and, now
  // and then, looks whether the connection still stands and may go on.
  absl::Status PollCompletions();
  absl::Status Look(const Deadline& deadline, const Step& step);

  // Sleeps until `until`; ends early as any wait does.
  absl::Status Pause(const Deadline& until);

  // Sends a DREQ and waits a moment for the answer.
  void Disconnect();
  // The peer disconnected.
  bool disconnected() const { return disconnected_; }

  const std::shared_ptr<verbs::ProtectionDomain>& pd() const { return pd_; }
  const std::string& name() const { return name_; }  // "local -> peer"
  std::string device() const { return pd_->context()->name(); }

 private:
  static constexpr size_t kReceives = 2;
  static constexpr size_t kSends = 2;
  // Room for more than an advert, so that a longer message is seen and named
  // instead of breaking the QP.
  static constexpr uint32_t kReceiveSize = 256;
  // A READ's answer comes in one burst. Under rxe, one of more than a thousand
  // packets overruns net.core.netdev_max_backlog, and a loss costs seconds.
  static constexpr uint32_t kPiece = 1 << 20;

  RpingLink(std::unique_ptr<verbs::CmId> id, const Options& options);
  absl::Status Prepare();
  absl::Status PostReceive(uint64_t slot);
  absl::Status WaitUntil(absl::FunctionRef<bool()> done, const Step& step);
  absl::Status WaitOnce(const Deadline& deadline, const Step& step);
  absl::Status Handle(const verbs::Completion& completion);
  bool interrupted() const {
    return options_.interrupt != nullptr && options_.interrupt->cancelled();
  }
  absl::Status ReadCmEvents();
  // Why a request failed: often it is no more than the trace of a disconnect.
  absl::Status Blame(const absl::Status& failure);
  absl::Status Explain(const absl::Status& status, const Step& step) const;

  const Options options_;
  std::string name_;
  std::shared_ptr<verbs::ProtectionDomain> pd_;
  std::unique_ptr<RpingBuffer> messages_;  // the receives, then the sends
  std::optional<verbs::CompletionWaiter> waiter_;
  std::unique_ptr<verbs::QueuePair> qp_;
  std::unique_ptr<verbs::CmId> id_;

  struct Received {
    uint64_t slot;
    RpingAdvert advert;
  };
  std::deque<Received> inbox_;  // at most kReceives
  uint64_t sends_posted_ = 0;
  uint64_t sends_completed_ = 0;
  uint64_t rdma_posted_ = 0;
  uint64_t rdma_completed_ = 0;
  std::optional<Deadline> grace_end_;
  bool established_ = false;
  bool disconnected_ = false;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_RPING_RPING_LINK_H_
