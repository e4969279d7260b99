// A session's protocol: streams, credits, large messages, lost links. Packets,
// completions and the time come in; posts go out to Carriers. No sockets,
// clocks, threads or globals: docs/wire.md as a state machine, which a
// simulator can drive.
#ifndef ND_TRANSPORT_SESSION_SESSION_CORE_H_
#define ND_TRANSPORT_SESSION_SESSION_CORE_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/histogram.h"
#include "nd/statistics.h"
#include "transport/frame/frame.h"
#include "transport/frame/packet.h"
#include "transport/session/carrier.h"
#include "transport/session/fifo.h"
#include "transport/session/link.h"
#include "transport/session/operations.h"
#include "transport/session/session_layout.h"
#include "transport/session/stalls.h"
#include "transport/session/stream.h"

namespace nd::transport {

// What a session tells those who own it. Called from inside the core's calls;
// must not call it.
class SessionEvents {
 public:
  virtual ~SessionEvents() = default;
  // The peer has opened a stream: AcceptStream has it.
  virtual void OnStreamOpened() {}
  // The link's connection is no more: it may be made anew.
  virtual void OnLinkFree(uint32_t link) { (void)link; }
  // Nothing is under way any more. OK: both sides have said goodbye.
  virtual void OnEnded(const absl::Status& why) { (void)why; }
  // The application has called the session or a stream: Pump is due.
  virtual void OnCall() {}
  // The time, where a call of the application's needs it, which is seldom: a
  // stall begins or ends.
  virtual Instant Now() { return {}; }
  // A loan was dropped. True: on another thread than the session's, where
  // Stream::Release will be called with it.
  virtual bool TakeRelease(Stream& stream, uint64_t number) {
    (void)stream, (void)number;
    return false;
  }
};

// One thread. After any call but the queries, call Pump.
class SessionCore {
 public:
  struct Options {
    SessionLayout layout;
    bool client = false;
    // All receives of all links, and as many more as may be on loan.
    std::span<ReceiveSlot> receive_slots;
    uint64_t ahead_bytes =
        0;  // large messages granted before they are asked for
    // Where no link is left: how long one may take to come back. Zero: the
    // session ends with its last link.
    Duration reconnect{};
  };

  SessionCore(const Options& options, SessionMemory& memory,
              SessionEvents& events);
  ~SessionCore();
  SessionCore(const SessionCore&) = delete;
  SessionCore& operator=(const SessionCore&) = delete;

  // --- below: connections ---

  // The link's connection stands. Its receives are posted before this returns,
  // so the peer must not send before: it is called when the QP is in INIT or
  // RTR; OpenLink follows once it can send.
  ABSL_ATTRIBUTE_COLD void AddLink(uint32_t link, uint32_t incarnation,
                                   Carrier& carrier);
  ABSL_ATTRIBUTE_COLD void OpenLink(uint32_t link, Instant now);

  // A packet of so many bytes is in the oldest receive of the link.
  void OnPacket(uint32_t link, size_t bytes, Instant now);
  void OnImmediate(uint32_t link, uint32_t immediate, Instant now);
  // With layout.ring, instead of OnPacket: one of so many bytes is in the ring,
  // of layout.slots places, where the immediate says.
  void OnRing(uint32_t link, uint32_t immediate, size_t bytes,
              std::span<const std::byte> ring, Instant now);
  // All requests up to this one have succeeded.
  void OnCompleted(uint32_t link, uint64_t serial, Instant now);
  // That one failed for a reason of its own: what it accesses is not to be
  // accessed like that. The link is lost by it, which LoseLink says next.
  ABSL_ATTRIBUTE_COLD void OnRefused(uint32_t link, uint64_t serial,
                                     const absl::Status& why);
  // What SessionMemory::Copy left for later is there.
  void OnCopied(uint32_t stage);
  // The connection is lost; Carrier::Shut is called.
  ABSL_ATTRIBUTE_COLD void LoseLink(uint32_t link, absl::Status why);
  // All that had arrived and completed was reported: the carrier is not used
  // any more.
  ABSL_ATTRIBUTE_COLD void OnDrained(uint32_t link);

  // --- above: the application ---

  // RESOURCE_EXHAUSTED where too many are open.
  ABSL_ATTRIBUTE_COLD absl::StatusOr<Stream*> OpenStream(
      MessageClass message_class, std::string_view name);
  // A stream that the peer opened; null when there is none.
  Stream* AcceptStream();
  // The same as an operation.
  void Accept(AcceptOperation& operation);
  void CancelAccept(AcceptOperation& operation);
  // A read, a write without notification, or an atomic.
  void StartAccess(AccessOperation& operation);
  void CancelAccess(AccessOperation& operation, absl::Status why);
  // Sends what is queued, and ends the session when the peer has done likewise,
  // which this tells it to. What has arrived is still given out.
  ABSL_ATTRIBUTE_COLD void Goodbye();
  // Ends it now; all that is under way ends with `why`.
  ABSL_ATTRIBUTE_COLD void Fail(absl::Status why);

  // What the latency class has to send, as far as nothing else stands before
  // it. Pump is due as before.
  void SendFirst();
  // Ends operations that are done: their callbacks run here.
  void Deliver(Instant now);
  // That, and sends what can be sent.
  void Pump(Instant now);
  // The next time that Pump has something to do without other cause.
  Instant NextDeadline() const;

  bool open() const { return state_ == State::kOpen; }
  bool ended() const { return state_ == State::kEnded; }
  SessionStatistics Statistics(Instant now);
  size_t streams() const { return streams_.size(); }
  // Where everything stands, and the statistics, in lines for people.
  ABSL_ATTRIBUTE_COLD std::string Describe(Instant now);
  bool LinkIsUp(uint32_t link) const {
    return links_[link].state == Link::State::kUp;
  }

 private:
  friend class Stream;

  enum class State { kOpen, kEnding, kEnded };

  // An access to a region of the peer's, from when it has its place here until
  // nothing of it is on a link.
  struct Access {
    AccessOperation* operation = nullptr;  // null: it has ended before
    Stream* stream = nullptr;              // a write's that is notified on it
    AccessOperation::Kind kind = AccessOperation::Kind::kRead;
    RemoteRegion region{};
    uint64_t offset = 0;
    uint64_t size = 0;
    LocalPiece local;       // all of it
    Registered registered;  // for it
    uint64_t posted = 0;    // bytes, from the start
    uint32_t in_flight = 0;
    uint32_t link = 0, incarnation = 0;  // of what is notified
    bool used = false;
    bool queued = false;    // in accessing_
    bool copied = false;    // in its place
    bool notified = false;  // its frame is in the lane
    bool lost = false;      // a link that was used
    absl::Status end;       // not OK: given up, with this

    bool is_atomic() const {
      return kind == AccessOperation::Kind::kFetchAdd ||
             kind == AccessOperation::Kind::kCompareSwap;
    }
    bool reads() const { return kind != AccessOperation::Kind::kWrite; }
  };
  // A frame of a lane, until it is known to have arrived.
  struct Entry {
    FrameType type = FrameType::kMessage;
    uint8_t size = 0;  // of payload
    Stream* stream = nullptr;
    SendOperation* operation = nullptr;  // kMessage
    Access* access = nullptr;            // kNotify
    std::array<std::byte, 32> payload{};
  };
  struct ClassCounters {
    Traffic sent, received;
    uint64_t resent_frames = 0, rewritten_messages = 0, copied_aside = 0;
    Stalls of_gone_streams;
  };
  struct Lane {
    // Frames that may be under way.
    static constexpr uint64_t kMaxUnconfirmed = 4096;

    Fifo<Entry> entries;  // numbered as the lane's sequence
    uint64_t unsent = 0;  // those from here are to be sent
    uint64_t expected = 0;
    Link* carrier = nullptr;
    Fifo<Stream*> ready;
    StallTimer stall;
    ClassCounters counters;
    CoarseHistogram latencies;  // of sends, nanoseconds

    bool Full() const { return unsent - entries.begin() >= kMaxUnconfirmed; }
    // Not even something that has to wait.
    bool IsIdle() const { return unsent == entries.end() && ready.empty(); }
  };
  // A large message that goes out.
  struct Outgoing {
    enum class State { kFree, kRequested, kWriting, kEnded };
    State state = State::kFree;
    uint32_t id = 0;
    Stream* stream = nullptr;
    SendOperation* operation = nullptr;
    uint64_t size = 0;
    Grant grant;
    std::vector<LocalPiece> pieces;      // all of it, with keys
    std::vector<Registered> registered;  // what was registered for it
    uint64_t written = 0;                // handed to links, from the start
    uint64_t chunk = 0;
    uint32_t in_flight = 0;  // WRITEs, and parts on their way to one
    uint32_t used = 0;       // links, by bit
    uint32_t unmarked = 0;   // those whose mark is to be posted
    uint32_t marked = 0;     // those whose mark has arrived
    // Its memory has no keys: it goes by way of stages.
    bool staged = false;
    bool by_immediate = false;
    bool lost = false;     // a link that was used: all is written again
    bool queued = false;   // in writing_
    bool revoked = false;  // the receiver takes the grant back
    absl::Status end;      // not OK: given up, with this

    // Once it is written: whether to the end.
    bool goes_on() const { return end.ok() && !revoked && !lost; }
  };
  // A part of a large message on its way from memory that has no keys.
  struct Stage {
    enum class State { kFree, kCopying, kCopied, kWriting };
    State state = State::kFree;
    LocalPiece memory;
    Outgoing* transfer = nullptr;
    uint64_t offset = 0;
    size_t length = 0;
  };
  // A large message that comes in.
  struct Granted {
    Stream* stream = nullptr;  // null: free
    uint64_t record = 0;
    uint32_t transfer = 0;
    Registered memory;
    uint64_t size = 0;
    uint32_t marked = 0;               // links, by bit, whose WRITEs have come
    std::optional<Written> written{};  // and marks are awaited
  };

  // links.cc
  ABSL_ATTRIBUTE_COLD void Settle(DepartedLink& link);
  ABSL_ATTRIBUTE_COLD void SettleAll();
  ABSL_ATTRIBUTE_COLD void HearGone(const Gone& gone);
  void ReplaceSlot(Link& link, ReceiveSlot& slot);
  void PostReceive(Link& link, ReceiveSlot& slot);
  void PostReceives(Link& link);
  ReceiveSlot& TakeFreeSlot();
  Link* CarrierFor(MessageClass message_class);
  bool LacksCarrier() const {
    return std::ranges::any_of(
        lanes_, [](const Lane& lane) { return lane.carrier == nullptr; });
  }
  ABSL_ATTRIBUTE_COLD void ChooseCarriers();
  void KeepAlive(Instant now);
  ABSL_ATTRIBUTE_COLD void Violate(Link& link, std::string_view what);
  bool AllLost() const;
  void CheckEnd() {
    if (state_ == State::kOpen && !leaving_ && !AllLost()) return;
    GoTowardsEnd();
  }
  ABSL_ATTRIBUTE_COLD void GoTowardsEnd();
  ABSL_ATTRIBUTE_COLD void EndAll();
  absl::Status EndReason() const;

  // sending.cc
  // News of links, which go by this one.
  bool HasControls(const Link& link) const {
    return link.pong || link.ping_due || !departed_.empty();
  }
  ABSL_ATTRIBUTE_COLD void SendControls(Link& link);
  template <typename Payload>
  bool SendControl(Link& link, FrameType type, const Payload& payload);
  bool SendControlPacket(Link& link, FrameType type,
                         std::span<const std::byte> payload);
  void SendLane(Lane& lane, MessageClass message_class) {
    if (lane.IsIdle() && lane.stall.lack() == Lack::kNothing) return;
    SendFrames(lane, message_class);
  }
  void SendFrames(Lane& lane, MessageClass message_class);
  bool SendPacket(Lane& lane, MessageClass message_class, Link& link,
                  bool& more);
  bool TakeNext(Lane& lane, const PacketWriter& writer);
  // Whether there is something that the lane could send now.
  bool HasMore(Lane& lane) { return !lane.IsIdle() && FindMore(lane); }
  bool FindMore(Lane& lane);
  void ReturnCredits(Link& link);
  void FlushAll();
  bool AppendEntry(Lane& lane, uint64_t number, MessageClass message_class,
                   Link& link, PacketWriter& writer, LocalPiece& tail);
  ABSL_ATTRIBUTE_NOINLINE bool AppendOther(const Entry& entry,
                                           const FrameHeader& header,
                                           const Link& link,
                                           PacketWriter& writer,
                                           LocalPiece& tail);
  ABSL_ATTRIBUTE_COLD void TakeRefusal(Entry& entry);
  void MakeReady(Stream& stream);
  bool HasWork(Stream& stream);
  template <typename Payload>
  void Queue(Stream& stream, FrameType type, const Payload& payload);
  Entry& QueueEntry(Stream* stream, MessageClass message_class, FrameType type);
  void Confirm(Lane& lane, uint64_t upto);
  void CountSent(Stream& stream, const SendOperation& operation, uint64_t size);

  // transfers.cc
  bool WaitsForTransfer(Stream& stream);
  void RequestAnswered(Stream& stream);
  void StartTransfer(Stream& stream, SendOperation& operation);
  Outgoing* FindOutgoing(uint32_t id);
  bool HasWrites() const {
    return !writing_.empty() || AnyStage(Stage::State::kCopied) ||
           write_stall_.lack() != Lack::kNothing;
  }
  ABSL_ATTRIBUTE_NOINLINE void WriteTransfers();
  Lack WhyNoMark(const Outgoing& transfer) const;
  Lack WhyNoWrite() const;
  bool TakesWrites(const Link& link) const;
  void StallWrites(Lack lack);
  bool WriteNext(Outgoing& transfer);
  bool WriteMark(Outgoing& transfer);
  void PostWrite(Outgoing& transfer, Link& link, const LocalPiece& from,
                 uint64_t offset, std::optional<uint32_t> immediate,
                 uint8_t staged = 0);
  ABSL_ATTRIBUTE_COLD void LoseWrites(uint32_t link);
  Link* LinkForWrite(bool immediate, bool read);
  void GoOn(Outgoing& transfer);
  void SayWritten(Outgoing& transfer, WrittenStatus status);
  void EndTransfer(Outgoing& transfer, absl::Status status);
  ABSL_ATTRIBUTE_COLD void GiveUp(Outgoing& transfer, absl::Status why);
  ABSL_ATTRIBUTE_NOINLINE absl::Status PrepareSource(Outgoing& transfer);
  LocalPiece NextPiece(const Outgoing& transfer) const;
  void WriteDone(uint32_t link, const LinkWork& work);
  ABSL_ATTRIBUTE_COLD void WriteLost(uint32_t link, const LinkWork& work,
                                     bool came);
  bool GrantTransfer(Stream& stream, uint64_t record, const Registered& memory,
                     const ReceiveSide::Transfer& transfer);
  void RevokeTransfer(Stream& stream, uint64_t record);
  Granted* FindGranted(const Stream& stream, uint64_t record);
  Stream& TakeGrantBack(Granted& granted);
  const char* EndGrant(Granted& granted);

  // staging.cc
  absl::Status MakeStages();
  Stage* FreeStage();
  bool AnyStage(Stage::State state) const {
    return std::ranges::any_of(
        stages_, [=](const Stage& each) { return each.state == state; });
  }
  bool HasUnposted(const Outgoing& transfer) const;
  void StageNext(Outgoing& transfer);
  bool WriteStages();
  void LeaveStage(Stage& stage);
  ABSL_ATTRIBUTE_COLD void EndStages();

  // accesses.cc
  static absl::Status CheckNotified(const AccessOperation& operation);
  Access* FindAccess(const Operation& operation);
  static bool Copies(const AccessOperation& operation);
  absl::Status MakePlaces();
  absl::Status PrepareMemory(Access& access);
  Access* BeginAccess(AccessOperation& operation, Stream* stream);
  bool HasAccesses() const {
    const auto any = [](const Fifo<Access*>& queue) { return !queue.empty(); };
    return !to_access_.empty() || std::ranges::any_of(accessing_, any);
  }
  ABSL_ATTRIBUTE_NOINLINE void PostAccesses();
  void QueueAccess(Access& access);
  Link* LinkForAccess(Access& access);
  void PostChunk(Access& access, Link& link);
  bool PostNotified(Access& access, Link& link);
  ABSL_ATTRIBUTE_NOINLINE bool BeginNotified(Stream& stream,
                                             AccessOperation& operation);
  ABSL_ATTRIBUTE_COLD void TryAgain(Stream& stream);
  void QueueNotify(Stream& stream, AccessOperation& operation);
  ABSL_ATTRIBUTE_NOINLINE void RetryNotified();
  void GoOn(Access& access);
  ABSL_ATTRIBUTE_COLD void GiveUp(Access& access, absl::Status why);
  void EndAccess(Access& access, absl::Status status);
  void AccessDone(Link& link, const LinkWork& work);
  ABSL_ATTRIBUTE_COLD void AccessLost(const LinkWork& work);

  // receiving.cc
  ReceiveSlot* TakeReceive(Link& link, Instant now);
  void OnFrame(Link& link, const FrameView& frame, ReceiveSlot& slot);
  ABSL_ATTRIBUTE_NOINLINE void OnControl(Link& link, const FrameView& frame);
  void OnSequenced(Link& link, const FrameView& frame, ReceiveSlot& slot);
  ABSL_ATTRIBUTE_COLD void OnOpen(Link& link, const FrameView& frame);
  void OnStreamFrame(Link& link, Stream& stream, const FrameView& frame,
                     ReceiveSlot& slot);
  // These return what is wrong with the frame, or null.
  const char* OnMessage(Stream& stream, const FrameView& frame,
                        ReceiveSlot& slot, bool notifies);
  ABSL_ATTRIBUTE_NOINLINE const char* OnOtherFrame(Stream& stream,
                                                   const FrameView& frame,
                                                   ReceiveSlot& slot);
  ABSL_ATTRIBUTE_COLD void OnGoodbye(Link& link, const FrameView& frame);
  ABSL_ATTRIBUTE_NOINLINE const char* OnGrant(Stream& stream,
                                              const FrameView& frame);
  ABSL_ATTRIBUTE_NOINLINE const char* OnWritten(Stream& stream,
                                                const FrameView& frame);
  ABSL_ATTRIBUTE_COLD const char* OnRevoke(Stream& stream,
                                           const FrameView& frame);
  ABSL_ATTRIBUTE_COLD const char* OnReset(Stream& stream,
                                          const FrameView& frame);
  const char* OnWindow(Stream& stream, uint32_t window);

  // session_core.cc
  Stream* Find(uint32_t id);
  bool WasOpened(uint32_t id) const;
  ABSL_ATTRIBUTE_COLD void End(Stream& stream, const absl::Status& why);
  ABSL_ATTRIBUTE_COLD void DropUnsent(Stream& stream, const absl::Status& why);
  ABSL_ATTRIBUTE_COLD void DropUnsent(Operation& operation, absl::Status why);
  void MaybeForget(Stream& stream);
  void Done(Operation& operation, absl::Status status);
  ABSL_ATTRIBUTE_COLD void Expire(Operation& operation);
  ABSL_ATTRIBUTE_NOINLINE void RetryMemory();
  void MatchAccepted();
  ABSL_ATTRIBUTE_COLD void EndAccept(Operation& operation, absl::Status why);
  void Unreference(Stream& stream);
  void SetNow(Instant now) {
    now_ = now;
    now_holds_ = true;
  }
  // As StallTimer::Set.
  bool SetStall(StallTimer& timer, Lack lack) {
    return timer.lack() != lack && ChangeStall(timer, lack);
  }
  bool ChangeStall(StallTimer& timer, Lack lack);

  // statistics.cc
  Duration OldestSend(const Stream* stream, Instant now) const;

  // Memory is wanting that this session itself will give back. Nobody would
  // tell it of what others do.
  bool MayComeBack(const absl::Status& status) const {
    return absl::IsResourceExhausted(status) && lent_ > 0;
  }
  bool MayLoan() const {
    return free_slots_.size() > size_t{links_down_} * layout_.slots;
  }
  Lane& LaneOf(MessageClass message_class) {
    return lanes_[static_cast<size_t>(message_class)];
  }
  const Options options_;
  const SessionLayout& layout_ = options_.layout;
  SessionMemory& memory_;
  SessionEvents& events_;
  absl::Status end_;
  Instant now_{};
  State state_ = State::kOpen;
  uint32_t next_departed_ = 0;
  uint32_t links_down_ = 0;
  uint32_t next_write_link_ = 0;  // of the bulk class's
  bool goodbye_sent_ = false, goodbye_heard_ = false, leaving_ = false;
  bool retry_memory_ = false;
  bool now_holds_ = false;  // the application has not had time since

  std::vector<Link> links_;
  std::vector<DepartedLink> departed_;
  absl::Status last_lost_;  // why, of one that was up
  // A link that is made anew finds all its slots here: only what is more than
  // those of the links that are down may be on loan.
  std::vector<ReceiveSlot*> free_slots_;
  std::array<Lane, kMessageClasses> lanes_;
  Instant all_lost_at_ = Instant::max();
  uint64_t ping_number_ = 0;

  absl::flat_hash_map<uint32_t, std::unique_ptr<Stream>> streams_;
  Stream* last_found_ = nullptr;  // most frames are of one stream
  std::vector<std::unique_ptr<Stream>> forgotten_;  // until the end of Pump
  Fifo<Stream*> accepted_;
  OperationQueue acceptors_;  // empty where a stream waits
  // Numbers of the next streams, by class: that this side, and the peer, opens.
  std::array<uint32_t, kMessageClasses> next_ours_{1, 1};
  std::array<uint32_t, kMessageClasses> next_peers_{1, 1};
  uint32_t open_ours_ = 0, open_peers_ = 0;

  std::vector<Outgoing> outgoing_;
  std::vector<uint32_t> free_outgoing_;
  Fifo<Outgoing*> writing_;
  std::vector<Stage> stages_;  // empty until they are needed
  StallTimer write_stall_;
  Fifo<Stream*> want_transfer_;
  std::vector<Granted> granted_;
  std::vector<uint32_t> free_granted_;
  std::vector<Stream*> want_memory_, retrying_;
  uint64_t ahead_ = 0;
  size_t lent_ = 0;  // buffers for messages of streams

  // Each has a place of kAccessPlace bytes for a short range, all of them in
  // memory that is there with the first.
  static constexpr size_t kMaxAccesses = 32;
  static constexpr uint64_t kAccessPlace = 2048;
  std::vector<Access> accesses_;
  Registered places_;
  Traffic accessed_;          // done with OK
  OperationQueue to_access_;  // those that have no place yet
  std::array<Fifo<Access*>, kMessageClasses> accessing_;  // to be posted
  // Streams with a notified write that could not go on; the second is empty.
  std::vector<Stream*> want_access_, wanted_access_;

  std::vector<std::byte> gathered_;  // kept so that sending does not allocate
  TimedOperations timed_;
  OperationQueue done_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_SESSION_SESSION_CORE_H_
