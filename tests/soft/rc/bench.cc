#include "soft/rc/bench.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace nd::soft {
namespace {

constexpr size_t kRegionBytes = 8192;

// Payloads of packets by hand.
const std::vector<std::byte>& PayloadBytes() {
  static const auto* const bytes = new std::vector<std::byte>(Pattern(4096));
  return *bytes;
}

std::string Offset(Psn psn) {
  const int32_t offset = psn - kBasePsn;
  return absl::StrCat(offset < 0 ? "" : "+", offset);
}

std::string Words(const Packet& packet, size_t bytes) {
  const OpcodeFacts& facts = packet.facts();
  const std::string at = absl::StrCat(
      Offset(packet.bth.psn),
      packet.packets == 1 ? "" : absl::StrCat(" x", packet.packets));
  const std::string msn = absl::StrCat(" msn ", packet.aeth.msn.value());
  const Syndrome syndrome = packet.aeth.syndrome;
  const char* const part = facts.first ? (facts.last ? "ONLY" : "FIRST")
                                       : (facts.last ? "LAST" : "MIDDLE");
  const char* const ack_req = packet.bth.ack_req ? " A" : "";
  switch (facts.kind) {
    case PacketKind::kAcknowledge:
      if (syndrome.kind() == Syndrome::Kind::kAck) {
        return absl::StrCat("ACK", at, msn);
      }
      return absl::StrCat(
          syndrome.kind() == Syndrome::Kind::kNak ? "NAK " : "RNR ",
          syndrome.code(), at, msn);
    case PacketKind::kReadResponse:
      return absl::StrCat("READ ", part, at,
                          facts.headers.aeth ? msn : std::string(), " len ",
                          bytes);
    case PacketKind::kAtomicAcknowledge:
      return absl::StrCat("ATOMIC", at, msn, " original ",
                          packet.atomic_ack_eth.original);
    case PacketKind::kReadRequest:
      return absl::StrCat("READ request", at, " from ",
                          packet.reth.address - kAddress, " len ",
                          packet.reth.length, ack_req);
    case PacketKind::kAtomicRequest:
      return absl::StrCat("ATOMIC request", at, ack_req);
    case PacketKind::kSend:
    case PacketKind::kWrite:
      break;
  }
  return absl::StrCat(facts.kind == PacketKind::kSend ? "SEND " : "WRITE ",
                      part, at, " len ", bytes, ack_req);
}

Packet Request(Opcode opcode, uint32_t psn) {
  Packet packet;
  packet.bth = {.opcode = opcode, .destination = kHere, .psn = kBasePsn + psn};
  return packet;
}

}  // namespace

std::optional<std::span<std::byte>> BenchMemory::Find(
    const MemoryClaim& claim) {
  if (!registered || claim.rkey != key || (access & claim.access) == 0 ||
      claim.address < kAddress || claim.length > kRegionBytes ||
      claim.address - kAddress > kRegionBytes - claim.length) {
    return std::nullopt;
  }
  return std::span(bytes).subspan(claim.address - kAddress + skew,
                                  claim.length);
}

bool BenchMemory::Invalidate(Rkey rkey) {
  if (!registered || rkey != key) return false;
  registered = false;
  return true;
}

std::optional<ReceiveWork> BenchReceives::Take() {
  if (posted_.empty()) return std::nullopt;
  const ReceiveWork work = posted_.front();
  posted_.pop_front();
  return work;
}

std::vector<std::byte>& BenchReceives::Post(uint64_t wr_id, size_t bytes,
                                            ibv_wc_status fault) {
  Buffer& buffer = buffers_.emplace_back();
  buffer.bytes.resize(bytes);
  buffer.segment = buffer.bytes;
  posted_.push_back(
      {.wr_id = wr_id, .fault = fault, .segments = {&buffer.segment, 1}});
  return buffer.bytes;
}

void BenchCompletions::Tell(const std::string& what) {
  absl::StrAppend(&told_, told_.empty() ? "" : ", ", what);
}

void BenchCompletions::SendCompleted(const WorkCompletion& completion) {
  all.push_back(completion);
  Tell(completion.status == IBV_WC_SUCCESS
           ? absl::StrCat("send ", completion.wr_id, " ok")
           : absl::StrCat("send ", completion.wr_id, " status ",
                          completion.status));
}

void BenchCompletions::ReceiveCompleted(const WorkCompletion& completion) {
  all.push_back(completion);
  Tell(
      completion.status == IBV_WC_SUCCESS
          ? absl::StrCat("recv ", completion.wr_id, " ok ", completion.byte_len)
          : absl::StrCat("recv ", completion.wr_id, " status ",
                         completion.status));
}

void BenchCompletions::Raise(ibv_event_type event) {
  Tell(absl::StrCat("event ", event));
}

std::string BenchCompletions::Take() { return std::exchange(told_, {}); }

void BenchOutbox::Send(const Outgoing& outgoing) {
  --limit;
  packets.push_back(outgoing.packet);
  Gather(outgoing.payload, payloads.emplace_back(outgoing.payload.length));
  lasts.push_back(outgoing.lasts);
  EXPECT_EQ(outgoing.packet.bth.pad, PadFor(outgoing.payload.length));
  absl::StrAppend(&told_, told_.empty() ? "" : "; ",
                  Words(outgoing.packet, outgoing.payload.length));
}

std::string BenchOutbox::Take() { return std::exchange(told_, {}); }

std::vector<std::byte> Pattern(size_t bytes, int seed) {
  std::vector<std::byte> pattern(bytes);
  for (size_t i = 0; i < bytes; ++i) {
    pattern[i] = static_cast<std::byte>(i * 7 + i / 256 + seed);
  }
  return pattern;
}

Packet Message(Opcode opcode, uint32_t psn, size_t bytes) {
  Packet packet = Request(opcode, psn);
  packet.payload = std::span(PayloadBytes()).first(bytes);
  return packet;
}

Packet WriteRequest(Opcode opcode, uint32_t psn, size_t bytes, Reth reth) {
  Packet packet = Message(opcode, psn, bytes);
  packet.reth = reth;
  return packet;
}

Packet ReadRequest(uint32_t psn, uint64_t address, uint32_t length) {
  Packet packet = Request(Opcode::kRcReadRequest, psn);
  packet.reth = {.address = address, .rkey = kKey, .length = length};
  return packet;
}

Packet FetchAdd(uint32_t psn, uint64_t address, uint64_t add) {
  Packet packet = Request(Opcode::kRcFetchAdd, psn);
  packet.atomic_eth = {.address = address, .rkey = kKey, .swap_or_add = add};
  return packet;
}

Packet CompareSwap(uint32_t psn, uint64_t address, uint64_t compare,
                   uint64_t swap) {
  Packet packet = Request(Opcode::kRcCompareSwap, psn);
  packet.atomic_eth = {.address = address,
                       .rkey = kKey,
                       .swap_or_add = swap,
                       .compare = compare};
  return packet;
}

Packet Acknowledge(uint32_t psn, Syndrome syndrome) {
  Packet packet = Request(Opcode::kRcAcknowledge, psn);
  packet.aeth = {.syndrome = syndrome, .msn = Msn()};
  return packet;
}

Packet ReadResponse(Opcode opcode, uint32_t psn, size_t bytes) {
  return Message(opcode, psn, bytes);
}

Packet AtomicResponse(uint32_t psn, uint64_t original) {
  Packet packet = Request(Opcode::kRcAtomicAcknowledge, psn);
  packet.atomic_ack_eth = {.original = original};
  return packet;
}

Packet Burst(uint8_t packets, Packet packet) {
  packet.packets = packets;
  return packet;
}

Packet WithAckReq(Packet packet) {
  packet.bth.ack_req = true;
  return packet;
}

bool BenchFar::CopyTo(std::span<const std::span<std::byte>> pieces) const {
  ++asked;
  if (!lent) return false;
  auto from = bytes_;
  for (const std::span<std::byte> piece : pieces) {
    std::ranges::copy(from.first(piece.size()), piece.begin());
    from = from.subspan(piece.size());
  }
  EXPECT_TRUE(from.empty());
  return true;
}

Packet WithFar(Packet packet, const BenchFar& far) {
  packet.payload = {};
  packet.far = &far;
  return packet;
}

}  // namespace nd::soft
