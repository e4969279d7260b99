#include "soft/sim/device.h"

#include <algorithm>
#include <utility>

#include "soft/wire/burst.h"

namespace nd::soft {
namespace {

constexpr size_t kMostPackets = 24;  // at a time
// Of packets that go as one, as between processes of a host.
constexpr size_t kMostBurstBytes = 16384;
constexpr std::byte kUntouched{0xcd};
constexpr std::byte kOverwritten{0xee};

}  // namespace

std::optional<std::span<std::byte>> SimMemory::Find(const MemoryClaim& claim) {
  for (const Region& region : regions_) {
    const uint64_t offset = claim.address - region.address;
    if (region.rkey == claim.rkey && claim.address >= region.address &&
        offset <= region.bytes.size() &&
        claim.length <= region.bytes.size() - offset) {
      return region.bytes.subspan(offset, claim.length);
    }
  }
  return std::nullopt;
}

std::vector<Segment> Cut(std::span<std::byte> bytes, Random& random) {
  std::vector<Segment> segments;
  for (uint64_t more = random.Below(4); more > 0; --more) {
    const size_t size = random.Below(bytes.size() + 1);
    segments.push_back(bytes.first(size));
    bytes = bytes.subspan(size);
  }
  segments.push_back(bytes);
  return segments;
}

std::optional<ReceiveWork> SimReceives::Take() {
  if (next_ == receives_.size()) return std::nullopt;
  const uint64_t wr_id = next_++;
  return ReceiveWork{.wr_id = wr_id, .segments = receives_[wr_id].segments};
}

void SimReceives::Post(size_t bytes, Random& random) {
  SimReceive& receive = receives_.emplace_back();
  receive.bytes.assign(bytes, kUntouched);
  receive.segments = Cut(receive.bytes, random);
}

// Over IPv6, where the ICRC is checked in full.
NetHeaders HeadersBetween(size_t source, size_t destination) {
  NetHeaders headers{.source_port = 0xc000};
  headers.source = {0xfd, 0, static_cast<uint8_t>(source)};
  headers.destination = {0xfd, 0, static_cast<uint8_t>(destination)};
  return headers;
}

// What is not lent any more has been overwritten.
bool SimFar::CopyTo(std::span<const std::span<std::byte>> pieces) const {
  auto from = bytes_;
  for (const std::span<std::byte> piece : pieces) {
    if (lent_) {
      std::ranges::copy(from.first(piece.size()), piece.begin());
    } else {
      std::ranges::fill(piece, kOverwritten);
    }
    from = from.subspan(piece.size());
  }
  return lent_;
}

void SimOutbox::Open(Instant now, size_t source, size_t destination) {
  now_ = now;
  source_ = source;
  destination_ = destination;
  room_ = 1 + random_.Below(kMostPackets);
  burst_bytes_ = random_.OneIn(2) ? random_.Below(kMostBurstBytes) : 0;
  lent_burst_bytes_ = random_.OneIn(4) ? random_.Below(kMostBurstBytes) : 0;
}

void SimOutbox::Send(const Outgoing& outgoing) {
  --room_;
  std::vector<std::byte> payload(outgoing.payload.length);
  Gather(outgoing.payload, payload);
  Packet packet = outgoing.packet;
  packet.payload = payload;
  if (!IsBurst(packet) || random_.OneIn(2)) return Seal(packet);
  uint8_t begin = 0;
  for (uint8_t end = 1; end <= packet.packets; ++end) {
    if (end < packet.packets && !random_.OneIn(4)) continue;
    Seal(PartOfBurst(packet, begin, static_cast<uint8_t>(end - begin)));
    begin = end;
  }
}

void SimOutbox::Seal(const Packet& packet) {
  const size_t packet_bytes = WireBytes(packet);
  Datagram datagram{.source = source_,
                    .destination = destination_,
                    .packets = packet.packets,
                    .bytes = std::vector<std::byte>(packet_bytes + kIcrcBytes)};
  const std::span bytes(datagram.bytes);
  ByteWriter writer(bytes.first(packet_bytes));
  Write(packet, writer);
  StoreIcrc(
      Icrc(HeadersBetween(source_, destination_), bytes.first(packet_bytes)),
      bytes.subspan(packet_bytes).first<kIcrcBytes>());
  network_.Send(now_, std::move(datagram));
}

}  // namespace nd::soft
