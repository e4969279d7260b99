#include "fuzz/seeds.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/random.h"
#include "soft/pcap.h"
#include "soft/wire/icrc.h"
#include "soft/wire/mad.h"
#include "soft/wire/packet.h"

namespace nd::soft {
namespace {

constexpr size_t kMostBytes = 60'000;  // of a seed
constexpr size_t kRcHeaderBytes = 28;  // choices before the first step
constexpr uint8_t kReplayPacket = 14;  // the steps of this name
constexpr uint8_t kReplayMad = 12;

void Append(FuzzInput& input, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    input.push_back(static_cast<uint8_t>(byte));
  }
}
void AppendWord(FuzzInput& input, size_t value) {
  input.push_back(static_cast<uint8_t>(value >> 8));
  input.push_back(static_cast<uint8_t>(value));
}

// PSNs as if each direction had begun with 0.
class Psns {
 public:
  void Rebase(const Gid& source, Packet& packet) {
    const bool response = packet.facts().is_response();
    const auto [first, is_new] = first_.try_emplace(
        {source, packet.bth.destination, response}, packet.bth.psn);
    packet.bth.psn =
        Psn(static_cast<uint32_t>(packet.bth.psn - first->second) & Psn::kMask);
  }

 private:
  std::map<std::tuple<Gid, Qpn, bool>, Psn> first_;
};

FuzzInput RcSeed(const std::vector<CapturedDatagram>& datagrams) {
  FuzzInput input(kRcHeaderBytes);
  Psns psns;
  for (const CapturedDatagram& datagram : datagrams) {
    Packet packet;
    if (Parse(Unseal(datagram.payload).packet, packet) != PacketFault::kNone ||
        packet.facts().transport == Transport::kUd ||
        input.size() > kMostBytes) {
      continue;
    }
    if (input.size() == kRcHeaderBytes &&
        packet.facts().transport == Transport::kUc) {
      input[0] = 4;
    }
    psns.Rebase(datagram.headers.source, packet);
    std::vector<std::byte> bytes(WireBytes(packet));
    ByteWriter writer{std::span<std::byte>(bytes)};
    Write(packet, writer);
    input.push_back(datagram.headers.source <
                    datagram.headers.destination);  // whom it goes to
    input.push_back(kReplayPacket);
    AppendWord(input, bytes.size());
    Append(input, bytes);
    input.insert(input.end(), {0, 1});  // its own PSN; then transmit
  }
  return input;
}

FuzzInput CmSeed(const std::vector<CapturedDatagram>& datagrams) {
  FuzzInput input;
  for (const CapturedDatagram& datagram : datagrams) {
    Packet packet;
    if (Parse(Unseal(datagram.payload).packet, packet) != PacketFault::kNone ||
        packet.bth.destination != kGsiQpn || input.size() > kMostBytes) {
      continue;
    }
    input.push_back(datagram.headers.source < datagram.headers.destination);
    input.push_back(kReplayMad);
    AppendWord(input, packet.payload.size());
    Append(input, packet.payload);
    input.insert(input.end(), {0, 0, 0, 0});  // the newest ids
  }
  return input;
}

template <typename Make>
std::vector<FuzzInput> OfEachCapture(Make make) {
  std::vector<FuzzInput> seeds;
  for (const std::string& path : GoldenCaptures()) {
    FuzzInput seed = make(ReadPcap(path));
    if (seed.size() > kRcHeaderBytes) seeds.push_back(std::move(seed));
  }
  return seeds;
}

}  // namespace

std::vector<FuzzInput> WireSeeds() {
  std::vector<FuzzInput> seeds;
  for (const std::string& path : GoldenCaptures()) {
    for (const CapturedDatagram& datagram : ReadPcap(path)) {
      Append(seeds.emplace_back(), datagram.payload);
    }
  }
  std::ranges::sort(seeds);
  seeds.erase(std::unique(seeds.begin(), seeds.end()), seeds.end());
  return seeds;
}

std::vector<FuzzInput> RcSeeds() { return OfEachCapture(RcSeed); }

std::vector<FuzzInput> CmSeeds() { return OfEachCapture(CmSeed); }

}  // namespace nd::soft
