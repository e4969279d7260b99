#include "soft/wire/headers.h"

namespace nd::soft {
namespace {

constexpr uint32_t k24Bits = 0xffffff;
constexpr uint8_t kSolicitedBit = 0x80;
constexpr uint8_t kMigReqBit = 0x40;
constexpr int kPadShift = 4;
constexpr uint8_t kPadMask = 0x03;
constexpr uint8_t kVersionMask = 0x0f;
constexpr uint8_t kAckReqBit = 0x80;
constexpr uint8_t kReservedMask = 0x7f;

}  // namespace

// Each packet has one: its bounds are checked once.
Bth Bth::Read(ByteReader& reader) {
  Bth bth;
  const auto bytes = reader.ReadView(kSize);
  if (bytes.empty()) return bth;
  ByteReader words(bytes);
  const uint32_t first = words.ReadBe32();
  bth.opcode = static_cast<Opcode>(first >> 24);
  const auto flags = static_cast<uint8_t>(first >> 16);
  bth.solicited = (flags & kSolicitedBit) != 0;
  bth.mig_req = (flags & kMigReqBit) != 0;
  bth.pad = (flags >> kPadShift) & kPadMask;
  bth.version = flags & kVersionMask;
  bth.pkey = static_cast<uint16_t>(first);
  const uint32_t second = words.ReadBe32();
  bth.congestion = static_cast<uint8_t>(second >> 24);
  bth.destination = Qpn(second & k24Bits);
  const uint32_t third = words.ReadBe32();
  const auto ack = static_cast<uint8_t>(third >> 24);
  bth.ack_req = (ack & kAckReqBit) != 0;
  bth.reserved = ack & kReservedMask;
  bth.psn = Psn(third & k24Bits);
  return bth;
}

void Bth::Write(ByteWriter& writer) const {
  const auto bytes = writer.Reserve(kSize);
  if (bytes.empty()) return;
  ByteWriter words(bytes);
  const uint32_t flags =
      (solicited ? kSolicitedBit : 0) | (mig_req ? kMigReqBit : 0) |
      (pad & kPadMask) << kPadShift | (version & kVersionMask);
  const uint32_t ack = (ack_req ? kAckReqBit : 0) | (reserved & kReservedMask);
  words.WriteBe32(uint32_t{static_cast<uint8_t>(opcode)} << 24 | flags << 16 |
                  pkey);
  words.WriteBe32(uint32_t{congestion} << 24 | (ToUint(destination) & k24Bits));
  words.WriteBe32(ack << 24 | psn.value());
}

Deth Deth::Read(ByteReader& reader) {
  Deth deth;
  deth.qkey = Qkey(reader.ReadBe32());
  deth.reserved = reader.ReadU8();
  deth.source = Qpn(reader.ReadBe24());
  return deth;
}

void Deth::Write(ByteWriter& writer) const {
  writer.WriteBe32(ToUint(qkey));
  writer.WriteU8(reserved);
  writer.WriteBe24(ToUint(source));
}

Reth Reth::Read(ByteReader& reader) {
  Reth reth;
  reth.address = reader.ReadBe64();
  reth.rkey = Rkey(reader.ReadBe32());
  reth.length = reader.ReadBe32();
  return reth;
}

void Reth::Write(ByteWriter& writer) const {
  writer.WriteBe64(address);
  writer.WriteBe32(ToUint(rkey));
  writer.WriteBe32(length);
}

AtomicEth AtomicEth::Read(ByteReader& reader) {
  AtomicEth eth;
  eth.address = reader.ReadBe64();
  eth.rkey = Rkey(reader.ReadBe32());
  eth.swap_or_add = reader.ReadBe64();
  eth.compare = reader.ReadBe64();
  return eth;
}

void AtomicEth::Write(ByteWriter& writer) const {
  writer.WriteBe64(address);
  writer.WriteBe32(ToUint(rkey));
  writer.WriteBe64(swap_or_add);
  writer.WriteBe64(compare);
}

Aeth Aeth::Read(ByteReader& reader) {
  Aeth aeth;
  aeth.syndrome = Syndrome(reader.ReadU8());
  aeth.msn = Msn(reader.ReadBe24());
  return aeth;
}

void Aeth::Write(ByteWriter& writer) const {
  writer.WriteU8(syndrome.value());
  writer.WriteBe24(msn.value());
}

AtomicAckEth AtomicAckEth::Read(ByteReader& reader) {
  return {.original = reader.ReadBe64()};
}

void AtomicAckEth::Write(ByteWriter& writer) const {
  writer.WriteBe64(original);
}

ImmDt ImmDt::Read(ByteReader& reader) { return {.value = reader.ReadBe32()}; }

void ImmDt::Write(ByteWriter& writer) const { writer.WriteBe32(value); }

Ieth Ieth::Read(ByteReader& reader) {
  return {.rkey = Rkey(reader.ReadBe32())};
}

void Ieth::Write(ByteWriter& writer) const { writer.WriteBe32(ToUint(rkey)); }

}  // namespace nd::soft
