#include "soft/wire/packet.h"

#include "absl/base/attributes.h"

namespace nd::soft {
namespace {

void ReadHeaders(const HeaderSet& has, ByteReader& reader, Packet& packet) {
  if (has == HeaderSet()) return;  // as most packets
  if (has.deth) [[unlikely]]
    packet.deth = Deth::Read(reader);
  if (has.reth) packet.reth = Reth::Read(reader);
  if (has.atomic_eth) [[unlikely]]
    packet.atomic_eth = AtomicEth::Read(reader);
  if (has.aeth) packet.aeth = Aeth::Read(reader);
  if (has.atomic_ack_eth) [[unlikely]]
    packet.atomic_ack_eth = AtomicAckEth::Read(reader);
  if (has.imm_dt) packet.imm_dt = ImmDt::Read(reader);
  if (has.ieth) [[unlikely]]
    packet.ieth = Ieth::Read(reader);
}

}  // namespace

absl::string_view ToString(PacketFault fault) {
  switch (fault) {
    case PacketFault::kNone:
      return "none";
    case PacketFault::kTooShort:
      return "too short";
    case PacketFault::kBadVersion:
      return "bad transport header version";
    case PacketFault::kUnknownOpcode:
      return "unknown opcode";
    case PacketFault::kStrayPayload:
      return "payload where there is none";
  }
  return "unknown";
}

ABSL_ATTRIBUTE_HOT PacketFault Parse(std::span<const std::byte> bytes,
                                     Packet& packet) {
  ByteReader reader(bytes);
  packet = {};
  packet.bth = Bth::Read(reader);
  if (!reader.ok()) [[unlikely]]
    return PacketFault::kTooShort;
  if (packet.bth.version != 0) [[unlikely]]
    return PacketFault::kBadVersion;
  const OpcodeFacts& facts = packet.facts();
  if (!facts.known()) [[unlikely]]
    return PacketFault::kUnknownOpcode;
  ReadHeaders(facts.headers, reader, packet);
  if (!reader.ok() || reader.remaining() < packet.bth.pad) [[unlikely]] {
    return PacketFault::kTooShort;
  }
  packet.payload = reader.ReadView(reader.remaining() - packet.bth.pad);
  if (!facts.payload && !packet.payload.empty()) [[unlikely]] {
    return PacketFault::kStrayPayload;
  }
  return PacketFault::kNone;
}

size_t WireBytes(const Packet& packet) {
  return packet.facts().header_bytes() + packet.payload.size() + packet.bth.pad;
}

ABSL_ATTRIBUTE_HOT void WriteHeaders(const Packet& packet, ByteWriter& writer) {
  const HeaderSet& has = packet.facts().headers;
  packet.bth.Write(writer);
  if (has == HeaderSet()) return;
  if (has.deth) [[unlikely]]
    packet.deth.Write(writer);
  if (has.reth) packet.reth.Write(writer);
  if (has.atomic_eth) [[unlikely]]
    packet.atomic_eth.Write(writer);
  if (has.aeth) packet.aeth.Write(writer);
  if (has.atomic_ack_eth) [[unlikely]]
    packet.atomic_ack_eth.Write(writer);
  if (has.imm_dt) packet.imm_dt.Write(writer);
  if (has.ieth) [[unlikely]]
    packet.ieth.Write(writer);
}

void Write(const Packet& packet, ByteWriter& writer) {
  WriteHeaders(packet, writer);
  writer.WriteBytes(packet.payload);
  writer.WriteZeros(packet.bth.pad);
}

}  // namespace nd::soft
