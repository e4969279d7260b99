// The receiving half of a stream: messages in order, and who waits for them.
#ifndef ND_TRANSPORT_SESSION_RECEIVE_SIDE_H_
#define ND_TRANSPORT_SESSION_RECEIVE_SIDE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "transport/frame/frame.h"
#include "transport/session/carrier.h"
#include "transport/session/fifo.h"
#include "transport/session/operations.h"
#include "transport/session/stalls.h"

namespace nd::transport {

// Messages stay where they arrived (a receive slot) while there are slots to
// spare; else their bytes move to the stream's own memory of one window, so
// that a reader who does not read holds up nobody else. One thread.
class ReceiveSide {
 public:
  // A large message as the peer asked for it.
  struct Transfer {
    uint32_t id = 0;
    uint64_t size = 0;
  };

  // What a stream needs of its session.
  class Host {
   public:
    virtual ~Host() = default;
    // The last loan in the slot has come back.
    virtual void SlotReturned(ReceiveSlot& slot) = 0;
    virtual void FreeBuffer(const Registered& buffer) = 0;
    virtual void Unregister(const Registered& memory) = 0;
    // The operation is done, with this status.
    virtual void Done(Operation& operation, absl::Status status) = 0;
    // Grants the transfer, of record `number`, into `memory`; false: not now.
    virtual bool Grant(uint64_t number, const Registered& memory,
                       const Transfer& transfer) = 0;
    virtual void Revoke(uint64_t number) = 0;
    // `ahead`: of an operation that waits for it; so much less may be had.
    virtual absl::StatusOr<Registered> Allocate(uint64_t size, bool ahead) = 0;
    // The message's bytes are copied aside.
    virtual void Copied() = 0;
    // What was allocated ahead is waited for now.
    virtual void NoLongerAhead(uint64_t size) = 0;
    virtual absl::StatusOr<Registered> RegisterTarget(
        std::span<std::byte> bytes) = 0;
  };

  // The longest message of a slot is `eager_limit` bytes.
  ReceiveSide(Host& host, Stream& stream, uint32_t window, uint32_t eager_limit)
      : host_(host),
        stream_(stream),
        window_(window),
        eager_limit_(eager_limit),
        told_(window) {}
  ReceiveSide(const ReceiveSide&) = delete;
  ReceiveSide& operator=(const ReceiveSide&) = delete;

  // From the peer, in order. False: it is beyond the window, or behind the end.
  // `slot` holds the message; with `keep`, until it is dropped. `notifies`: the
  // bytes are those of a Notify, which the application gets instead.
  [[nodiscard]] bool AddMessage(ReceiveSlot& slot,
                                std::span<const std::byte> bytes, bool keep,
                                bool notifies);
  [[nodiscard]] bool AddRequest(uint32_t transfer, uint64_t size);
  [[nodiscard]] bool AddFinish();
  // The transfer of a record ended; `written`: all bytes are there,
  // `cancelled`: there is no such message.
  void OnWritten(uint64_t number);
  void OnCancelled(uint64_t number);
  void OnRevoked(uint64_t number);
  // There is no message of that Request, which was not granted. False: there
  // was no such Request.
  [[nodiscard]] bool CancelRequest(uint32_t transfer);

  // From the application.
  void Receive(ReceiveOperation& operation);
  // Ends the wait; where the peer is writing, once it has stopped.
  void Cancel(Operation& operation, absl::Status why);
  // A loan comes back.
  void Release(uint64_t number);
  // Ends all that waits, and drops what nobody has taken. Where the peer may
  // still be writing, its word that it has stopped is awaited, unless
  // `all_stopped`.
  void End(const absl::Status& why, bool all_stopped);
  // No more will come: what has come is still given out, and then `why`. False,
  // and nothing is changed, where a message is not all there.
  [[nodiscard]] bool EndBehindLast(const absl::Status& why);

  // Goes on where memory or a grant was not to be had.
  void Retry() { Match(); }
  bool stalled() const { return lack_ != Lack::kNothing; }
  Lack lack() const { return lack_; }  // of memory, or of grants

  // How far the peer may send, modulo 2^32, and whether it should be told: when
  // it may believe that it has less than half a window, or not enough for the
  // longest message.
  uint32_t Limit() const { return static_cast<uint32_t>(returned_ + window_); }
  bool LimitIsNews() const {
    return returned_ + window_ > told_ &&
           told_ - received_ <
               std::max(window_ / 2, kMessageCost + eager_limit_);
  }
  void Told() { told_ = returned_ + window_; }

  // Nothing is left that the application or the peer could touch.
  bool idle() const { return records_.empty() && receivers_.empty(); }
  const Operation* oldest() const { return receivers_.first(); }
  bool finished() const { return finished_; }
  std::string Describe() const;

 private:
  enum class State : uint8_t {
    kWaiting,   // a large message, not granted
    kGranted,   // and the peer may write
    kReady,     // all there
    kLoaned,    // the application has it
    kReleased,  // its turn to go has not come
    kFinish,
  };
  struct Record {
    State state = State::kReady;
    bool ahead = false;     // allocated ahead
    bool notifies = false;  // what is there is a Notify
    uint32_t cost = 0;
    uint32_t transfer = 0;
    uint64_t size = 0;
    const std::byte* data = nullptr;
    ReceiveSlot* slot = nullptr;
    uint64_t spill_end = 0;  // where spilled bytes end, 0: they were not
    // A large message's: the session's buffer, or memory of `bound`, which may
    // have been registered for this.
    enum class Place : uint8_t { kNone, kBuffer, kBorrowed, kRegistered };
    Place place = Place::kNone;
    Registered memory{};
    ReceiveOperation* bound = nullptr;
  };

  bool Charge(uint64_t cost);
  void Match();
  bool MatchFirst();
  bool Fits(const Record& record, ReceiveOperation& operation);
  ABSL_ATTRIBUTE_NOINLINE bool StartTransfer(Record& record,
                                             ReceiveOperation& operation);
  absl::Status GrantBuffer(Record& record, uint64_t number, bool ahead);
  absl::Status GrantTarget(Record& record, ReceiveOperation& operation);
  void GrantAhead();
  void Deliver(Record& record, ReceiveOperation& operation);
  void LetGo(Record& record);
  void FreePlace(Record& record);
  void Drop(Record& record);
  void PopReleased();
  ABSL_ATTRIBUTE_NOINLINE void Spill(Record& record,
                                     std::span<const std::byte> bytes);

  Host& host_;
  Stream& stream_;
  const uint64_t window_;
  const uint64_t eager_limit_;
  Fifo<Record> records_;
  uint64_t next_ = 0;  // the record that the next operation gets
  OperationQueue receivers_;
  uint64_t received_ = 0;  // cost
  uint64_t returned_ = 0;  // cost
  uint64_t told_;
  bool finished_ = false;
  bool ended_ = false;
  absl::Status behind_last_ =
      absl::OutOfRangeError("the peer has finished the stream");
  bool loans_ = true;  // the application takes messages on loan
  Lack lack_ = Lack::kNothing;
  absl::Status cancelled_;  // why the bound operation's transfer is revoked
  // Of one window, made when it is first needed. Filled and freed in order.
  std::unique_ptr<std::byte[]> spill_;
  uint64_t spill_head_ = 0;
  uint64_t spill_tail_ = 0;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_SESSION_RECEIVE_SIDE_H_
