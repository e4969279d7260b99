// Links that come and go.
#include <algorithm>
#include <cassert>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "transport/session/session_core.h"

namespace nd::transport {
namespace {

// How long an Abort may take to leave.
constexpr Duration kAbortTime = std::chrono::seconds(1);

}  // namespace

void SessionCore::AddLink(uint32_t index, uint32_t incarnation,
                          Carrier& carrier) {
  Link& link = links_[index];
  assert(link.state == Link::State::kNone);
  const ConnectionStatistics counters = link.counters;
  link = Link();
  link.counters = counters;
  ++link.counters.begun;
  link.index = index;
  link.incarnation = incarnation;
  link.next_incarnation = incarnation + 1;
  link.state = Link::State::kWaiting;
  link.carrier = &carrier;
  link.credits = layout_.slots;
  link.told = layout_.slots;
  --links_down_;
  for (uint32_t i = 0; i < layout_.slots; ++i) {
    PostReceive(link, TakeFreeSlot());
  }
  if (state_ != State::kOpen) LoseLink(index, end_);
}

void SessionCore::OpenLink(uint32_t index, Instant now) {
  Link& link = links_[index];
  if (link.state != Link::State::kWaiting) return;
  link.state = Link::State::kUp;
  ++link.counters.made;
  link.heard = now;
  all_lost_at_ = Instant::max();
}

void SessionCore::PostReceive(Link& link, ReceiveSlot& slot) {
  link.receives.Push(&slot);
  link.carrier->PostReceive(slot);
}

ReceiveSlot& SessionCore::TakeFreeSlot() {
  assert(!free_slots_.empty());
  ReceiveSlot& slot = *free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

// After a packet: its slot, or another one if it is on loan, is posted again,
// as soon as what answers it has been sent. There is another one, or it would
// not have been loaned (MayLoan).
ABSL_ATTRIBUTE_HOT void SessionCore::ReplaceSlot(Link& link,
                                                 ReceiveSlot& slot) {
  const bool up =
      link.state == Link::State::kUp || link.state == Link::State::kWaiting;
  if (up) {
    link.to_post.Push(slot.loans > 0 ? &TakeFreeSlot() : &slot);
  } else if (slot.loans == 0) {
    free_slots_.push_back(&slot);
  }
}

void SessionCore::PostReceives(Link& link) {
  if (link.state != Link::State::kUp && link.state != Link::State::kWaiting) {
    return;
  }
  for (; !link.to_post.empty(); link.to_post.PopFront()) {
    PostReceive(link, *link.to_post.front());
  }
}

void SessionCore::LoseLink(uint32_t index, absl::Status why) {
  Link& link = links_[index];
  switch (link.state) {
    case Link::State::kNone:
    case Link::State::kDraining:
      return;
    case Link::State::kWaiting:
    case Link::State::kUp:
    case Link::State::kAborting:
      break;
  }
  if (link.state == Link::State::kUp && state_ == State::kOpen) {
    ++link.counters.lost;
  }
  // One whose set-up fails ends nothing that others had not.
  if (link.state != Link::State::kWaiting) last_lost_ = std::move(why);
  link.state = Link::State::kDraining;
  for (Lane& lane : lanes_) {
    if (lane.carrier == &link) lane.carrier = nullptr;
  }
  // What it was to carry to the peer about others goes by another one.
  for (DepartedLink& departed : departed_) {
    if (departed.gone == DepartedLink::Gone::kSent &&
        departed.gone_by == index) {
      departed.gone = DepartedLink::Gone::kDue;
    }
  }
  link.carrier->Shut();
  LoseWrites(index);
}

void SessionCore::OnDrained(uint32_t index) {
  Link& link = links_[index];
  assert(link.state == Link::State::kDraining);
  link.state = Link::State::kNone;
  ++links_down_;
  link.carrier = nullptr;
  for (Fifo<ReceiveSlot*>* const slots : {&link.receives, &link.to_post}) {
    for (; !slots->empty(); slots->PopFront()) {
      free_slots_.push_back(slots->front());
    }
  }
  departed_.push_back({.serial = next_departed_++,
                       .index = index,
                       .incarnation = link.incarnation,
                       .received = link.received,
                       .sent = link.sent,
                       .works = std::exchange(link.works, {}),
                       .peer_received = link.peer_received});
  CheckEnd();
  if (state_ == State::kOpen) events_.OnLinkFree(index);
}

void SessionCore::HearGone(const Gone& gone) {
  if (gone.link >= links_.size()) return;
  for (DepartedLink& departed : departed_) {
    if (departed.index != gone.link ||
        departed.incarnation != gone.incarnation) {
      continue;
    }
    if (!departed.peer_received) departed.peer_received = gone.received;
    return;
  }
  Link& link = links_[gone.link];
  if (link.state != Link::State::kNone &&
      link.incarnation == gone.incarnation) {
    if (!link.peer_received) link.peer_received = gone.received;
    LoseLink(gone.link,
             absl::UnavailableError("the peer says that the link is lost"));
    return;
  }
  // A connection that was never made here: nothing of it has arrived.
  if (gone.incarnation < link.next_incarnation) return;
  link.next_incarnation = gone.incarnation + 1;
  departed_.push_back({.serial = next_departed_++,
                       .index = gone.link,
                       .incarnation = gone.incarnation,
                       .peer_received = gone.received});
}

void SessionCore::SettleAll() {
  for (DepartedLink& departed : departed_) {
    if (departed.settled) continue;
    if (departed.works.empty() || departed.peer_received) Settle(departed);
  }
  std::erase_if(departed_, [](const DepartedLink& departed) {
    return departed.settled && departed.gone == DepartedLink::Gone::kDelivered;
  });
}

// Both ends of a link are no more, and it is known what has arrived.
void SessionCore::Settle(DepartedLink& link) {
  link.settled = true;
  if (link.works.empty()) return;
  uint64_t number = link.sent;  // of the first packet that is not completed
  for (uint64_t i = link.works.begin(); i != link.works.end(); ++i) {
    if (link.works[i].takes_receive) --number;
  }
  const uint64_t arrived = ExpandCount(number, *link.peer_received);
  if (arrived > link.sent) {
    Fail(absl::InternalError(
        absl::StrCat("protocol error of the peer: it says that ",
                     *link.peer_received, " packets came by link ", link.index,
                     ", and ", link.sent, " were sent")));
    return;
  }
  std::array<bool, kMessageClasses> touched{};
  for (; !link.works.empty(); link.works.PopFront()) {
    const LinkWork work = link.works.front();
    const bool came = work.takes_receive && number++ < arrived;
    switch (work.kind) {
      case LinkWork::Kind::kControl:
        break;
      case LinkWork::Kind::kFrames:
        touched[static_cast<size_t>(work.lane)] = true;
        if (came) Confirm(LaneOf(work.lane), work.first + work.count);
        break;
      case LinkWork::Kind::kWrite:
        WriteLost(link.index, work, came);
        break;
      case LinkWork::Kind::kAccess:
        AccessLost(work);
        break;
    }
  }
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (!touched[i]) continue;
    Lane& lane = lanes_[i];
    for (uint64_t n = lane.entries.begin(); n != lane.unsent; ++n) {
      Stream* const stream = lane.entries[n].stream;
      if (stream != nullptr) ++stream->counters_.resent_frames;
      ++lane.counters.resent_frames;
      ++links_[link.index].counters.resent_frames;
    }
    lane.unsent = lane.entries.begin();
  }
}

// One of the class's own links; where none is up, and none is being made or is
// yet to be made for the first time, one of the other class's.
Link* SessionCore::CarrierFor(MessageClass message_class) {
  const std::span<Link> all(links_);
  const auto latency = all.first(layout_.latency_links);
  const auto bulk = all.subspan(layout_.latency_links);
  const bool is_latency = message_class == MessageClass::kLatency;
  const auto own = is_latency ? latency : bulk;
  const auto up = [](std::span<Link> links) -> Link* {
    const auto found = std::ranges::find(links, Link::State::kUp, &Link::state);
    return found == links.end() ? nullptr : &*found;
  };
  if (Link* const link = up(own)) return link;
  const auto comes = [](const Link& link) {
    return link.state == Link::State::kWaiting || link.counters.begun == 0;
  };
  return std::ranges::any_of(own, comes) ? nullptr
                                         : up(is_latency ? bulk : latency);
}

// A lane without a carrier takes one as soon as what it had under way on the
// last one is settled, and keeps it.
void SessionCore::ChooseCarriers() {
  for (size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[i];
    if (lane.carrier != nullptr) continue;
    const auto carried = [i](const Fifo<LinkWork>& works) {
      for (uint64_t n = works.begin(); n != works.end(); ++n) {
        if (works[n].kind == LinkWork::Kind::kFrames &&
            static_cast<size_t>(works[n].lane) == i) {
          return true;
        }
      }
      return false;
    };
    const auto draining = [&carried](const Link& link) {
      return link.state == Link::State::kDraining && carried(link.works);
    };
    const auto unsettled = [&carried](const DepartedLink& link) {
      return !link.settled && carried(link.works);
    };
    if (std::ranges::any_of(links_, draining) ||
        std::ranges::any_of(departed_, unsettled)) {
      continue;
    }
    lane.carrier = CarrierFor(static_cast<MessageClass>(i));
  }
}

ABSL_ATTRIBUTE_HOT void SessionCore::KeepAlive(Instant now) {
  for (Link& link : links_) {
    if (link.state == Link::State::kAborting && now >= link.abort_by) {
      LoseLink(link.index, end_);
    }
    if (link.state != Link::State::kUp || layout_.keepalive.count() == 0) {
      continue;
    }
    const Duration silence = now - link.heard;
    if (silence >= layout_.keepalive / 3 && !link.pinged) link.ping_due = true;
    if (silence >= layout_.keepalive) {
      LoseLink(
          link.index,
          absl::UnavailableError(absl::StrCat(
              "nothing was heard on link ", link.index, " for ",
              std::chrono::duration_cast<std::chrono::milliseconds>(silence)
                  .count(),
              " ms, the keepalive time")));
    }
  }
}

// The peer has broken the protocol: it is told so, and the session ends.
void SessionCore::Violate(Link& link, std::string_view what) {
  if (state_ != State::kOpen) return;
  const absl::Status why =
      absl::InternalError(absl::StrCat("protocol error of the peer, link ",
                                       link.index, ": ", std::string(what)));
  const Reason reason{.code = static_cast<uint32_t>(why.code()), .text = what};
  const bool told = SendControl(link, FrameType::kAbort, reason);
  if (told) {
    link.carrier->Flush();
    link.state = Link::State::kAborting;
    link.abort_by = now_ + kAbortTime;
  }
  Fail(why);
}

void SessionCore::Fail(absl::Status why) {
  if (state_ != State::kOpen) return;
  state_ = State::kEnding;
  end_ = std::move(why);
  for (Link& link : links_) {
    if (link.state != Link::State::kAborting) LoseLink(link.index, end_);
  }
  CheckEnd();
  events_.OnCall();
}

// Nothing comes or goes any more. A link that is being made anew has all its
// time.
bool SessionCore::AllLost() const {
  return std::ranges::all_of(links_, [](const Link& link) {
    return link.state == Link::State::kNone ||
           link.state == Link::State::kDraining;
  });
}

// The end of a session: both have said goodbye, or no link is left that could
// carry anything. Operations end when no device can touch their memory.
void SessionCore::GoTowardsEnd() {
  if (state_ == State::kOpen && leaving_ && !goodbye_sent_) {
    const auto quiet = [](const Lane& lane) {
      return lane.entries.empty() && lane.ready.empty();
    };
    const auto free = [](const Outgoing& transfer) {
      return transfer.state == Outgoing::State::kFree;
    };
    const auto unused = [](const Access& access) { return !access.used; };
    const auto sent = [](const auto& each) {
      return each.second->to_send_.empty();
    };
    if (std::ranges::all_of(lanes_, quiet) &&
        std::ranges::all_of(outgoing_, free) && to_access_.empty() &&
        std::ranges::all_of(accesses_, unused) &&
        std::ranges::all_of(streams_, sent)) {
      goodbye_sent_ = true;
      Entry& entry =
          QueueEntry(nullptr, MessageClass::kLatency, FrameType::kGoodbye);
      ByteWriter out(entry.payload);
      Reason{}.Write(out);
      entry.size = static_cast<uint8_t>(out.written().size());
    }
  }
  if (state_ == State::kOpen && goodbye_sent_ && goodbye_heard_ &&
      LaneOf(MessageClass::kLatency).entries.empty()) {
    Fail(absl::OkStatus());
    return;
  }
  if (state_ == State::kOpen && AllLost()) {
    if (last_lost_.ok()) return;  // none was ever up
    const bool parted = goodbye_sent_ && goodbye_heard_;
    if (all_lost_at_ == Instant::max()) all_lost_at_ = now_;
    if (!parted && now_ < all_lost_at_ + options_.reconnect) return;
    state_ = State::kEnding;
    end_ = parted ? absl::OkStatus() : last_lost_;
  }
  const auto gone = [](const Link& link) {
    return link.state == Link::State::kNone;
  };
  if (state_ == State::kEnding && std::ranges::all_of(links_, gone)) EndAll();
}

void SessionCore::EndAll() {
  state_ = State::kEnded;
  const absl::Status why = EndReason();
  while (Operation* const operation = acceptors_.first()) {
    EndAccept(*operation, why);
  }
  while (Operation* const operation = to_access_.first()) {
    OperationQueue::Remove(*operation);
    Done(*operation, why);
  }
  for (Fifo<Access*>& queue : accessing_) {
    for (; !queue.empty(); queue.PopFront()) continue;
  }
  for (Access& access : accesses_) {
    if (access.used) EndAccess(access, access.end.ok() ? why : access.end);
  }
  for (Lane& lane : lanes_) {
    for (; !lane.entries.empty(); lane.entries.PopFront()) {
      const Entry& entry = lane.entries.front();
      if (entry.operation != nullptr) Done(*entry.operation, why);
      if (entry.stream != nullptr) --entry.stream->references_;
    }
    for (; !lane.ready.empty(); lane.ready.PopFront()) {
      lane.ready.front()->ready_ = false;
    }
    lane.stall.Set(Lack::kNothing, now_);
  }
  write_stall_.Set(Lack::kNothing, now_);
  departed_.clear();
  EndStages();
  for (Outgoing& transfer : outgoing_) {
    if (transfer.state != Outgoing::State::kFree) EndTransfer(transfer, why);
  }
  for (Stream* const stream : want_memory_) stream->memory_wanted_ = false;
  want_memory_.clear();
  for (Stream* const stream : want_access_) stream->access_wanted_ = false;
  want_access_.clear();
  for (auto& [id, stream] : streams_) {
    if (stream->end_.ok()) {
      DropUnsent(*stream, why);
      SetStall(stream->receive_stall_, Lack::kNothing);
      if (end_.ok() && stream->receiving_.EndBehindLast(why)) continue;
      stream->end_ = why;
    }
    stream->receiving_.End(why, true);
  }
  for (Granted& granted : granted_) {
    if (granted.stream == nullptr) continue;
    --granted.stream->references_;
    granted.stream = nullptr;
  }
  std::vector<Stream*> all;
  for (auto& [id, stream] : streams_) all.push_back(stream.get());
  for (Stream* const stream : all) MaybeForget(*stream);
  events_.OnEnded(end_);
}

}  // namespace nd::transport
