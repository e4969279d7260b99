#include "soft/wire/packet.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace nd::soft {
namespace {

std::vector<std::byte> Written(const Packet& packet) {
  std::vector<std::byte> bytes(WireBytes(packet));
  ByteWriter writer{std::span<std::byte>(bytes)};
  Write(packet, writer);
  EXPECT_TRUE(writer.ok());
  return bytes;
}

TEST(Packet, EveryOpcodeComesBackAsItWasWritten) {
  const std::array<std::byte, 5> data = {
      std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}, std::byte{5}};
  for (int value = 0; value < 256; ++value) {
    Packet packet;
    packet.bth.opcode = static_cast<Opcode>(value);
    if (!packet.facts().known()) continue;
    SCOPED_TRACE(packet.facts().name);
    if (packet.facts().payload) packet.payload = data;
    packet.bth.pad = PadFor(packet.payload.size());
    packet.bth.solicited = true;
    packet.bth.ack_req = true;
    packet.bth.destination = Qpn(0x123456);
    packet.bth.psn = Psn(0xfedcba);
    const HeaderSet& has = packet.facts().headers;
    if (has.deth) packet.deth = {.qkey = Qkey(0x11223344), .source = Qpn(7)};
    if (has.reth) packet.reth = {.address = 1, .rkey = Rkey(2), .length = 3};
    if (has.atomic_eth) {
      packet.atomic_eth = {
          .address = 1, .rkey = Rkey(2), .swap_or_add = 3, .compare = 4};
    }
    if (has.aeth) packet.aeth = {.syndrome = Syndrome(0x62), .msn = Msn(9)};
    if (has.atomic_ack_eth) packet.atomic_ack_eth = {.original = 77};
    if (has.imm_dt) packet.imm_dt = {.value = 0xabcd};
    if (has.ieth) packet.ieth = {.rkey = Rkey(0x55)};

    const std::vector<std::byte> bytes = Written(packet);
    Packet parsed;
    ASSERT_EQ(Parse(bytes, parsed), PacketFault::kNone);
    EXPECT_EQ(parsed.bth, packet.bth);
    EXPECT_EQ(parsed.deth, packet.deth);
    EXPECT_EQ(parsed.reth, packet.reth);
    EXPECT_EQ(parsed.atomic_eth, packet.atomic_eth);
    EXPECT_EQ(parsed.aeth, packet.aeth);
    EXPECT_EQ(parsed.atomic_ack_eth, packet.atomic_ack_eth);
    EXPECT_EQ(parsed.imm_dt, packet.imm_dt);
    EXPECT_EQ(parsed.ieth, packet.ieth);
    EXPECT_TRUE(std::ranges::equal(parsed.payload, packet.payload));
    EXPECT_EQ(Written(parsed), bytes);
  }
}

TEST(Packet, UnknownOpcodeIsRefused) {
  Packet packet;
  std::vector<std::byte> bytes = Written(packet);
  bytes[0] = std::byte{0x15};
  EXPECT_EQ(Parse(bytes, packet), PacketFault::kUnknownOpcode);
}

TEST(Packet, OtherHeaderVersionIsRefused) {
  Packet packet;
  packet.bth.version = 1;
  EXPECT_EQ(Parse(Written(packet), packet), PacketFault::kBadVersion);
}

TEST(Packet, PadLongerThanThePacketIsRefused) {
  Packet packet;
  packet.bth.pad = 3;
  std::vector<std::byte> bytes = Written(packet);
  bytes.resize(bytes.size() - 1);
  EXPECT_EQ(Parse(bytes, packet), PacketFault::kTooShort);
}

TEST(Packet, PayloadOfAnAcknowledgementIsRefused) {
  Packet packet;
  packet.bth.opcode = Opcode::kRcAcknowledge;
  std::vector<std::byte> bytes = Written(packet);
  bytes.resize(bytes.size() + 4);
  EXPECT_EQ(Parse(bytes, packet), PacketFault::kStrayPayload);
}

TEST(PadFor, FillsUpToFour) {
  EXPECT_EQ(PadFor(0), 0);
  EXPECT_EQ(PadFor(1), 3);
  EXPECT_EQ(PadFor(2), 2);
  EXPECT_EQ(PadFor(3), 1);
  EXPECT_EQ(PadFor(4), 0);
}

}  // namespace
}  // namespace nd::soft
