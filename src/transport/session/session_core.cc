#include "transport/session/session_core.h"

#include <algorithm>
#include <cassert>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "transport/session/statistics.h"

namespace nd::transport {
namespace {

// Large messages under way, in each direction.
constexpr uint32_t kMaxTransfers = 256;

}  // namespace

SessionCore::SessionCore(const Options& options, SessionMemory& memory,
                         SessionEvents& events)
    : options_(options),
      memory_(memory),
      events_(events),
      links_(options.layout.links()),
      outgoing_(kMaxTransfers),
      granted_(kMaxTransfers),
      accesses_(kMaxAccesses) {
  for (uint32_t i = 0; i < links_.size(); ++i) links_[i].index = i;
  links_down_ = options_.layout.links();
  for (ReceiveSlot& slot : options_.receive_slots) free_slots_.push_back(&slot);
  for (uint32_t i = kMaxTransfers; i-- > 0;) {
    outgoing_[i].id = i;
    free_outgoing_.push_back(i);
    free_granted_.push_back(i);
  }
}

SessionCore::~SessionCore() {
  if (places_.local.data != nullptr) memory_.Free(places_);
}

absl::StatusOr<Stream*> SessionCore::OpenStream(MessageClass message_class,
                                                std::string_view name) {
  if (state_ != State::kOpen || leaving_) {
    return absl::FailedPreconditionError("the session has ended");
  }
  if (name.size() > kMaxStreamName) {
    return absl::InvalidArgumentError(
        absl::StrCat("the name of a stream has ", name.size(),
                     " bytes, more than ", kMaxStreamName));
  }
  uint32_t& next = next_ours_[static_cast<size_t>(message_class)];
  if (open_ours_ == layout_.max_streams || next == StreamId::kMaxNumber) {
    return absl::ResourceExhaustedError(
        absl::StrCat(open_ours_, " streams are open, as many as may be"));
  }
  const uint32_t id = StreamId{.number = next++,
                               .message_class = message_class,
                               .by_client = options_.client}
                          .Encode();
  ++open_ours_;
  auto& stream = streams_[id];
  stream.reset(new Stream(*this, id, message_class, std::string(name), true,
                          layout_.stream_window, layout_.eager_limit));
  QueueEntry(stream.get(), message_class, FrameType::kOpen);
  events_.OnCall();
  return stream.get();
}

Stream* SessionCore::AcceptStream() {
  if (accepted_.empty()) return nullptr;
  Stream* const stream = accepted_.front();
  accepted_.PopFront();
  return stream;
}

void SessionCore::Accept(AcceptOperation& operation) {
  OperationAccess::Start(operation, nullptr);
  events_.OnCall();
  timed_.Add(operation);
  acceptors_.Add(operation);
  MatchAccepted();
  if (state_ == State::kEnded) EndAccept(operation, EndReason());
}

void SessionCore::CancelAccept(AcceptOperation& operation) {
  events_.OnCall();
  EndAccept(operation, absl::CancelledError("the operation was cancelled"));
}

void SessionCore::EndAccept(Operation& operation, absl::Status why) {
  if (OperationQueue::QueueOf(operation) != &acceptors_) return;
  OperationQueue::Remove(operation);
  Done(operation, std::move(why));
}

void SessionCore::MatchAccepted() {
  while (!accepted_.empty() && !acceptors_.empty()) {
    auto& operation = static_cast<AcceptOperation&>(*acceptors_.first());
    OperationQueue::Remove(operation);
    OperationAccess::SetAccepted(operation, *AcceptStream());
    Done(operation, absl::OkStatus());
  }
}

absl::Status SessionCore::EndReason() const {
  return end_.ok() ? absl::CancelledError("the session was closed") : end_;
}

void SessionCore::Goodbye() {
  if (state_ != State::kOpen) return;
  leaving_ = true;
  CheckEnd();
  events_.OnCall();
}

Stream* SessionCore::Find(uint32_t id) {
  if (last_found_ != nullptr && last_found_->id() == id) [[likely]]
    return last_found_;
  const auto found = streams_.find(id);
  if (found == streams_.end()) return nullptr;
  return last_found_ = found->second.get();
}

bool SessionCore::WasOpened(uint32_t encoded) const {
  const StreamId id = StreamId::Of(encoded);
  const auto& next = id.by_client == options_.client ? next_ours_ : next_peers_;
  return id.number != 0 &&
         id.number < next[static_cast<size_t>(id.message_class)];
}

ABSL_ATTRIBUTE_HOT void SessionCore::Done(Operation& operation,
                                          absl::Status status) {
  timed_.Remove(operation);
  OperationAccess::Decide(operation, std::move(status));
  done_.Add(operation);
}

void SessionCore::Expire(Operation& operation) {
  absl::Status why =
      absl::DeadlineExceededError("the operation's deadline has passed");
  Stream* const stream = OperationAccess::stream(operation);
  if (stream == nullptr && OperationAccess::is_access(operation)) {
    return CancelAccess(static_cast<AccessOperation&>(operation),
                        std::move(why));
  }
  if (stream == nullptr) return EndAccept(operation, std::move(why));
  stream->Cancel(operation, std::move(why));
}

// Ends what a stream has under way. What the peer still writes is awaited.
void SessionCore::End(Stream& stream, const absl::Status& why) {
  if (!stream.end_.ok()) return;
  stream.end_ = why;
  DropUnsent(stream, why);
  for (Outgoing& transfer : outgoing_) {
    if (transfer.stream == &stream) GiveUp(transfer, why);
  }
  stream.receiving_.End(why, state_ == State::kEnded);
  SetStall(stream.receive_stall_, Lack::kNothing);
  MaybeForget(stream);
}

void SessionCore::DropUnsent(Stream& stream, const absl::Status& why) {
  while (Operation* const operation = stream.to_send_.first()) {
    DropUnsent(*operation, why);
  }
  SetStall(stream.send_stall_, Lack::kNothing);
}

// An operation that its stream has not sent yet.
void SessionCore::DropUnsent(Operation& operation, absl::Status why) {
  if (Access* const access = FindAccess(operation)) {
    return GiveUp(*access, std::move(why));
  }
  OperationQueue::Remove(operation);
  Done(operation, std::move(why));
}

bool SessionCore::ChangeStall(StallTimer& timer, Lack lack) {
  if (!now_holds_) now_ = std::max(now_, events_.Now());
  return timer.Set(lack, now_);
}

void SessionCore::Unreference(Stream& stream) {
  assert(stream.references_ > 0);
  --stream.references_;
  MaybeForget(stream);
}

// A stream goes when both sides have ended it, nothing of it is under way, and
// the application is through with it.
ABSL_ATTRIBUTE_HOT void SessionCore::MaybeForget(Stream& stream) {
  if (!stream.closed_) [[likely]]
    return;
  const bool over = state_ == State::kEnded || !stream.end_.ok() ||
                    (stream.finish_sent_ && stream.receiving_.finished());
  if (!over || stream.references_ != 0 || stream.ready_ ||
      !stream.to_send_.empty() || stream.memory_wanted_ ||
      stream.transfer_wanted_ || stream.access_wanted_ ||
      !stream.receiving_.idle()) {
    return;
  }
  const auto found = streams_.find(stream.id());
  if (found == streams_.end()) return;
  --(stream.ours() ? open_ours_ : open_peers_);
  Stalls& gone = LaneOf(stream.message_class()).counters.of_gone_streams;
  stream.send_stall_.AddTo(gone, now_);
  stream.receive_stall_.AddTo(gone, now_);
  if (last_found_ == &stream) last_found_ = nullptr;
  forgotten_.push_back(std::move(found->second));
  streams_.erase(found);
}

ABSL_ATTRIBUTE_HOT void SessionCore::Deliver(Instant now) {
  SetNow(now);
  // Callbacks may start operations, and drop streams.
  while (Operation* const operation = done_.first()) {
    OperationQueue::Remove(*operation);
    timed_.Stamp(now);  // this may be one of those that have just begun
    OperationAccess::Finish(*operation);
  }
}

void SessionCore::FlushAll() {
  for (Link& link : links_) {
    if (link.carrier != nullptr && link.state == Link::State::kUp) {
      link.carrier->Flush();
    }
  }
}

ABSL_ATTRIBUTE_HOT void SessionCore::Pump(Instant now) {
  SetNow(now);
  do {
    timed_.Stamp(now);
    timed_.Expire(now, [this](Operation& operation) { Expire(operation); });
    Deliver(now);
    if (std::exchange(retry_memory_, false)) [[unlikely]]
      RetryMemory();
    if (state_ != State::kEnded) {
      SendFirst();
      KeepAlive(now);
      if (!departed_.empty()) [[unlikely]]
        SettleAll();
      if (LacksCarrier()) [[unlikely]]
        ChooseCarriers();
      CheckEnd();
      for (Link& link : links_) {
        if (HasControls(link)) [[unlikely]]
          SendControls(link);
      }
      if (!want_access_.empty()) [[unlikely]]
        RetryNotified();
      for (size_t i = 0; i < lanes_.size(); ++i) {
        SendLane(lanes_[i], static_cast<MessageClass>(i));
      }
      if (HasAccesses()) PostAccesses();
      if (HasWrites()) WriteTransfers();
      FlushAll();
      for (Link& link : links_) {
        PostReceives(link);
        ReturnCredits(link);
      }
      FlushAll();
    }
  } while (!done_.empty());
  forgotten_.clear();
  now_holds_ = false;
}

void SessionCore::RetryMemory() {
  retrying_.swap(want_memory_);
  for (Stream* const stream : retrying_) {
    stream->memory_wanted_ = false;
    stream->receiving_.Retry();
    stream->AfterReceive();
    MaybeForget(*stream);
  }
  retrying_.clear();
}

std::string SessionCore::Describe(Instant now) {
  std::string text = absl::StrCat(
      "state ", static_cast<int>(state_), ", streams ", streams_.size(),
      ", free slots ", free_slots_.size(), ", free transfers ",
      free_outgoing_.size(), ", granted ahead ", ahead_, "\n");
  for (const Link& link : links_) {
    absl::StrAppend(&text, "link ", link.index, ": state ",
                    static_cast<int>(link.state), ", credits ", link.credits,
                    ", sent ", link.sent, ", posted ", link.posted(), ", told ",
                    link.told, ", received ", link.received, ", under way ",
                    link.works.size(), "\n");
  }
  for (const DepartedLink& link : departed_) {
    absl::StrAppend(&text, "departed link ", link.index, ".", link.incarnation,
                    ": settled ", link.settled, ", gone ",
                    static_cast<int>(link.gone), ", peer's gone ",
                    link.peer_received.has_value(), ", under way ",
                    link.works.size(), "\n");
  }
  for (const Lane& lane : lanes_) {
    absl::StrAppend(
        &text, "lane: frames ", lane.entries.begin(), " .. ",
        lane.entries.end(), ", unsent from ", lane.unsent, ", expects ",
        lane.expected, ", ready ", lane.ready.size(), ", carrier ",
        lane.carrier == nullptr ? -1 : int(lane.carrier->index), "\n");
  }
  for (const auto& [id, stream] : streams_) {
    absl::StrAppend(
        &text, "stream ", id, ": waits to send ", !stream->to_send_.empty(),
        ", cost sent ", stream->sent_cost_, " of ", stream->send_limit_,
        ", finished ", stream->finish_sent_, "/", stream->receiving_.finished(),
        ", references ", stream->references_, ", ",
        stream->receiving_.Describe(), "\n");
  }
  absl::StrAppend(&text, transport::Describe(Statistics(now)));
  return text;
}

ABSL_ATTRIBUTE_HOT Instant SessionCore::NextDeadline() const {
  Instant next = timed_.earliest();
  if (state_ == State::kEnded) return next;
  if (open() && all_lost_at_ != Instant::max() && AllLost()) {
    next = std::min(next, all_lost_at_ + options_.reconnect);
  }
  for (const Link& link : links_) {
    if (link.state == Link::State::kAborting) {
      next = std::min(next, link.abort_by);
    }
    if (link.state == Link::State::kUp && layout_.keepalive.count() > 0) {
      const bool asked = link.pinged || link.ping_due;
      next = std::min(next, link.heard + (asked ? layout_.keepalive
                                                : layout_.keepalive / 3));
    }
  }
  return next;
}

}  // namespace nd::transport
