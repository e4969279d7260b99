#include "soft/net/frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "soft/net/bench.h"

namespace nd::soft {
namespace {

TEST(FrameHeader, IsReadAsItWasWritten) {
  const FrameHeader header{.path = {.source = Localhost(1),
                                    .destination = Localhost(2),
                                    .flow_label = 0xfedcb,
                                    .traffic_class = 0x68,
                                    .hop_limit = 3},
                           .from_wire = true,
                           .packets = 9};
  std::array<std::byte, FrameHeader::kSize> bytes;
  header.Write(bytes);
  EXPECT_EQ(FrameHeader::Read(bytes), header);
}

TEST(PacketSource, PutsTogetherHeadersPayloadAndPad) {
  std::vector<std::byte> payload = Payload(13);
  const Segment segment(payload);
  Outgoing outgoing;
  outgoing.packet.bth = {.opcode = Opcode::kRcWriteOnly, .pad = 3, .psn = {}};
  outgoing.packet.reth = {.address = 1, .rkey = Rkey{2}, .length = 13};
  outgoing.payload = {.segments = {&segment, 1}, .length = 13};
  Packet whole = outgoing.packet;
  whole.payload = payload;
  std::vector<std::byte> expected(WireBytes(whole));
  ByteWriter writer(expected);
  Write(whole, writer);

  const PacketSource source(outgoing);
  ASSERT_EQ(source.size(), expected.size());
  std::vector<std::byte> bytes(source.size(), std::byte{0xff});
  source.CopyTo(bytes);
  EXPECT_EQ(bytes, expected);
}

// Any bytes mean the same to both.
TEST(ParseShared, SaysWhatParseSays) {
  SeededRandom random(3);
  for (int round = 0; round < 50000; ++round) {
    std::vector<std::byte> bytes(random.Below(round % 2 == 0 ? 64 : 700));
    random.Fill(bytes);
    if (bytes.size() > 1) bytes[1] &= std::byte{0xf0};
    Packet expected;
    const PacketFault fault = Parse(bytes, expected);
    HeaderCopy copy;
    Packet packet;
    ASSERT_EQ(ParseShared(bytes, copy, packet), fault);
    if (fault != PacketFault::kNone) continue;
    ASSERT_EQ(packet.bth, expected.bth);
    ASSERT_EQ(packet.reth, expected.reth);
    ASSERT_TRUE(std::ranges::equal(packet.payload, expected.payload));
  }
}

TEST(ParseShared, HeadersAreOfTheCopy) {
  std::vector<std::byte> bytes(600);
  bytes[0] = std::byte{0x04};
  HeaderCopy copy;
  Packet packet;
  ASSERT_EQ(ParseShared(bytes, copy, packet), PacketFault::kNone);
  EXPECT_EQ(packet.payload.data(), &bytes[Bth::kSize]);
  bytes.resize(300);
  ASSERT_EQ(ParseShared(bytes, copy, packet), PacketFault::kNone);
  EXPECT_EQ(packet.payload.data(), &copy[Bth::kSize]);
}

}  // namespace
}  // namespace nd::soft
