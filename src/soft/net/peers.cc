#include "soft/net/peers.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "absl/base/attributes.h"

namespace nd::soft {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// How long a slot that nobody had is taken to be free still.
constexpr Duration kAbsence = milliseconds(10);
// How long to do without a ring that could not be made.
constexpr Duration kWithoutRing = seconds(1);
// How long a full queue of datagrams is left alone.
constexpr Duration kBusy = milliseconds(1);
// How long a peer may have no room before it is taken for dead: its process is
// stopped, or is gone and has left its descriptors to a child.
constexpr Duration kPatience = seconds(2);
// How often to look meanwhile. Who looks later than that has not run, and the
// peer perhaps neither: the time begins anew.
constexpr Duration kLookAtFull = milliseconds(100);
constexpr Duration kTooLate = 2 * kLookAtFull;
// How long after a peer's ring hung up its process may still be about to die,
// and how often to look.
constexpr Duration kDying = seconds(1);
constexpr Duration kLookEvery = milliseconds(5);
// Packets that vanish at a time.
constexpr size_t kRoomOfNobody = 16;

}  // namespace

Peers::Peer& Peers::PeerAt(uint32_t slot) {
  auto& peer = peers_[slot % peers_.size()];
  if (peer == nullptr) [[unlikely]]
    peer = std::make_unique<Peer>();
  return *peer;
}

Peers::Way Peers::WayTo(uint32_t slot, Peer& peer, Instant now) {
  if (peer.link.has_value()) [[likely]]
    return Way::kRing;
  if (now < peer.absent_until) return Way::kNone;
  if (now < peer.busy_until) return Way::kBusy;
  if (now < peer.datagrams_until) return Way::kDatagrams;
  return Connect(slot, peer, now);
}

Peers::Way Peers::Connect(uint32_t slot, Peer& peer, Instant now) {
  const auto without_ring = [&peer, now] {
    peer.datagrams_until = now + kWithoutRing;
    return Way::kDatagrams;
  };
  if (links_ >= max_links_) return without_ring();
  auto link = OutboundLink::Create(ring_bytes_);
  if (!link.ok()) return without_ring();
  const EventToken token{.kind = EventToken::Kind::kOutbound, .number = slot};
  if (!events_.Add(link->bell().fd(), token).ok()) return without_ring();
  const auto offer = link->offer();
  if (const int error = socket_.SendTo(names_.Slot(slot), kLinkOffer, offer);
      error != 0) {
    events_.Remove(link->bell().fd());
    return OnSendError(slot, peer, error, now);
  }
  link->CloseOffer();
  peer.link.emplace(*std::move(link));
  peer.ends = {};
  ++links_;
  return Way::kRing;
}

Peers::Way Peers::OnSendError(uint32_t slot, Peer& peer, int error,
                              Instant now) {
  switch (error) {
    case EAGAIN:
    case ENOBUFS:
      peer.busy_until = now + kBusy;
      RetryAt(peer.busy_until);
      return Way::kBusy;
    case EMFILE:
    case ENOMEM:
    case ETOOMANYREFS:  // descriptors on their way to slow receivers
      peer.datagrams_until = now + kWithoutRing;
      return Way::kDatagrams;
    case ECONNREFUSED:
      gone_.push_back(slot);
      RetryAt(now);
      [[fallthrough]];
    default:
      peer.absent_until = now + kAbsence;
      return Way::kNone;
  }
}

ABSL_ATTRIBUTE_HOT size_t Peers::Room(uint32_t slot, Instant now) {
  Peer& peer = PeerAt(slot);
  const Way way = WayTo(slot, peer, now);
  if (const size_t room = RoomOn(way, peer); room > 0) [[likely]] {
    peer.full_since.reset();
    return room;
  }
  if (!peer.full_since.has_value() || now - peer.full_seen > kTooLate) {
    peer.full_since = now;
  }
  peer.full_seen = now;
  if (now - *peer.full_since >= kPatience) return kRoomOfNobody;
  RetryAt(way == Way::kBusy ? peer.busy_until : now + kLookAtFull);
  return 0;
}

BurstBytes Peers::Bursts(uint32_t slot) const {
  const auto& peer = peers_[slot % peers_.size()];
  if (peer == nullptr || !peer->link.has_value()) return {};
  const size_t copied = copied_burst_bytes_;
  const bool lent = copied > 0 &&
                    (lends_ == Lends::kToAll || peer->race.lends()) &&
                    peer->link->ring().fetches();
  return {.copied = copied, .lent = lent ? kMaxLentBytes : 0};
}

void Peers::RetryAt(Instant at) {
  retry_at_ = std::min(retry_at_.value_or(at), at);
}

size_t Peers::RoomOn(Way way, Peer& peer) {
  switch (way) {
    case Way::kRing:
      return peer.link->ring().HasRoom(FrameBytesOf(ring_bytes_)) ? 1 : 0;
    case Way::kDatagrams:
      return 1;
    case Way::kBusy:
      return 0;
    case Way::kNone:
      return kRoomOfNobody;
  }
  return 0;
}

ABSL_ATTRIBUTE_HOT bool Peers::Send(uint32_t slot, Instant now,
                                    const FrameHeader& header,
                                    const PacketSource& packet) {
  Peer& peer = PeerAt(slot);
  switch (WayTo(slot, peer, now)) {
    case Way::kRing: {
      const bool same = peer.ends.AreOf(header.path);
      const size_t header_bytes =
          same ? FrameHeader::kShortSize : FrameHeader::kSize;
      const auto record =
          peer.link->ring().Reserve(header_bytes + packet.size());
      if (record.empty()) [[unlikely]]
        return false;
      WriteFrame(header, packet, record);
      peer.link->ring().Commit();
      if (!same) {
        peer.ends = {header.path.source, header.path.destination, true};
      }
      if (!peer.unpublished) unpublished_.push_back(slot);
      peer.unpublished = true;
      if (packet.payload_bytes() >= copied_burst_bytes_) {
        TellRace(peer, packet, now);
      }
      return true;
    }
    case Way::kDatagrams:
      return SendDatagram(slot, peer, now, header, packet);
    case Way::kBusy:
      return false;
    case Way::kNone:
      ++counters_.dropped_no_peer;
      return true;
  }
  return false;
}

// Of what could be lent, most goes in bursts that are as large as can be.
void Peers::TellRace(Peer& peer, const PacketSource& packet, Instant now) {
  if (!peer.link->ring().fetches()) return peer.race.Disturb();
  peer.race.OnSent(packet.payload_bytes(), now);
}

bool Peers::SendDatagram(uint32_t slot, Peer& peer, Instant now,
                         const FrameHeader& header,
                         const PacketSource& packet) {
  std::array<std::byte, kMaxFrameBytes> buffer;
  const auto frame =
      std::span(buffer).first(FrameHeader::kSize + packet.size());
  WriteFrame(header, packet, frame);
  const int error = socket_.SendTo(names_.Slot(slot), frame);
  if (error == 0) return true;
  if (OnSendError(slot, peer, error, now) == Way::kBusy) return false;
  ++counters_.dropped_no_peer;
  return true;
}

ABSL_ATTRIBUTE_HOT void Peers::Flush() {
  for (const uint32_t slot : unpublished_) {
    Peer& peer = PeerAt(slot);
    peer.unpublished = false;
    if (peer.link.has_value() && peer.link->ring().Publish()) {
      peer.link->bell().Ring();
    }
  }
  unpublished_.clear();
}

void Peers::OnBell(uint32_t slot, bool hung_up, Instant now) {
  Peer& peer = PeerAt(slot);
  if (!peer.link.has_value()) return;
  if (peer.link->bell().Silence() && !hung_up) return;
  // It may have had no descriptors to take the link with.
  if (!peer.link->ring().consumed()) {
    peer.datagrams_until = now + kWithoutRing;
  }
  DropLink(peer);
  suspects_.push_back({.slot = slot, .until = now + kDying});
  LookAtSuspects(now);
}

// The name of a process that dies may outlast its rings for a moment. That of
// one that lives on stays: it has no room for the ring, or found it broken.
void Peers::LookAtSuspects(Instant now) {
  std::erase_if(suspects_, [this, now](const Suspect& suspect) {
    const bool exists = UnixSocket::Exists(names_.Slot(suspect.slot));
    if (!exists) gone_.push_back(suspect.slot);
    return !exists || now >= suspect.until;
  });
  if (!suspects_.empty()) RetryAt(now + kLookEvery);
}

void Peers::DropLink(Peer& peer) {
  events_.Remove(peer.link->bell().fd());
  peer.link.reset();
  --links_;
}

void Peers::OnTime(Instant now) {
  if (!retry_at_.has_value() || now < *retry_at_) [[likely]]
    return;
  retry_at_.reset();
  LookAtSuspects(now);
}

}  // namespace nd::soft
