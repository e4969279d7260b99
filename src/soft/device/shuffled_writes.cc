#include "soft/device/shuffled_writes.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace nd::soft {

void ShuffledWrites::Begin(const Packet& packet, Instant now) {
  until_ = now + kHeldFor;
  reth_ = packet.reth;
  arrived_ = 0;
  next_ = packet.bth.psn;
}

bool ShuffledWrites::Hold(const Arrival& arrival, RemoteMemory& memory,
                          Random& random) {
  const Packet& packet = arrival.packet;
  const bool of_write = packet.facts().kind == PacketKind::kWrite &&
                        packet.bth.psn == next_ &&
                        packet.facts().first == held_.empty() &&
                        packet.payload.size() <= reth_.length - arrived_;
  if (of_write) {
    PlaceSome(packet, memory, random);
    arrived_ += packet.payload.size();
    next_ = *next_ + packet.packets;
  }
  if (!of_write || packet.facts().last) next_.reset();
  held_.push_back({.path = arrival.path,
                   .packet = packet,
                   .payload = {packet.payload.begin(), packet.payload.end()}});
  return held_.size() < kMaxHeld;
}

void ShuffledWrites::PlaceSome(const Packet& packet, RemoteMemory& memory,
                               Random& random) {
  const auto place = memory.Find({.rkey = reth_.rkey,
                                  .address = reth_.address + arrived_,
                                  .length = packet.payload.size(),
                                  .access = IBV_ACCESS_REMOTE_WRITE});
  if (!place || place->empty()) return;
  for (size_t at = 0; at < packet.payload.size();) {
    const auto address = reinterpret_cast<uintptr_t>(place->data()) + at;
    const size_t size = std::min(kPieceBytes - address % kPieceBytes,
                                 packet.payload.size() - at);
    if (random.OneIn(2)) {
      std::memcpy(place->data() + at, packet.payload.data() + at, size);
    }
    at += size;
  }
}

std::vector<LateArrival> ShuffledWrites::Take() {
  until_.reset();
  return std::exchange(held_, {});
}

}  // namespace nd::soft
