#include "soft/device/shuffled_payload.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace nd::soft {
namespace {

void PlacePieces(std::span<const std::byte> bytes, std::byte* place,
                 Random& random) {
  for (size_t at = 0; at < bytes.size();) {
    const auto address = reinterpret_cast<uintptr_t>(place) + at;
    const size_t size = std::min(
        ShuffledPayload::kPieceBytes - address % ShuffledPayload::kPieceBytes,
        bytes.size() - at);
    if (random.OneIn(2)) std::memcpy(place + at, bytes.data() + at, size);
    at += size;
  }
}

void PlaceSome(std::span<const std::byte> bytes, const Slice& place,
               Random& random) {
  Slice there = place;
  there.length = std::min(bytes.size(), place.length);
  ForEachPiece(there, [&](Segment piece) {
    PlacePieces(bytes.first(piece.size()), piece.data(), random);
    bytes = bytes.subspan(piece.size());
  });
}

}  // namespace

void ShuffledPayload::Begin(const Packet& packet, Instant now) {
  until_ = now + kHeldFor;
  kind_ = packet.facts().kind;
  reth_ = packet.reth;
  arrived_ = 0;
  next_ = packet.bth.psn;
}

bool ShuffledPayload::GoesOn(const Packet& packet) const {
  if (packet.facts().kind != kind_ || packet.bth.psn != next_ ||
      packet.facts().first != held_.empty()) {
    return false;
  }
  return kind_ != PacketKind::kWrite ||
         packet.payload.size() <= reth_.length - arrived_;
}

bool ShuffledPayload::Hold(const Arrival& arrival, const Slice& place,
                           Random& random) {
  const Packet& packet = arrival.packet;
  const bool goes_on = GoesOn(packet);
  if (goes_on) {
    PlaceSome(packet.payload, place, random);
    arrived_ += packet.payload.size();
    next_ = *next_ + packet.packets;
  }
  if (!goes_on || packet.facts().last) next_.reset();
  held_.push_back({.path = arrival.path,
                   .packet = packet,
                   .payload = {packet.payload.begin(), packet.payload.end()}});
  return held_.size() < kMaxHeld;
}

std::vector<LateArrival> ShuffledPayload::Take() {
  until_.reset();
  return std::exchange(held_, {});
}

}  // namespace nd::soft
