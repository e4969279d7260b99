// A stream: an ordered, reliable sequence of messages in each direction.
#ifndef ND_TRANSPORT_SESSION_STREAM_H_
#define ND_TRANSPORT_SESSION_STREAM_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "nd/operation.h"
#include "nd/statistics.h"
#include "transport/frame/frame.h"
#include "transport/session/operations.h"
#include "transport/session/receive_side.h"
#include "transport/session/stalls.h"

namespace nd::transport {

class SessionCore;

struct StreamCounters {
  Traffic sent;      // done
  Traffic received;  // that the application has taken
  uint64_t resent_frames = 0, rewritten_messages = 0;
};

// Belongs to its session, which destroys it once both sides have ended it and
// nothing of it is with anyone. On the session's thread.
class Stream final : private ReceiveSide::Host {
 public:
  uint32_t id() const { return id_; }
  MessageClass message_class() const { return message_class_; }
  const std::string& name() const { return name_; }
  bool ours() const { return ours_; }
  StreamStatistics Statistics(Instant now);

  // Messages are sent, and received, in the order of these calls. The
  // operation ends at once with FAILED_PRECONDITION behind Finish or Close.
  //
  // A send is done when the peer's device has acknowledged the message: its
  // memory is free again, and the message will be given out unless the peer
  // itself ends. OUT_OF_RANGE ends a receive behind the peer's last message.
  void Send(SendOperation& operation);
  void Receive(ReceiveOperation& operation);
  // A write into a region of the peer's; then a notification of it, in the
  // order of the messages, which is what the peer receives. Done as a send is.
  void WriteWithImmediate(AccessOperation& operation);
  // The operation ends as soon as its memory is free.
  void Cancel(Operation& operation);

  // No more messages from this side.
  void Finish();
  // The stream ends in both directions; what is under way ends with ABORTED,
  // here and there.
  void Reset(const absl::Status& why);
  // The application is through with the stream and calls it no more, but for
  // loans that it drops. A stream that has not ended is reset.
  void Close();

  // A loan is over: of Message, on any thread; and on the session's.
  void Drop(uint64_t number);
  void Release(uint64_t number);

 private:
  friend class SessionCore;

  Stream(SessionCore& core, uint32_t id, MessageClass message_class,
         std::string name, bool ours, uint32_t window, uint32_t eager_limit)
      : core_(core),
        id_(id),
        message_class_(message_class),
        name_(std::move(name)),
        ours_(ours),
        send_limit_(window),
        receiving_(*this, *this, window, eager_limit) {}

  bool MaySend(Operation& operation);
  void AddToSend(Operation& operation);
  void Cancel(Operation& operation, absl::Status why);
  void AfterReceive();

  // ReceiveSide::Host.
  void SlotReturned(ReceiveSlot& slot) override;
  void FreeBuffer(const Registered& buffer) override;
  void Unregister(const Registered& memory) override;
  void Done(Operation& operation, absl::Status status) override;
  bool Grant(uint64_t number, const Registered& memory,
             const ReceiveSide::Transfer& transfer) override;
  void Revoke(uint64_t number) override;
  absl::StatusOr<Registered> Allocate(uint64_t size, bool ahead) override;
  void NoLongerAhead(uint64_t size) override;
  void Copied() override;
  absl::StatusOr<Registered> RegisterTarget(
      std::span<std::byte> bytes) override;

  SessionCore& core_;
  const uint32_t id_;
  const MessageClass message_class_;
  const std::string name_;
  const bool ours_;
  StreamCounters counters_;
  StallTimer send_stall_, receive_stall_;

  OperationQueue to_send_;  // not framed yet
  uint64_t sent_cost_ = 0;
  uint64_t send_limit_;
  uint32_t references_ = 0;  // frames under way and transfers
  uint32_t requested_ = 0;   // transfers that the peer has not granted
  bool ready_ = false;       // in its lane's list
  bool finishing_ = false;   // Finish was called
  bool finish_sent_ = false;
  bool window_queued_ = false;
  bool closed_ = false;         // the application is through with it
  bool memory_wanted_ = false;  // in the session's lists
  bool transfer_wanted_ = false;
  bool requests_full_ = false;  // of requested_, until half of them are granted
  bool access_wanted_ = false;
  absl::Status end_;  // not OK: reset, by either side
  std::string reset_text_;
  ReceiveSide receiving_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_SESSION_STREAM_H_
