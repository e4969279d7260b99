#include "soft/sim/network.h"

#include <utility>

namespace nd::soft {

void SimNetwork::Send(Instant now, Datagram datagram) {
  ++sent_;
  if (!Reaches(datagram) || random_.WithProbability(options_.loss)) return;
  if (random_.WithProbability(options_.duplicate)) Carry(now, datagram);
  if (random_.WithProbability(options_.corrupt)) Corrupt(datagram);
  Carry(now, std::move(datagram));
}

bool SimNetwork::Reaches(const Datagram& datagram) const {
  if (cut_) return false;
  return datagram.source == datagram.destination ||
         (!cut_off_.contains(datagram.source) &&
          !cut_off_.contains(datagram.destination));
}

void SimNetwork::Carry(Instant now, Datagram datagram) {
  Duration delay = options_.delay;
  if (random_.WithProbability(options_.reorder)) {
    delay += Duration(random_.Below(options_.straggle.count() + 1));
  }
  in_flight_.emplace(now + delay, std::move(datagram));
}

void SimNetwork::Corrupt(Datagram& datagram) {
  const uint64_t bit = random_.Below(datagram.bytes.size() * 8);
  // The congestion bits are not covered by the ICRC, rightly so.
  if (bit / 8 == 4) return;
  datagram.bytes[bit / 8] ^= std::byte{1} << (bit % 8);
  datagram.corrupted = true;
}

std::optional<Instant> SimNetwork::NextArrival() const {
  if (in_flight_.empty()) return std::nullopt;
  return in_flight_.begin()->first;
}

Datagram SimNetwork::Take() {
  return std::move(in_flight_.extract(in_flight_.begin()).mapped());
}

}  // namespace nd::soft
