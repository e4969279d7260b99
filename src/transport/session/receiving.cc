// What comes in: packets, frame by frame.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "transport/session/session_core.h"

namespace nd::transport {
namespace {

// Whether all frames have the digest that they say. What is behind a wrong one
// must be sent again, and what is before it must not, so it is known first.
bool DigestsAreRight(std::span<const std::byte> packet) {
  PacketReader reader(packet, true);
  FrameView frame;
  while (reader.Next(frame)) continue;
  return reader.fault() != PacketFault::kDigest;
}

absl::Status StatusOf(const Reason& reason, std::string_view who) {
  // Codes beyond the canonical ones, and OK, make no error.
  const bool known = reason.code >= 1 && reason.code <= 16;
  return absl::Status(
      known ? static_cast<absl::StatusCode>(reason.code)
            : absl::StatusCode::kUnknown,
      absl::StrCat(std::string(who), ": ", std::string(reason.text)));
}

}  // namespace

// The receive that something has come into; null where it is not looked at.
ReceiveSlot* SessionCore::TakeReceive(Link& link, Instant now) {
  SetNow(now);
  if (link.receives.empty()) [[unlikely]]
    return nullptr;
  ReceiveSlot& slot = *link.receives.front();
  link.receives.PopFront();
  link.heard = now;
  link.pinged = link.ping_due = false;
  if (state_ == State::kOpen && !link.deaf) [[likely]]
    return &slot;
  ReplaceSlot(link, slot);
  return nullptr;
}

ABSL_ATTRIBUTE_HOT void SessionCore::OnPacket(uint32_t index, size_t bytes,
                                              Instant now) {
  Link& link = links_[index];
  ReceiveSlot* const taken = TakeReceive(link, now);
  if (taken == nullptr) [[unlikely]]
    return;
  ReceiveSlot& slot = *taken;
  const std::span<const std::byte> packet(slot.memory.data, bytes);
  if (layout_.digest && !DigestsAreRight(packet)) [[unlikely]] {
    link.deaf = true;
    LoseLink(index, absl::DataLossError(absl::StrCat("a packet on link ", index,
                                                     " has a wrong digest")));
    return ReplaceSlot(link, slot);
  }
  ++link.received;
  ++link.counters.packets_received;
  link.counters.bytes_received += bytes;
  // The slot stays as long as its frames are looked at.
  ++slot.loans;
  PacketReader reader(packet, layout_.digest, layout_.eager_limit);
  FrameView frame;
  while (state_ == State::kOpen && reader.Next(frame)) {
    OnFrame(link, frame, slot);
  }
  if (state_ == State::kOpen && reader.fault() != PacketFault::kNone)
      [[unlikely]] {
    Violate(link, ToString(reader.fault()));
  }
  --slot.loans;
  ReplaceSlot(link, slot);
}

// The peer can write to its ring at any time: what is looked at is a copy.
void SessionCore::OnRing(uint32_t index, uint32_t immediate, size_t bytes,
                         std::span<const std::byte> ring, Instant now) {
  Link& link = links_[index];
  if (link.receives.empty()) return;
  const uint64_t place = link.receives.begin() % layout_.slots;
  if (immediate >> 16 == place && bytes <= layout_.slot_size) {
    std::memcpy(link.receives.front()->memory.data,
                &ring[place * layout_.slot_size], bytes);
    return OnPacket(index, bytes, now);
  }
  ReceiveSlot* const slot = TakeReceive(link, now);
  if (slot == nullptr) return;
  ++link.received;
  ReplaceSlot(link, *slot);
  Violate(link, absl::StrCat("a packet of ", bytes, " bytes in place ",
                             immediate >> 16, " of the ring, where ", place,
                             " was due"));
}

void SessionCore::OnFrame(Link& link, const FrameView& frame,
                          ReceiveSlot& slot) {
  ++link.counters.frames_received;
  const uint64_t credits = ExpandCount(link.credits, frame.header.credits);
  if (credits > link.sent + layout_.slots) [[unlikely]] {
    return Violate(link, "credits that go back, or beyond the slots");
  }
  link.credits = credits;
  if (IsSequenced(frame.header.type)) {
    OnSequenced(link, frame, slot);
  } else {
    OnControl(link, frame);
  }
}

void SessionCore::OnControl(Link& link, const FrameView& frame) {
  switch (frame.header.type) {
    case FrameType::kPing:
      if (const auto probe = Probe::Parse(frame.payload)) {
        link.pong = probe->number;
        return;
      }
      break;
    case FrameType::kGone:
      if (const auto gone = Gone::Parse(frame.payload)) return HearGone(*gone);
      break;
    case FrameType::kAbort:
      if (const auto reason = Reason::Parse(frame.payload)) {
        return Fail(StatusOf(*reason, "the peer has ended the session"));
      }
      break;
    case FrameType::kCredit:
    case FrameType::kPong:
    default:
      return;
  }
  Violate(link, absl::StrCat("a ", std::string(ToString(frame.header.type)),
                             " that cannot be read"));
}

void SessionCore::OnSequenced(Link& link, const FrameView& frame,
                              ReceiveSlot& slot) {
  const FrameHeader& header = frame.header;
  Lane& lane = LaneOf(header.message_class);
  if (header.sequence != static_cast<uint32_t>(lane.expected)) [[unlikely]] {
    return Violate(link, absl::StrCat("frame ", header.sequence, " where ",
                                      lane.expected, " was due"));
  }
  ++lane.expected;
  if (header.type == FrameType::kGoodbye) [[unlikely]]
    return OnGoodbye(link, frame);
  if (!StreamId::Of(header.stream).IsOf(header.message_class)) [[unlikely]] {
    return Violate(link, "a stream of another class");
  }
  if (header.type == FrameType::kOpen) [[unlikely]]
    return OnOpen(link, frame);
  if (!WasOpened(header.stream)) [[unlikely]] {
    return Violate(link,
                   absl::StrCat("stream ", header.stream, " was never opened"));
  }
  // One that is forgotten here was reset; the peer did not know yet.
  if (Stream* const stream = Find(header.stream)) {
    OnStreamFrame(link, *stream, frame, slot);
  }
}

void SessionCore::OnGoodbye(Link& link, const FrameView& frame) {
  if (goodbye_heard_ || !Reason::Parse(frame.payload)) {
    return Violate(link, "a Goodbye that cannot be");
  }
  goodbye_heard_ = true;
  leaving_ = true;
}

void SessionCore::OnOpen(Link& link, const FrameView& frame) {
  const StreamId id = StreamId::Of(frame.header.stream);
  uint32_t& next = next_peers_[static_cast<size_t>(frame.header.message_class)];
  if (id.by_client == options_.client || id.number != next) {
    return Violate(link, absl::StrCat("stream ", frame.header.stream,
                                      " cannot be opened"));
  }
  if (open_peers_ == layout_.max_streams) {
    return Violate(link,
                   absl::StrCat("more than ", layout_.max_streams, " streams"));
  }
  ++next;
  ++open_peers_;
  const std::string name(reinterpret_cast<const char*>(frame.payload.data()),
                         frame.payload.size());
  auto& stream = streams_[frame.header.stream];
  stream.reset(new Stream(*this, frame.header.stream,
                          frame.header.message_class, name, false,
                          layout_.stream_window, layout_.eager_limit));
  accepted_.Push(stream.get());
  MatchAccepted();
  events_.OnStreamOpened();
}

void SessionCore::OnStreamFrame(Link& link, Stream& stream,
                                const FrameView& frame, ReceiveSlot& slot) {
  const char* fault = OnWindow(stream, frame.header.window);
  if (fault == nullptr) [[likely]] {
    fault = frame.header.type == FrameType::kMessage
                ? OnMessage(stream, frame, slot, false)
                : OnOtherFrame(stream, frame, slot);
  }
  if (fault != nullptr) [[unlikely]] {
    return Violate(link, absl::StrCat("stream ", stream.id(), ": ", fault));
  }
  stream.AfterReceive();
  MaybeForget(stream);
}

const char* SessionCore::OnMessage(Stream& stream, const FrameView& frame,
                                   ReceiveSlot& slot, bool notifies) {
  return stream.receiving_.AddMessage(slot, frame.payload, MayLoan(), notifies)
             ? nullptr
             : "a message beyond the window, or behind the end";
}

const char* SessionCore::OnOtherFrame(Stream& stream, const FrameView& frame,
                                      ReceiveSlot& slot) {
  switch (frame.header.type) {
    case FrameType::kNotify:
      if (!Notify::Parse(frame.payload)) return "a Notify that cannot be read";
      return OnMessage(stream, frame, slot, true);
    case FrameType::kRequest: {
      const auto request = Request::Parse(frame.payload);
      if (!request || request->size <= layout_.eager_limit ||
          !stream.receiving_.AddRequest(request->transfer, request->size)) {
        return "a Request beyond the window, behind the end, or needless";
      }
      return nullptr;
    }
    case FrameType::kFinish:
      return stream.receiving_.AddFinish() ? nullptr : "a second Finish";
    case FrameType::kReset:
      return OnReset(stream, frame);
    case FrameType::kGrant:
      return OnGrant(stream, frame);
    case FrameType::kWritten:
      return OnWritten(stream, frame);
    case FrameType::kRevoke:
      return OnRevoke(stream, frame);
    default:  // kWindow: the header has it
      return nullptr;
  }
}

const char* SessionCore::OnWindow(Stream& stream, uint32_t window) {
  const uint64_t limit = ExpandCount(stream.send_limit_, window);
  if (limit > stream.sent_cost_ + layout_.stream_window) [[unlikely]] {
    return "a window that goes back, or beyond what was agreed";
  }
  if (limit == stream.send_limit_) return nullptr;
  stream.send_limit_ = limit;
  MakeReady(stream);
  return nullptr;
}

const char* SessionCore::OnReset(Stream& stream, const FrameView& frame) {
  const auto reason = Reason::Parse(frame.payload);
  if (!reason) return "a Reset that cannot be read";
  End(stream, StatusOf(*reason, "the peer has reset the stream"));
  return nullptr;
}

}  // namespace nd::transport
