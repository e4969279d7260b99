// Large messages: asked for, granted, written, finished.
#include <algorithm>
#include <bit>
#include <cassert>

#include "absl/strings/str_cat.h"
#include "transport/session/session_core.h"

namespace nd::transport {
namespace {

// Of one RDMA WRITE, at least. A message that fits into one needs no Written
// frame.
constexpr uint64_t kMinChunk = 64 << 10;

// Of one stream, Requests that the peer has not granted. More wait until half
// of them are, and go together then.
constexpr uint32_t kMaxRequests = 8;

// An id is a place among the transfers, and how often it was taken.
constexpr uint32_t kPlaceBits = 8;
constexpr uint32_t PlaceOf(uint32_t id) {
  return id & ((1u << kPlaceBits) - 1);
}

}  // namespace

// Whether the stream's next message has to wait for what is under way.
bool SessionCore::WaitsForTransfer(Stream& stream) {
  if (!stream.requests_full_ && !free_outgoing_.empty()) return false;
  SetStall(stream.send_stall_, Lack::kTransfers);
  if (!stream.requests_full_ && !stream.transfer_wanted_) {
    stream.transfer_wanted_ = true;
    want_transfer_.Push(&stream);
  }
  return true;
}

void SessionCore::StartTransfer(Stream& stream, SendOperation& operation) {
  Outgoing& transfer = outgoing_[free_outgoing_.back()];
  free_outgoing_.pop_back();
  transfer.id += 1u << kPlaceBits;
  transfer.state = Outgoing::State::kRequested;
  transfer.stream = &stream;
  transfer.operation = &operation;
  transfer.size = operation.size();
  ++stream.references_;
  stream.requests_full_ = ++stream.requested_ >= kMaxRequests;
  Queue(stream, FrameType::kRequest,
        Request{.transfer = transfer.id, .size = transfer.size});
}

void SessionCore::RequestAnswered(Stream& stream) {
  assert(stream.requested_ > 0);
  if (--stream.requested_ > kMaxRequests / 2) return;
  if (std::exchange(stream.requests_full_, false)) MakeReady(stream);
}

SessionCore::Outgoing* SessionCore::FindOutgoing(uint32_t id) {
  const uint32_t place = PlaceOf(id);
  if (place >= outgoing_.size()) return nullptr;
  Outgoing& transfer = outgoing_[place];
  const bool found =
      transfer.state != Outgoing::State::kFree && transfer.id == id;
  return found ? &transfer : nullptr;
}

// The memory that the message comes from, with keys.
absl::Status SessionCore::PrepareSource(Outgoing& transfer) {
  transfer.pieces.clear();
  for (const SendPiece& piece : transfer.operation->pieces()) {
    if (piece.bytes.empty()) continue;
    LocalPiece local{.data = const_cast<std::byte*>(piece.bytes.data()),
                     .length = piece.bytes.size(),
                     .lkey = piece.lkey};
    if (!piece.registered && !transfer.staged) {
      const absl::StatusOr<Registered> source =
          memory_.RegisterSource(piece.bytes);
      if (source.ok()) {
        transfer.registered.push_back(*source);
        local = source->local;
      } else if (MakeStages().ok()) {
        transfer.staged = true;
      } else {
        return source.status();
      }
    }
    transfer.pieces.push_back(local);
  }
  return absl::OkStatus();
}

// The rest of the piece that the next WRITE begins in.
LocalPiece SessionCore::NextPiece(const Outgoing& transfer) const {
  uint64_t begin = 0;
  const LocalPiece* piece = transfer.pieces.data();
  while (transfer.written - begin >= piece->length) begin += (piece++)->length;
  const uint64_t within = transfer.written - begin;
  return {.data = piece->data + within,
          .length = piece->length - within,
          .lkey = piece->lkey};
}

const char* SessionCore::OnGrant(Stream& stream, const FrameView& frame) {
  const auto grant = Grant::Parse(frame.payload);
  if (!grant) return "a Grant that cannot be read";
  Outgoing* const transfer = FindOutgoing(grant->transfer);
  if (transfer == nullptr || transfer->stream != &stream) {
    return nullptr;  // given up: the peer will hear of it, or has
  }
  if (transfer->state == Outgoing::State::kEnded) return nullptr;
  if (transfer->state != Outgoing::State::kRequested ||
      grant->size != transfer->size) {
    return "a Grant that was not asked for";
  }
  transfer->grant = *grant;
  transfer->written = 0;
  transfer->used = transfer->unmarked = transfer->marked = 0;
  transfer->revoked = transfer->lost = false;
  if (transfer->pieces.empty()) {
    if (absl::Status prepared = PrepareSource(*transfer); !prepared.ok()) {
      GiveUp(*transfer, std::move(prepared));
      return nullptr;
    }
  }
  transfer->state = Outgoing::State::kWriting;
  RequestAnswered(stream);
  size_t links = 0;
  for (uint32_t i = layout_.latency_links; i < layout_.links(); ++i) {
    links += links_[i].state == Link::State::kUp ? 1 : 0;
  }
  const uint64_t share = transfer->size / std::max<size_t>(links, 1) + 1;
  transfer->chunk = std::clamp((share + 63) / 64 * 64, kMinChunk, kMaxChunk);
  transfer->by_immediate = !layout_.digest && !transfer->staged &&
                           transfer->pieces.size() == 1 &&
                           transfer->size <= transfer->chunk;
  GoOn(*transfer);
  return nullptr;
}

// Brings a transfer to where it can do its next step.
void SessionCore::GoOn(Outgoing& transfer) {
  if (transfer.state != Outgoing::State::kWriting) return;
  if (!transfer.end.ok()) {
    if (transfer.in_flight == 0)
      SayWritten(transfer, WrittenStatus::kCancelled);
    return;
  }
  if (transfer.revoked || transfer.lost) {
    // To be granted again, and written from the start.
    if (transfer.in_flight > 0) return;
    if (transfer.lost) {
      ++transfer.stream->counters_.rewritten_messages;
      ++LaneOf(transfer.stream->message_class()).counters.rewritten_messages;
    }
    return SayWritten(transfer, WrittenStatus::kRevoked);
  }
  const bool more = transfer.written < transfer.size;
  if (more || transfer.unmarked != 0) {
    // A mark is behind all that its link carries.
    const bool waits = transfer.staged &&
                       (more ? FreeStage() == nullptr : HasUnposted(transfer));
    if (waits || transfer.queued) return;
    transfer.queued = true;
    writing_.Push(&transfer);
  } else if (transfer.in_flight == 0 && !transfer.by_immediate) {
    SayWritten(transfer, WrittenStatus::kDone);
  }
}

// WRITEs that this link has carried may not be seen by the peer: IBA promises
// that for what a later SEND or immediate of the same connection tells of.
void SessionCore::LoseWrites(uint32_t link) {
  for (Outgoing& transfer : outgoing_) {
    if (transfer.state != Outgoing::State::kWriting) continue;
    if ((transfer.used >> link & 1) == 0) continue;
    // One that is a single WRITE is lost or not: the peer will tell.
    if (transfer.by_immediate) continue;
    transfer.lost = true;
    GoOn(transfer);
  }
}

// The last word about what was granted. Unless it is to be granted again, the
// transfer ends when the word has arrived.
void SessionCore::SayWritten(Outgoing& transfer, WrittenStatus status) {
  uint32_t digest = 0;
  if (layout_.digest && status == WrittenStatus::kDone) {
    for (const LocalPiece& piece : transfer.pieces) {
      digest = Crc32c({piece.data, piece.length}, digest);
    }
  }
  transfer.state = status == WrittenStatus::kRevoked
                       ? Outgoing::State::kRequested
                       : Outgoing::State::kEnded;
  if (status == WrittenStatus::kRevoked) ++transfer.stream->requested_;
  Queue(*transfer.stream, FrameType::kWritten,
        Written{.transfer = transfer.id,
                .status = status,
                .digest = digest,
                .links = std::exchange(transfer.marked, 0)});
}

// The transfer is over and its memory the application's again.
void SessionCore::EndTransfer(Outgoing& transfer, absl::Status status) {
  assert(transfer.in_flight == 0 || state_ == State::kEnded);
  Stream& stream = *transfer.stream;
  for (const Registered& each : transfer.registered) memory_.Unregister(each);
  transfer.registered.clear();
  transfer.pieces.clear();
  transfer.in_flight = 0;
  transfer.staged = transfer.by_immediate = false;
  transfer.end = absl::OkStatus();
  transfer.revoked = false;
  transfer.state = Outgoing::State::kFree;
  free_outgoing_.push_back(PlaceOf(transfer.id));
  if (SendOperation* const operation =
          std::exchange(transfer.operation, nullptr)) {
    if (status.ok()) CountSent(stream, *operation, transfer.size);
    Done(*operation, std::move(status));
  }
  transfer.stream = nullptr;
  Unreference(stream);
  if (state_ == State::kEnded || want_transfer_.empty()) return;
  Stream& waiting = *want_transfer_.front();
  want_transfer_.PopFront();
  waiting.transfer_wanted_ = false;
  MakeReady(waiting);
  MaybeForget(waiting);
}

// The message will not be sent. Where nothing of it is on the wire, its
// operation ends now.
void SessionCore::GiveUp(Outgoing& transfer, absl::Status why) {
  switch (transfer.state) {
    case Outgoing::State::kFree:
    case Outgoing::State::kEnded:
      return;
    case Outgoing::State::kRequested:
      Done(*std::exchange(transfer.operation, nullptr), why);
      transfer.end = std::move(why);
      RequestAnswered(*transfer.stream);
      SayWritten(transfer, WrittenStatus::kCancelled);
      return;
    case Outgoing::State::kWriting:
      if (!transfer.end.ok()) return;
      transfer.end = std::move(why);
      GoOn(transfer);
      return;
  }
}

const char* SessionCore::OnRevoke(Stream& stream, const FrameView& frame) {
  const auto revoke = Revoke::Parse(frame.payload);
  if (!revoke) return "a Revoke that cannot be read";
  Outgoing* const transfer = FindOutgoing(revoke->transfer);
  // What has just been written needs no answer: the word of that is under way.
  if (transfer == nullptr || transfer->state != Outgoing::State::kWriting) {
    return nullptr;
  }
  if (transfer->stream != &stream) return "a Revoke of another stream's grant";
  if (transfer->by_immediate && transfer->written == transfer->size) {
    return nullptr;
  }
  transfer->revoked = true;
  GoOn(*transfer);
  return nullptr;
}

// A link with room for a WRITE, or READ: the bulk class's in turn, or any.
Link* SessionCore::LinkForWrite(bool immediate, bool read) {
  const auto usable = [=](const Link& link) {
    return link.MayPost(read) && (!immediate || link.CanSend(true));
  };
  const uint32_t begin = layout_.latency_links;
  const uint32_t count = layout_.bulk_links;
  bool any_bulk = false;
  for (uint32_t i = 0; i < count; ++i) {
    Link& link = links_[begin + (next_write_link_ + i) % count];
    any_bulk = any_bulk || link.state == Link::State::kUp;
    if (!usable(link)) continue;
    next_write_link_ = (link.index - begin + 1) % count;
    return &link;
  }
  if (any_bulk) return nullptr;
  const auto found = std::ranges::find_if(links_, usable);
  return found == links_.end() ? nullptr : &*found;
}

// Why its link does not take the next mark of a transfer.
Lack SessionCore::WhyNoMark(const Outgoing& transfer) const {
  const int unmarked = std::countr_zero(transfer.unmarked);
  return links_[static_cast<size_t>(unmarked)].WhyNotSend();
}

// Why no link takes a WRITE.
Lack SessionCore::WhyNoWrite() const {
  Lack lack = Lack::kConnection;
  for (const Link& link : links_) {
    if (!TakesWrites(link)) continue;
    if (link.MayPost(false)) return Lack::kCredit;
    lack = Lack::kDepth;
  }
  return lack;
}

bool SessionCore::TakesWrites(const Link& link) const {
  if (link.state != Link::State::kUp) return false;
  if (link.index >= layout_.latency_links) return true;
  const auto bulk = std::span(links_).subspan(layout_.latency_links);
  return std::ranges::none_of(
      bulk, [](const Link& each) { return each.state == Link::State::kUp; });
}

void SessionCore::StallWrites(Lack lack) {
  if (!write_stall_.Set(lack, now_)) return;
  for (Link& link : links_) {
    if (TakesWrites(link)) link.CountStall(lack);
  }
}

void SessionCore::WriteTransfers() {
  do {
    if (!WriteStages()) return StallWrites(WhyNoWrite());
    while (!writing_.empty()) {
      Outgoing& transfer = *writing_.front();
      const bool goes_on =
          transfer.state == Outgoing::State::kWriting && transfer.goes_on();
      const bool more = transfer.written < transfer.size;
      if (goes_on && !(more ? WriteNext(transfer) : WriteMark(transfer))) {
        return StallWrites(more ? WhyNoWrite() : WhyNoMark(transfer));
      }
      writing_.PopFront();
      transfer.queued = false;
      if (goes_on) GoOn(transfer);
    }
  } while (AnyStage(Stage::State::kCopied));
  write_stall_.Set(Lack::kNothing, now_);
}

// Posts the next WRITE of a transfer. False where no link has room.
bool SessionCore::WriteNext(Outgoing& transfer) {
  if (transfer.staged) {
    StageNext(transfer);
    return true;
  }
  Link* const link = LinkForWrite(transfer.by_immediate, false);
  if (link == nullptr) return false;
  LocalPiece from = NextPiece(transfer);
  from.length = std::min<uint64_t>(
      {transfer.chunk, from.length, link->carrier->max_write()});
  std::optional<uint32_t> immediate;
  if (transfer.by_immediate) {
    immediate =
        WrittenImmediate{.slot = static_cast<uint16_t>(transfer.grant.slot),
                         .transfer = transfer.id}
            .Encode();
  } else {
    transfer.unmarked |= 1u << link->index;
  }
  const uint64_t offset = transfer.written;
  transfer.written += from.length;
  PostWrite(transfer, *link, from, offset, immediate);
  return true;
}

// Behind the WRITEs of a link, an empty one whose immediate says that they are
// there. False where the link cannot take it yet.
bool SessionCore::WriteMark(Outgoing& transfer) {
  if (transfer.unmarked == 0) return true;
  Link& link = links_[static_cast<size_t>(std::countr_zero(transfer.unmarked))];
  if (!link.CanSend(true)) return false;
  transfer.unmarked &= transfer.unmarked - 1;
  const LocalPiece& any =
      transfer.staged ? stages_[0].memory : transfer.pieces[0];
  PostWrite(transfer, link, {.data = any.data, .length = 0, .lkey = any.lkey},
            0,
            WrittenImmediate{.slot = static_cast<uint16_t>(transfer.grant.slot),
                             .transfer = transfer.id,
                             .mark = true}
                .Encode());
  return true;
}

void SessionCore::PostWrite(Outgoing& transfer, Link& link,
                            const LocalPiece& from, uint64_t offset,
                            std::optional<uint32_t> immediate, uint8_t staged) {
  if (immediate) ++link.sent;
  link.counters.bytes_written += from.length;
  transfer.used |= 1u << link.index;
  ++transfer.in_flight;
  ++link.counters.writes;
  link.carrier->Write(
      link.works.end(), from,
      {.address = transfer.grant.address + offset, .rkey = transfer.grant.rkey},
      immediate, true);
  link.works.Push({.kind = LinkWork::Kind::kWrite,
                   .takes_receive = immediate.has_value(),
                   .mark = from.length == 0,
                   .transfer = PlaceOf(transfer.id),
                   .staged = staged,
                   .count = from.length});
  link.unsignaled = 0;
}

void SessionCore::WriteDone(uint32_t link, const LinkWork& work) {
  if (work.staged != 0) LeaveStage(stages_[work.staged - 1]);
  Outgoing& transfer = outgoing_[work.transfer];
  if (transfer.state != Outgoing::State::kWriting) return;
  --transfer.in_flight;
  if (work.mark) transfer.marked |= 1u << link;
  if (transfer.by_immediate) {
    EndTransfer(transfer, absl::OkStatus());
  } else {
    GoOn(transfer);
  }
}

void SessionCore::WriteLost(uint32_t link, const LinkWork& work, bool came) {
  if (came) return WriteDone(link, work);
  if (work.staged != 0) LeaveStage(stages_[work.staged - 1]);
  Outgoing& transfer = outgoing_[work.transfer];
  if (transfer.state != Outgoing::State::kWriting) return;
  --transfer.in_flight;
  transfer.lost = true;
  GoOn(transfer);
}

// --- the receiver's half ---

bool SessionCore::GrantTransfer(Stream& stream, uint64_t record,
                                const Registered& memory,
                                const ReceiveSide::Transfer& transfer) {
  if (free_granted_.empty()) return false;
  const uint32_t slot = free_granted_.back();
  free_granted_.pop_back();
  granted_[slot] = {.stream = &stream,
                    .record = record,
                    .transfer = transfer.id,
                    .memory = memory,
                    .size = transfer.size};
  ++stream.references_;
  Queue(stream, FrameType::kGrant,
        Grant{.transfer = transfer.id,
              .slot = slot,
              .address = reinterpret_cast<uintptr_t>(memory.local.data),
              .rkey = memory.rkey,
              .size = transfer.size});
  return true;
}

SessionCore::Granted* SessionCore::FindGranted(const Stream& stream,
                                               uint64_t record) {
  const auto found = std::ranges::find_if(granted_, [&](const Granted& each) {
    return each.stream == &stream && each.record == record;
  });
  return found == granted_.end() ? nullptr : &*found;
}

void SessionCore::RevokeTransfer(Stream& stream, uint64_t record) {
  const Granted* const granted = FindGranted(stream, record);
  if (granted == nullptr) return;
  Queue(stream, FrameType::kRevoke, Revoke{.transfer = granted->transfer});
}

// The peer has ended a transfer; it is not granted any more.
Stream& SessionCore::TakeGrantBack(Granted& granted) {
  Stream& stream = *std::exchange(granted.stream, nullptr);
  free_granted_.push_back(static_cast<uint32_t>(&granted - granted_.data()));
  if (!want_memory_.empty()) retry_memory_ = true;
  return stream;
}

const char* SessionCore::OnWritten(Stream& stream, const FrameView& frame) {
  const auto written = Written::Parse(frame.payload);
  if (!written) return "a Written that cannot be read";
  const auto found = std::ranges::find_if(granted_, [&](const Granted& each) {
    return each.stream == &stream && each.transfer == written->transfer;
  });
  if (found == granted_.end()) {
    // Given up before it was granted.
    if (written->status == WrittenStatus::kCancelled &&
        stream.receiving_.CancelRequest(written->transfer)) {
      return nullptr;
    }
    return "a Written that no grant waits for";
  }
  found->written = *written;
  return EndGrant(*found);
}

// Ends a grant once the word about it and all marks that it names are here:
// then what was written is visible, and nothing more of it comes.
const char* SessionCore::EndGrant(Granted& granted) {
  const Written written = *granted.written;
  if ((granted.marked & written.links) != written.links) return nullptr;
  if (layout_.digest && written.status == WrittenStatus::kDone &&
      Crc32c({granted.memory.local.data, static_cast<size_t>(granted.size)}) !=
          written.digest) {
    return "the digest of a large message is wrong";
  }
  const uint64_t record = granted.record;
  Stream& stream = TakeGrantBack(granted);
  switch (written.status) {
    case WrittenStatus::kDone:
      stream.receiving_.OnWritten(record);
      break;
    case WrittenStatus::kCancelled:
      stream.receiving_.OnCancelled(record);
      break;
    case WrittenStatus::kRevoked:
      stream.receiving_.OnRevoked(record);
      break;
  }
  stream.AfterReceive();
  Unreference(stream);
  return nullptr;
}

void SessionCore::OnImmediate(uint32_t index, uint32_t immediate, Instant now) {
  Link& link = links_[index];
  ReceiveSlot* const slot = TakeReceive(link, now);
  if (slot == nullptr) return;
  ++link.received;
  ReplaceSlot(link, *slot);
  const WrittenImmediate written = WrittenImmediate::Decode(immediate);
  const auto waits = [&](const Granted& each) {
    return each.stream != nullptr && (written.mark || !layout_.digest) &&
           (each.transfer & WrittenImmediate::kTransferMask) ==
               written.transfer;
  };
  if (written.slot >= granted_.size() || !waits(granted_[written.slot])) {
    return Violate(link, "an immediate that no grant waits for");
  }
  Granted& granted = granted_[written.slot];
  if (written.mark) {
    granted.marked |= 1u << index;
    if (!granted.written) return;
  } else {
    granted.written = Written{};
  }
  if (const char* const fault = EndGrant(granted)) Violate(link, fault);
}

}  // namespace nd::transport
