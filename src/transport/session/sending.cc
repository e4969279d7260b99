// What goes out: controls of links, and the frames of lanes.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "absl/base/attributes.h"
#include "transport/session/session_core.h"

namespace nd::transport {
namespace {

// Registered messages from here on are sent from where they lie.
constexpr size_t kZeroCopyBytes = 1024;

uint64_t CostOf(uint64_t message_bytes, uint32_t eager_limit) {
  return kMessageCost + (message_bytes > eager_limit ? 0 : message_bytes);
}

constexpr uint64_t kNotifyCost = kMessageCost + Notify::kSize;

}  // namespace

template <typename Payload>
bool SessionCore::SendControl(Link& link, FrameType type,
                              const Payload& payload) {
  std::array<std::byte, kMaxText + 4> bytes;
  ByteWriter out(bytes);
  payload.Write(out);
  return SendControlPacket(link, type, out.written());
}
template bool SessionCore::SendControl<Reason>(Link&, FrameType, const Reason&);

bool SessionCore::SendControlPacket(Link& link, FrameType type,
                                    std::span<const std::byte> payload) {
  // The last receive of the peer's is for news of receives, and for the end.
  const bool last_resort =
      type == FrameType::kCredit || type == FrameType::kAbort;
  if (!link.CanSend(!last_resort)) return false;
  PacketWriter writer(link.carrier->SendSlot(link.send_slots++),
                      layout_.digest);
  const bool fits = writer.Append(
      {.type = type, .credits = static_cast<uint32_t>(link.posted())}, payload);
  assert(fits);
  (void)fits;
  link.told = link.posted();
  ++link.sent;
  ++link.counters.packets_sent;
  ++link.counters.frames_sent;
  link.counters.bytes_sent += writer.written().size();
  link.carrier->Send(link.works.end(), writer.written(), {}, true);
  link.works.Push({.kind = LinkWork::Kind::kControl, .control = type});
  link.unsignaled = 0;
  return true;
}

// What concerns links: that one is gone, signs of life, credits where nothing
// else carries them.
void SessionCore::SendControls(Link& link) {
  if (link.state != Link::State::kUp) return;
  for (DepartedLink& departed : departed_) {
    if (departed.gone != DepartedLink::Gone::kDue) continue;
    const Gone gone{.link = departed.index,
                    .incarnation = departed.incarnation,
                    .received = static_cast<uint32_t>(departed.received)};
    if (!SendControl(link, FrameType::kGone, gone)) return;
    link.works[link.works.end() - 1].transfer = departed.serial;
    departed.gone = DepartedLink::Gone::kSent;
    departed.gone_by = link.index;
  }
  if (link.pong) {
    if (!SendControl(link, FrameType::kPong, Probe{*link.pong})) return;
    link.pong.reset();
  }
  if (link.ping_due) {
    if (!SendControl(link, FrameType::kPing, Probe{++ping_number_})) return;
    link.ping_due = false;
    link.pinged = true;
  }
}

ABSL_ATTRIBUTE_HOT SessionCore::Entry& SessionCore::QueueEntry(
    Stream* stream, MessageClass message_class, FrameType type) {
  if (stream != nullptr) ++stream->references_;
  Entry& entry = LaneOf(message_class).entries.Push();
  entry.type = type;
  entry.stream = stream;
  return entry;
}

template <typename Payload>
void SessionCore::Queue(Stream& stream, FrameType type,
                        const Payload& payload) {
  Entry& entry = QueueEntry(&stream, stream.message_class(), type);
  ByteWriter out(entry.payload);
  payload.Write(out);
  entry.size = static_cast<uint8_t>(out.written().size());
}
template void SessionCore::Queue<Request>(Stream&, FrameType, const Request&);
template void SessionCore::Queue<Grant>(Stream&, FrameType, const Grant&);
template void SessionCore::Queue<Written>(Stream&, FrameType, const Written&);
template void SessionCore::Queue<Revoke>(Stream&, FrameType, const Revoke&);
template void SessionCore::Queue<Notify>(Stream&, FrameType, const Notify&);

// Whether the stream has something that may be sent now. Where the peer's
// window, its grants or a place for a large message are wanting, it waits for
// those.
ABSL_ATTRIBUTE_HOT bool SessionCore::HasWork(Stream& stream) {
  if (!stream.end_.ok()) [[unlikely]]
    return false;
  Operation* const first = stream.to_send_.first();
  if (first == nullptr) {
    SetStall(stream.send_stall_, Lack::kNothing);
    return stream.finishing_ && !stream.finish_sent_;
  }
  if (OperationAccess::is_access(*first)) [[unlikely]] {
    const bool fits = stream.sent_cost_ + kNotifyCost <= stream.send_limit_;
    SetStall(stream.send_stall_, fits ? Lack::kNothing : Lack::kWindow);
    return fits && BeginNotified(stream, static_cast<AccessOperation&>(*first));
  }
  const uint64_t size = static_cast<SendOperation&>(*first).size();
  if (stream.sent_cost_ + CostOf(size, layout_.eager_limit) >
      stream.send_limit_) [[unlikely]] {
    SetStall(stream.send_stall_, Lack::kWindow);
    return false;
  }
  if (size > layout_.eager_limit && WaitsForTransfer(stream)) [[unlikely]]
    return false;
  SetStall(stream.send_stall_, Lack::kNothing);
  return true;
}

ABSL_ATTRIBUTE_HOT void SessionCore::MakeReady(Stream& stream) {
  if (stream.ready_ || !HasWork(stream)) return;
  stream.ready_ = true;
  LaneOf(stream.message_class()).ready.Push(&stream);
}

ABSL_ATTRIBUTE_HOT void SessionCore::SendFrames(Lane& lane,
                                                MessageClass message_class) {
  Lack lack = Lack::kNothing;
  bool more = HasMore(lane);
  while (more) {
    if (lane.carrier == nullptr || !lane.carrier->CanSend(true)) [[unlikely]] {
      lack = lane.carrier == nullptr ? Lack::kConnection
                                     : lane.carrier->WhyNotSend();
      break;
    }
    if (!SendPacket(lane, message_class, *lane.carrier, more)) break;
  }
  if (lane.Full() && !lane.IsIdle()) lack = Lack::kDepth;
  if (SetStall(lane.stall, lack) && lane.carrier != nullptr) {
    lane.carrier->CountStall(lack);
  }
}

// What the latency class has to send is not behind the housekeeping, unless its
// link has news of links to carry, which must not lack the credits.
ABSL_ATTRIBUTE_HOT void SessionCore::SendFirst() {
  Lane& lane = LaneOf(MessageClass::kLatency);
  Link* const link = lane.carrier;
  if (link == nullptr || HasControls(*link)) [[unlikely]]
    return;
  SendLane(lane, MessageClass::kLatency);
  link->carrier->Flush();
}

// Where nothing else has told the peer of its credits.
void SessionCore::ReturnCredits(Link& link) {
  if (link.state != Link::State::kUp || link.posted() == link.told) return;
  if (link.PeerRoom() >= layout_.slots / 2) return;
  SendControlPacket(link, FrameType::kCredit, {});
}

ABSL_ATTRIBUTE_HOT bool SessionCore::FindMore(Lane& lane) {
  if (lane.Full()) return false;
  if (lane.unsent != lane.entries.end()) return true;
  while (!lane.ready.empty()) {
    Stream& stream = *lane.ready.front();
    if (HasWork(stream)) return true;
    lane.ready.PopFront();
    stream.ready_ = false;
    MaybeForget(stream);
  }
  return false;
}

// Sends one packet with all that is ready, of which there is something
// (HasMore), and fits. False when nothing did; `more` as HasMore says then.
ABSL_ATTRIBUTE_HOT bool SessionCore::SendPacket(Lane& lane,
                                                MessageClass message_class,
                                                Link& link, bool& more) {
  const std::span<std::byte> room =
      link.carrier->SendSlot(link.send_slots).first(layout_.slot_size);
  PacketWriter writer(room, layout_.digest);
  LocalPiece tail;
  const uint64_t first = lane.unsent;
  do {
    if (lane.unsent == lane.entries.end() && !TakeNext(lane, writer)) break;
    if (!AppendEntry(lane, lane.unsent, message_class, link, writer, tail)) {
      break;
    }
    ++lane.unsent;
    more = HasMore(lane);
  } while (tail.data == nullptr && more);
  const uint64_t count = lane.unsent - first;
  if (count == 0) return false;
  ++link.send_slots;
  link.told = link.posted();
  ++link.sent;
  ++link.counters.packets_sent;
  link.counters.frames_sent += count;
  link.counters.bytes_sent += writer.written().size() + tail.length;
  // The last packet for now is signalled, so that its operations end.
  const bool last = !more || link.credits - link.sent <= 1 ||
                    link.works.size() + 1 >= link.carrier->depth();
  const bool signal = last || ++link.unsignaled >= link.carrier->depth() / 4;
  if (signal) link.unsignaled = 0;
  const std::span<const LocalPiece> behind(&tail, tail.data != nullptr ? 1 : 0);
  link.carrier->Send(link.works.end(), writer.written(), behind, signal);
  LinkWork& work = link.works.Push();
  work.kind = LinkWork::Kind::kFrames;
  work.lane = message_class;
  work.first = first;
  work.count = count;
  return true;
}

// Makes the entry of the next message: of the stream whose turn it is. There is
// one (HasMore); false where it would not fit any more.
ABSL_ATTRIBUTE_HOT bool SessionCore::TakeNext(Lane& lane,
                                              const PacketWriter& writer) {
  Stream& stream = *lane.ready.front();
  Operation* const first = stream.to_send_.first();
  if (first == nullptr) [[unlikely]] {
    stream.finish_sent_ = true;
    QueueEntry(&stream, stream.message_class(), FrameType::kFinish);
  } else if (OperationAccess::is_access(*first)) [[unlikely]] {
    stream.sent_cost_ += kNotifyCost;
    OperationQueue::Remove(*first);
    QueueNotify(stream, static_cast<AccessOperation&>(*first));
  } else {
    auto* const head = static_cast<SendOperation*>(first);
    const uint64_t size = head->size();
    const bool eager = size <= layout_.eager_limit;
    if (eager && !writer.empty() && !writer.Fits(size)) return false;
    stream.sent_cost_ += CostOf(size, layout_.eager_limit);
    OperationQueue::Remove(*head);
    if (eager) {
      QueueEntry(&stream, stream.message_class(), FrameType::kMessage)
          .operation = head;
    } else {
      StartTransfer(stream, *head);
    }
  }
  lane.ready.PopFront();
  stream.ready_ = false;
  MakeReady(stream);
  return true;
}

ABSL_ATTRIBUTE_HOT bool SessionCore::AppendEntry(Lane& lane, uint64_t number,
                                                 MessageClass message_class,
                                                 Link& link,
                                                 PacketWriter& writer,
                                                 LocalPiece& tail) {
  Entry& entry = lane.entries[number];
  if (entry.access != nullptr) [[unlikely]] {
    if (!entry.access->end.ok()) {
      TakeRefusal(entry);
    } else if (!PostNotified(*entry.access, link)) {
      return false;
    }
  }
  FrameHeader header{.type = entry.type,
                     .message_class = message_class,
                     .sequence = static_cast<uint32_t>(number),
                     .credits = static_cast<uint32_t>(link.posted())};
  Stream* const stream = entry.stream;
  // Of the session there is nothing but the end.
  assert((stream == nullptr) == (entry.type == FrameType::kGoodbye));
  if (stream != nullptr) [[likely]] {
    header.stream = stream->id();
    header.window = stream->receiving_.Limit();
  }
  const SendOperation* const message = entry.operation;
  const bool copied = message != nullptr && message->pieces().size() == 1 &&
                      message->size() < kZeroCopyBytes;
  const bool fits = copied ? writer.Append(header, message->pieces()[0].bytes)
                           : AppendOther(entry, header, link, writer, tail);
  if (!fits) [[unlikely]]
    return false;
  if (stream != nullptr) [[likely]]
    stream->receiving_.Told();
  if (entry.type == FrameType::kWindow) stream->window_queued_ = false;
  return true;
}

// The peer has refused the write that the frame is to tell of. The frame has
// its number: it says nothing.
void SessionCore::TakeRefusal(Entry& entry) {
  entry.type = FrameType::kWindow;
  entry.size = 0;
  entry.stream->sent_cost_ -= kNotifyCost;
  Access& refused = *std::exchange(entry.access, nullptr);
  EndAccess(refused, refused.end);
}

// All but short messages in one piece.
bool SessionCore::AppendOther(const Entry& entry, const FrameHeader& header,
                              const Link& link, PacketWriter& writer,
                              LocalPiece& tail) {
  switch (entry.type) {
    case FrameType::kMessage: {
      assert(entry.operation != nullptr);
      const std::span<const SendPiece> pieces = entry.operation->pieces();
      const size_t size = entry.operation->size();
      if (pieces.size() == 1 && pieces[0].registered &&
          link.carrier->max_pieces() > 1) {
        if (!writer.Fits(size) ||
            !writer.AppendHeader(header, pieces[0].bytes)) {
          return false;
        }
        tail = {.data = const_cast<std::byte*>(pieces[0].bytes.data()),
                .length = size,
                .lkey = pieces[0].lkey};
        return true;
      }
      if (pieces.size() == 1) return writer.Append(header, pieces[0].bytes);
      gathered_.clear();
      for (const SendPiece& piece : pieces) {
        gathered_.insert(gathered_.end(), piece.bytes.begin(),
                         piece.bytes.end());
      }
      return writer.Append(header, gathered_);
    }
    case FrameType::kOpen:
      return writer.Append(header,
                           std::as_bytes(std::span(entry.stream->name())));
    case FrameType::kReset: {
      std::array<std::byte, kMaxText + 4> bytes;
      ByteWriter out(bytes);
      const Stream& stream = *entry.stream;
      Reason{.code = static_cast<uint32_t>(stream.end_.code()),
             .text = stream.reset_text_}
          .Write(out);
      return writer.Append(header, out.written());
    }
    default:
      return writer.Append(header, std::span(entry.payload).first(entry.size));
  }
}

ABSL_ATTRIBUTE_HOT void SessionCore::CountSent(Stream& stream,
                                               const SendOperation& operation,
                                               uint64_t size) {
  Lane& lane = LaneOf(stream.message_class());
  for (Traffic* const sent : {&stream.counters_.sent, &lane.counters.sent}) {
    ++sent->messages;
    sent->bytes += size;
  }
  const Duration took = now_ - OperationAccess::started_at(operation);
  lane.latencies.Record(
      static_cast<uint64_t>(std::max<int64_t>(0, took.count())));
}

// Frames before `upto` have arrived.
ABSL_ATTRIBUTE_HOT void SessionCore::Confirm(Lane& lane, uint64_t upto) {
  while (lane.entries.begin() < upto) {
    const Entry entry = lane.entries.front();
    lane.entries.PopFront();
    if (entry.operation != nullptr) {
      CountSent(*entry.stream, *entry.operation, entry.operation->size());
      Done(*entry.operation, absl::OkStatus());
    }
    if (entry.access != nullptr) [[unlikely]]
      EndAccess(*entry.access, absl::OkStatus());
    if (entry.type == FrameType::kWritten) {
      const auto written =
          Written::Parse(std::span(entry.payload).first(entry.size));
      Outgoing* const transfer = FindOutgoing(written->transfer);
      if (written->status != WrittenStatus::kRevoked && transfer != nullptr) {
        EndTransfer(*transfer, transfer->end);
      }
    }
    if (entry.stream != nullptr) Unreference(*entry.stream);
  }
  lane.unsent = std::max(lane.unsent, lane.entries.begin());
}

ABSL_ATTRIBUTE_HOT void SessionCore::OnCompleted(uint32_t index,
                                                 uint64_t serial, Instant now) {
  SetNow(now);
  Link& link = links_[index];
  while (!link.works.empty() && link.works.begin() <= serial) {
    const LinkWork work = link.works.front();
    link.works.PopFront();
    switch (work.kind) {
      case LinkWork::Kind::kControl:
        if (work.control == FrameType::kGone) {
          for (DepartedLink& departed : departed_) {
            if (departed.serial == work.transfer) {
              departed.gone = DepartedLink::Gone::kDelivered;
            }
          }
        }
        if (work.control == FrameType::kAbort) LoseLink(index, end_);
        break;
      case LinkWork::Kind::kFrames:
        Confirm(LaneOf(work.lane), work.first + work.count);
        break;
      case LinkWork::Kind::kWrite:
        WriteDone(index, work);
        break;
      case LinkWork::Kind::kAccess:
        AccessDone(link, work);
        break;
    }
  }
}

}  // namespace nd::transport
