#include "soft/wire/burst.h"

#include <algorithm>

namespace nd::soft {
namespace {

constexpr size_t kLeastMtu = 256;
constexpr size_t kMostMtu = 4096;

Opcode OpcodeOfPart(const OpcodeFacts& burst, bool first, bool last) {
  if (burst.kind == PacketKind::kReadResponse) {
    return ReadResponseOpcode(first, last);
  }
  const Ending ending = burst.headers.imm_dt ? Ending::kImmediate
                        : burst.headers.ieth ? Ending::kInvalidate
                                             : Ending::kPlain;
  return MessageOpcode(burst.transport, burst.kind, first, last, ending);
}

}  // namespace

bool IsBurst(const Packet& packet) {
  const OpcodeFacts& facts = packet.facts();
  return packet.packets > 1 && facts.transport == Transport::kRc &&
         (facts.kind == PacketKind::kSend || facts.kind == PacketKind::kWrite ||
          facts.kind == PacketKind::kReadResponse);
}

size_t MtuOfBurst(size_t packets, size_t payload_bytes) {
  size_t mtu = kLeastMtu;
  while (mtu < kMostMtu && packets * mtu < payload_bytes) mtu *= 2;
  return mtu;
}

PayloadRange RangeOfPart(const Packet& burst, uint8_t begin, uint8_t count) {
  const size_t bytes = burst.payload_bytes();
  const size_t mtu = MtuOfBurst(burst.packets, bytes);
  const bool at_end = begin + count == burst.packets;
  // What whoever made it up has too few bytes for, has none.
  const size_t from = std::min(begin * mtu, bytes);
  const size_t to = at_end ? bytes : std::min((begin + count) * mtu, bytes);
  return {.offset = from, .length = to - from};
}

Packet PartOfBurst(const Packet& burst, uint8_t begin, uint8_t count) {
  const OpcodeFacts& facts = burst.facts();
  const PayloadRange range = RangeOfPart(burst, begin, count);
  const bool at_end = begin + count == burst.packets;
  Packet part = burst;
  part.packets = count;
  part.far = nullptr;
  if (burst.far == nullptr) {
    part.payload = burst.payload.subspan(range.offset, range.length);
  }
  part.bth.opcode =
      OpcodeOfPart(facts, facts.first && begin == 0, facts.last && at_end);
  part.bth.psn = burst.bth.psn + begin;
  part.bth.pad = PadFor(range.length);
  part.bth.solicited = burst.bth.solicited && at_end;
  part.bth.ack_req = burst.bth.ack_req && at_end;
  return part;
}

}  // namespace nd::soft
