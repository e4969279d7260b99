#include "soft/net/faulty_network.h"

#include <algorithm>
#include <utility>

#include "soft/wire/burst.h"

namespace nd::soft {

class FaultyNetwork::Sink final : public ArrivalSink {
 public:
  Sink(FaultyNetwork& network, ArrivalSink& sink)
      : network_(network), sink_(sink) {}
  void OnArrival(const Arrival& arrival) override {
    network_.OnArrival(arrival, sink_);
  }
  void OnPeerGone(uint32_t slot) override { sink_.OnPeerGone(slot); }
  bool has_enough() const override { return sink_.has_enough(); }

 private:
  FaultyNetwork& network_;
  ArrivalSink& sink_;
};

void FaultyNetwork::Send(const Path& path, const Outgoing& outgoing) {
  if (!IsPortDown(spec_, now_ - start_)) return network_->Send(path, outgoing);
  counters_.port_down += outgoing.packet.packets;
}

size_t FaultyNetwork::Receive(Instant now, ArrivalSink& sink) {
  now_ = now;
  size_t late = DeliverLate(sink);
  if (overtaken_ && overtaken_until_ <= now) late += DeliverOvertaken(sink);
  Sink faulty(*this, sink);
  return late + network_->Receive(now, faulty);
}

std::optional<Instant> FaultyNetwork::NextDeadline() const {
  std::optional<Instant> next = network_->NextDeadline();
  const auto consider = [&next](Instant other) {
    if (!next || other < *next) next = other;
  };
  if (!late_.empty()) consider(late_.begin()->first);
  if (overtaken_) consider(overtaken_until_);
  return next;
}

// The same number of draws for each packet: a kind that is switched off changes
// nothing about the others.
FaultyNetwork::Fate FaultyNetwork::Draw() {
  const bool drop = random_.WithProbability(spec_.drop);
  const bool corrupt = random_.WithProbability(spec_.corrupt);
  const bool duplicate = random_.WithProbability(spec_.duplicate);
  const bool delay = random_.WithProbability(spec_.delay.probability);
  const bool reorder = random_.WithProbability(spec_.reorder);
  if (drop) return Fate::kDrop;
  if (corrupt) return Fate::kCorrupt;
  if (duplicate) return Fate::kDuplicate;
  if (delay) return Fate::kDelay;
  return reorder && !overtaken_ ? Fate::kReorder : Fate::kArrive;
}

void FaultyNetwork::OnArrival(const Arrival& arrival, ArrivalSink& sink) {
  if (IsPortDown(spec_, now_ - start_)) {
    counters_.port_down += arrival.packet.packets;
  } else if (arrival.packet.far != nullptr) {
    OnFarBurst(arrival, sink);
  } else if (IsBurst(arrival.packet)) {
    OnBurst(arrival, sink);
  } else {
    Meet(Draw(), arrival, sink);
  }
}

void FaultyNetwork::OnFarBurst(const Arrival& burst, ArrivalSink& sink) {
  fetched_.resize(burst.packet.far->size());
  const std::span<std::byte> fetched(fetched_);
  if (!burst.packet.far->CopyTo({&fetched, 1})) return;
  Packet near = burst.packet;
  near.far = nullptr;
  near.payload = fetched;
  OnBurst({.path = burst.path, .packet = near}, sink);
}

// Those between two faults still come together.
void FaultyNetwork::OnBurst(const Arrival& burst, ArrivalSink& sink) {
  const auto meet = [&](Fate fate, uint8_t begin, uint8_t end) {
    if (begin == end) return;
    const Packet part =
        PartOfBurst(burst.packet, begin, static_cast<uint8_t>(end - begin));
    Meet(fate, {.path = burst.path, .packet = part}, sink);
  };
  uint8_t begin = 0;
  for (uint8_t i = 0; i < burst.packet.packets; ++i) {
    const Fate fate = Draw();
    // One that was overtaken comes behind the next packet, and before others.
    if (fate == Fate::kArrive && !overtaken_) continue;
    meet(Fate::kArrive, begin, i);
    meet(fate, i, i + 1);
    begin = i + 1;
  }
  meet(Fate::kArrive, begin, burst.packet.packets);
}

void FaultyNetwork::Meet(Fate fate, const Arrival& arrival, ArrivalSink& sink) {
  switch (fate) {
    case Fate::kArrive:
      return Deliver(arrival, sink);
    case Fate::kDrop:
      ++counters_.dropped;
      return;
    case Fate::kCorrupt:
      ++counters_.corrupted;
      return;
    case Fate::kDuplicate:
      ++counters_.duplicated;
      Deliver(arrival, sink);
      return Deliver(arrival, sink);
    case Fate::kDelay:
      return Hold(arrival, now_ + spec_.delay.by);
    case Fate::kReorder:
      ++counters_.reordered;
      overtaken_ = Keep(arrival);
      overtaken_until_ = now_ + kMaxOvertaking;
      return;
  }
}

void FaultyNetwork::Hold(const Arrival& arrival, Instant until) {
  if (late_.size() >= kMaxHeld) {
    ++counters_.held_too_many;
    return;
  }
  ++counters_.delayed;
  late_.emplace(until, Keep(arrival));
}

FaultyNetwork::Held FaultyNetwork::Keep(const Arrival& arrival) {
  Held held{.path = arrival.path,
            .packet = arrival.packet,
            .payload = {arrival.packet.payload.begin(),
                        arrival.packet.payload.end()}};
  held.packet.payload = held.payload;
  return held;
}

void FaultyNetwork::Deliver(const Arrival& arrival, ArrivalSink& sink) {
  sink.OnArrival(arrival);
  DeliverOvertaken(sink);
}

size_t FaultyNetwork::DeliverLate(ArrivalSink& sink) {
  size_t count = 0;
  for (; !late_.empty() && late_.begin()->first <= now_; ++count) {
    const Held held = std::move(late_.extract(late_.begin()).mapped());
    sink.OnArrival({.path = held.path, .packet = held.packet});
  }
  return count;
}

size_t FaultyNetwork::DeliverOvertaken(ArrivalSink& sink) {
  if (!overtaken_) return 0;
  const Held held = *std::exchange(overtaken_, std::nullopt);
  sink.OnArrival({.path = held.path, .packet = held.packet});
  return 1;
}

}  // namespace nd::soft
