// Completion queues and the channels that tell of them.
#ifndef ND_VERBS_COMPLETION_H_
#define ND_VERBS_COMPLETION_H_

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "verbs/device.h"

namespace nd::verbs {

class CompletionQueue;
class QueuePair;

// A work completion (IBA 11.4.2.1), named by the QueuePair it belongs to and
// by the wr_id that the application gave. `opcode` is right for failed work
// too, where ibv_wc leaves it undefined.
struct Completion {
  QueuePair* qp = nullptr;  // null: a receive from an SRQ whose QP is gone
  uint64_t wr_id = 0;
  ibv_wc_status status = IBV_WC_SUCCESS;
  ibv_wc_opcode opcode = IBV_WC_SEND;
  uint32_t byte_len = 0;          // receives: bytes received, without the GRH
  uint32_t imm_data = 0;          // host byte order, with IBV_WC_WITH_IMM
  uint32_t invalidated_rkey = 0;  // with IBV_WC_WITH_INV
  uint32_t vendor_err = 0;
  unsigned wc_flags = 0;
  uint32_t place = 0;  // in its queue, by which the QP knows what was asked

  bool ok() const { return status == IBV_WC_SUCCESS; }
  bool is_receive() const { return (opcode & IBV_WC_RECV) != 0; }

  // What was asked, of whom, how it ended, and the likely cause.
  ABSL_ATTRIBUTE_COLD absl::Status ToStatus() const;
};

// A file descriptor that becomes readable when an armed CQ gets a completion.
class CompletionChannel {
 public:
  static absl::StatusOr<std::shared_ptr<CompletionChannel>> Create(
      std::shared_ptr<Context> context);

  ~CompletionChannel();
  CompletionChannel(const CompletionChannel&) = delete;
  CompletionChannel& operator=(const CompletionChannel&) = delete;

  int fd() const { return channel_->fd; }

  // Reads an event without blocking: the queue that has completions, null when
  // there is no event. Events are acknowledged in batches, the last ones when
  // the queue is destroyed; both happen in the turn of the thread that polls
  // it.
  absl::StatusOr<CompletionQueue*> TakeEvent();

  const std::shared_ptr<Context>& context() const { return context_; }
  ibv_comp_channel* get() const { return channel_; }

 private:
  CompletionChannel(std::shared_ptr<Context> context,
                    ibv_comp_channel* channel);

  const std::shared_ptr<Context> context_;
  ibv_comp_channel* const channel_;
};

// A completion queue. One thread at a time polls it, and the QPs that use it
// are made and destroyed in that thread's turn.
class CompletionQueue {
 public:
  // At least `entries` completions fit. `channel` may be null; then the queue
  // can only be polled.
  static absl::StatusOr<std::shared_ptr<CompletionQueue>> Create(
      std::shared_ptr<Context> context, int entries,
      std::shared_ptr<CompletionChannel> channel);

  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  // Takes up to out.size() completions and returns how many. Releases their
  // places in their send and receive queues. Completions that only released
  // places (a signal that nd asked for, not the application) are not returned.
  absl::StatusOr<size_t> Poll(std::span<Completion> out);

  // Asks for one event on the channel at the next completion.
  absl::Status Arm(bool solicited_only = false);

  // Reads the channel's event without blocking; false when there is none. The
  // channel must be this queue's own. Events are acknowledged in batches, the
  // last ones on destruction.
  absl::StatusOr<bool> TakeEvent();

  const std::shared_ptr<Context>& context() const { return context_; }
  const std::shared_ptr<CompletionChannel>& channel() const { return channel_; }
  int capacity() const { return cq_->cqe; }
  ibv_cq* get() const { return cq_; }

  // Completions of QPs that were destroyed before they were polled.
  uint64_t stale() const { return stale_; }

 private:
  friend class CompletionChannel;
  friend class QueuePair;

  CompletionQueue(std::shared_ptr<Context> context,
                  std::shared_ptr<CompletionChannel> channel, ibv_cq* cq);
  void CountEvent();
  void Register(QueuePair* qp);
  void Unregister(const QueuePair* qp);
  QueuePair* Find(uint32_t qpn);
  ABSL_ATTRIBUTE_COLD absl::Status PollFailed() const;
  bool Translate(const ibv_wc& wc, Completion& out);

  const std::shared_ptr<Context> context_;
  const std::shared_ptr<CompletionChannel> channel_;
  ibv_cq* const cq_;
  absl::flat_hash_map<uint32_t, QueuePair*> queue_pairs_;
  QueuePair* last_found_ = nullptr;
  unsigned unacked_events_ = 0;
  uint64_t stale_ = 0;
};

}  // namespace nd::verbs

#endif  // ND_VERBS_COMPLETION_H_
