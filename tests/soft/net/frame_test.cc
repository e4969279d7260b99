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
  std::array<std::byte, FrameHeader::kSize + 3> bytes;
  header.Write(std::span(bytes).first(FrameHeader::kSize));
  std::span<const std::byte> frame = bytes;
  EXPECT_EQ(FrameHeader::Read(frame, nullptr), header);
  EXPECT_EQ(frame.size(), 3u);
}

TEST(FrameHeader, EndsThatWereSaidOnALinkAreLeftOut) {
  FrameHeader header{
      .path = {.source = Localhost(1), .destination = Localhost(2)}};
  std::array<std::byte, FrameHeader::kSize> bytes;
  header.Write(bytes);
  LinkEnds ends;
  EXPECT_FALSE(ends.AreOf(header.path));
  std::span<const std::byte> frame = bytes;
  ASSERT_TRUE(FrameHeader::Read(frame, &ends).has_value());
  EXPECT_TRUE(ends.AreOf(header.path));

  header.path.flow_label = 7;
  header.packets = 2;
  std::array<std::byte, FrameHeader::kShortSize + 1> short_frame;
  header.Write(std::span(short_frame).first(FrameHeader::kShortSize));
  frame = short_frame;
  EXPECT_EQ(FrameHeader::Read(frame, &ends), header);
  EXPECT_EQ(frame.size(), 1u);
}

TEST(FrameHeader, EndsThatWereNeverSaidCannotBeLeftOut) {
  std::array<std::byte, FrameHeader::kShortSize> bytes;
  FrameHeader().Write(bytes);
  std::span<const std::byte> frame = bytes;
  EXPECT_EQ(FrameHeader::Read(frame, nullptr), std::nullopt);
  LinkEnds ends;
  frame = bytes;
  EXPECT_EQ(FrameHeader::Read(frame, &ends), std::nullopt);
}

TEST(FrameHeader, IsNotReadWhereItIsCutShort) {
  std::array<std::byte, FrameHeader::kSize> whole;
  FrameHeader().Write(whole);
  std::array<std::byte, FrameHeader::kShortSize> left_out;
  FrameHeader().Write(left_out);
  LinkEnds ends{.known = true};
  const auto read = [&ends](std::span<const std::byte> bytes) {
    return FrameHeader::Read(bytes, &ends).has_value();
  };
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(read(std::span(whole).first(size))) << size;
  }
  for (size_t size = 0; size < left_out.size(); ++size) {
    EXPECT_FALSE(read(std::span(left_out).first(size))) << size;
  }
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

TEST(PacketSource, OfPayloadThatIsLentSaysWhereItLies) {
  std::vector<std::byte> payload = Payload(5001);
  const std::array<Segment, 2> segments = {Segment(payload).first(1000),
                                           Segment(payload).subspan(1000)};
  const LoanWord word{77};
  Outgoing outgoing;
  outgoing.packet.bth = {.opcode = Opcode::kRcSendOnly, .pad = 3, .psn = {}};
  outgoing.payload = {.segments = segments, .offset = 1001, .length = 4000};
  outgoing.loan = &word;
  const PacketSource source(outgoing);
  std::vector<std::byte> bytes(source.size());
  source.CopyTo(bytes);
  std::span<const std::byte> rest(bytes);
  EXPECT_EQ(TakeLoan(rest),
            (Loan{.address = reinterpret_cast<uintptr_t>(&payload[1001]),
                  .length = 4000,
                  .word_address = reinterpret_cast<uintptr_t>(&word),
                  .word = 77}));
  Packet packet;
  ASSERT_EQ(Parse(rest, packet), PacketFault::kNone);
  EXPECT_EQ(packet.bth, outgoing.packet.bth);
  EXPECT_TRUE(packet.payload.empty());
}

TEST(TakeLoan, TakesNoneThatIsCutOff) {
  std::array<std::byte, Loan::kSize> bytes{};
  ByteWriter writer(bytes);
  Loan{.address = 1, .length = 2}.Write(writer);
  for (size_t size = 0; size < bytes.size(); ++size) {
    auto cut = std::span<const std::byte>(bytes).first(size);
    EXPECT_FALSE(TakeLoan(cut).has_value()) << size;
  }
}

TEST(TakeLoan, TakesNoneOfNoBytesOrTooMany) {
  for (const size_t length :
       {size_t{0}, size_t{1}, kMaxLentBytes, kMaxLentBytes + 1, SIZE_MAX}) {
    std::array<std::byte, Loan::kSize> bytes{};
    ByteWriter writer(bytes);
    Loan{.address = 1, .length = length}.Write(writer);
    std::span<const std::byte> taken = bytes;
    EXPECT_EQ(TakeLoan(taken).has_value(),
              length == 1 || length == kMaxLentBytes)
        << length;
  }
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
