// Each test takes out of a good packet what one check of the reader's is about.
#include "transport/frame/packet.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "transport/frame/golden_packets.h"

namespace nd::transport {
namespace {

constexpr uint32_t kNoLimit = std::numeric_limits<uint32_t>::max();

constexpr FrameHeader kMessage = {
    .type = FrameType::kMessage, .stream = 1, .credits = 8, .window = 4096};
constexpr FrameHeader kGoodbye = {.type = FrameType::kGoodbye, .credits = 8};
constexpr FrameHeader kCredit = {.type = FrameType::kCredit, .credits = 8};
constexpr FrameHeader kPing = {.type = FrameType::kPing, .credits = 8};

Bytes BytesOf(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return Bytes(bytes.begin(), bytes.end());
}

Bytes PacketOf(const FrameHeader& header, std::span<const std::byte> payload,
               bool digest = false) {
  Bytes bytes(FrameHeader::kSize + payload.size());
  PacketWriter writer(bytes, digest);
  EXPECT_TRUE(writer.Append(header, payload));
  return bytes;
}

// With the byte at `offset` replaced.
Bytes With(Bytes bytes, size_t offset, int value) {
  bytes.at(offset) = static_cast<std::byte>(value);
  return bytes;
}

PacketFault FaultOf(std::span<const std::byte> packet, bool digest = false,
                    uint32_t eager_limit = kNoLimit) {
  PacketReader reader(packet, digest, eager_limit);
  FrameView view;
  while (reader.Next(view)) continue;
  return reader.fault();
}

const Bytes& Hello() {
  static const Bytes hello = PacketOf(kMessage, BytesOf("hello"));
  return hello;
}

TEST(PacketReader, RefusesAnEmptyPacket) {
  EXPECT_EQ(FaultOf({}), PacketFault::kEmpty);
}

TEST(PacketReader, RefusesAnotherVersion) {
  ASSERT_EQ(FaultOf(Hello()), PacketFault::kNone);
  for (const int version : {0, 2, 255}) {
    EXPECT_EQ(FaultOf(With(Hello(), 0, version)), PacketFault::kVersion);
  }
}

TEST(PacketReader, RefusesAnUnknownType) {
  for (const int type : {0, 12, 15, 21, 128, 255}) {
    EXPECT_EQ(FaultOf(With(Hello(), 1, type)), PacketFault::kType) << type;
  }
}

TEST(PacketReader, RefusesUnknownFlags) {
  for (int bit = 1; bit < 8; ++bit) {
    EXPECT_EQ(FaultOf(With(Hello(), 2, 1 << bit)), PacketFault::kFlags) << bit;
  }
}

TEST(PacketReader, RefusesAClassAboveOne) {
  EXPECT_EQ(FaultOf(With(Hello(), 3, 1)), PacketFault::kNone);
  EXPECT_EQ(FaultOf(With(Hello(), 3, 2)), PacketFault::kClass);
  EXPECT_EQ(FaultOf(With(Hello(), 3, 255)), PacketFault::kClass);
}

TEST(PacketReader, RefusesAMessageWithoutAStream) {
  EXPECT_EQ(FaultOf(With(Hello(), 4, 0)), PacketFault::kStream);
}

TEST(PacketReader, RefusesAStreamInAFrameOfTheSessionOrALink) {
  const Bytes reason = BytesOf(std::string(4, '\0'));
  EXPECT_EQ(FaultOf(With(PacketOf(kGoodbye, reason), 7, 1)),
            PacketFault::kStream);
  EXPECT_EQ(FaultOf(With(PacketOf(kCredit, {}), 4, 1)), PacketFault::kStream);
}

TEST(PacketReader, RefusesASequenceOrAClassInAnUnsequencedFrame) {
  const Bytes credit = PacketOf(kCredit, {});
  for (size_t offset = 8; offset < 12; ++offset) {
    EXPECT_EQ(FaultOf(With(credit, offset, 1)), PacketFault::kReserved);
  }
  EXPECT_EQ(FaultOf(With(credit, 3, 1)), PacketFault::kReserved);
}

TEST(PacketReader, RefusesAWindowInAFrameWithoutAStream) {
  const Bytes credit = PacketOf(kCredit, {});
  const Bytes goodbye = PacketOf(kGoodbye, BytesOf(std::string(4, '\0')));
  for (size_t offset = 20; offset < 24; ++offset) {
    EXPECT_EQ(FaultOf(With(credit, offset, 1)), PacketFault::kReserved);
    EXPECT_EQ(FaultOf(With(goodbye, offset, 1)), PacketFault::kReserved);
  }
}

TEST(PacketReader, RefusesADigestWithoutItsFlag) {
  for (size_t offset = 24; offset < 28; ++offset) {
    EXPECT_EQ(FaultOf(With(Hello(), offset, 1)), PacketFault::kReserved);
  }
}

TEST(PacketReader, RefusesReservedBytesThatAreNotZero) {
  for (size_t offset = 28; offset < 32; ++offset) {
    EXPECT_EQ(FaultOf(With(Hello(), offset, 1)), PacketFault::kReserved);
  }
}

TEST(PacketReader, RefusesALengthBeyondThePacket) {
  EXPECT_EQ(FaultOf(With(Hello(), 12, 6)), PacketFault::kTruncated);
  EXPECT_EQ(FaultOf(With(Hello(), 15, 0x80)), PacketFault::kTruncated);
  EXPECT_EQ(FaultOf(With(Hello(), 15, 0xff)), PacketFault::kTruncated);
}

struct LengthRule {
  FrameType type;
  size_t least, most;
};

// docs/wire.md, the table of types; a message has the layout's eager limit.
constexpr LengthRule kLengthRules[] = {
    {FrameType::kOpen, 0, 255},    {FrameType::kFinish, 0, 0},
    {FrameType::kReset, 4, 256},   {FrameType::kWindow, 0, 0},
    {FrameType::kRequest, 16, 16}, {FrameType::kGrant, 32, 32},
    {FrameType::kWritten, 16, 16}, {FrameType::kRevoke, 8, 8},
    {FrameType::kNotify, 32, 32},  {FrameType::kGoodbye, 4, 256},
    {FrameType::kCredit, 0, 0},    {FrameType::kPing, 8, 8},
    {FrameType::kPong, 8, 8},      {FrameType::kGone, 12, 12},
    {FrameType::kAbort, 4, 256},
};

PacketFault FaultOfLength(FrameType type, size_t length) {
  const uint32_t stream = FactsOf(type).of_stream ? 1 : 0;
  return FaultOf(PacketOf({.type = type, .stream = stream}, Bytes(length)));
}

TEST(PacketReader, RefusesALengthThatTheTypeDoesNotAllow) {
  for (const auto& [type, least, most] : kLengthRules) {
    EXPECT_EQ(FaultOfLength(type, least), PacketFault::kNone) << ToString(type);
    EXPECT_EQ(FaultOfLength(type, most), PacketFault::kNone) << ToString(type);
    EXPECT_EQ(FaultOfLength(type, most + 1), PacketFault::kLength)
        << ToString(type);
    if (least > 0) {
      EXPECT_EQ(FaultOfLength(type, least - 1), PacketFault::kLength)
          << ToString(type);
    }
  }
}

TEST(PacketReader, RefusesAMessageAboveTheEagerLimit) {
  EXPECT_EQ(FaultOf(Hello(), false, 5), PacketFault::kNone);
  EXPECT_EQ(FaultOf(Hello(), false, 4), PacketFault::kLength);
}

TEST(PacketReader, TheEagerLimitIsOfMessagesOnly) {
  const Bytes ping = PacketOf(kPing, Bytes(Probe::kSize));
  EXPECT_EQ(FaultOf(ping, false, 0), PacketFault::kNone);
}

TEST(PacketReader, RefusesAWrongDigest) {
  const Bytes good = PacketOf(kMessage, BytesOf("hello"), true);
  ASSERT_EQ(FaultOf(good), PacketFault::kNone);
  for (size_t offset = 24; offset < 28; ++offset) {
    Bytes bad = good;
    bad[offset] ^= std::byte{0x10};
    EXPECT_EQ(FaultOf(bad), PacketFault::kDigest) << offset;
  }
}

// All but the bit that says that there is a digest.
TEST(PacketReader, ADigestSeesEachBit) {
  const Bytes good = PacketOf(kMessage, BytesOf("hello"), true);
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    if (bit == 16) continue;
    Bytes bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_NE(FaultOf(bad), PacketFault::kNone) << bit;
  }
}

TEST(PacketReader, RefusesAMissingDigestWhereTheLayoutAsksForOne) {
  EXPECT_EQ(FaultOf(Hello(), true), PacketFault::kDigestMissing);
}

TEST(PacketReader, RefusesPaddingThatIsNotZero) {
  Bytes packet(2 * FrameHeader::kSize + 8);
  PacketWriter writer(packet, false);
  ASSERT_TRUE(writer.Append(kMessage, BytesOf("hello")));
  ASSERT_TRUE(writer.Append(kCredit, {}));
  ASSERT_EQ(FaultOf(packet), PacketFault::kNone);
  for (size_t offset = 37; offset < 40; ++offset) {
    EXPECT_EQ(FaultOf(With(packet, offset, 1)), PacketFault::kReserved);
  }
}

TEST(PacketReader, RefusesBytesBehindTheLastFrame) {
  for (size_t more = 1; more < FrameHeader::kSize; ++more) {
    Bytes packet = Hello();
    packet.resize(packet.size() + more);
    EXPECT_EQ(FaultOf(packet), PacketFault::kTruncated) << more;
  }
}

TEST(PacketReader, GivesTheFramesBeforeAFaultAndNoneBehindIt) {
  Bytes packet(3 * FrameHeader::kSize);
  PacketWriter writer(packet, false);
  ASSERT_TRUE(writer.Append(kMessage, {}));
  ASSERT_TRUE(writer.Append(kMessage, {}));
  ASSERT_TRUE(writer.Append(kCredit, {}));
  packet = With(packet, FrameHeader::kSize, 9);
  PacketReader reader(packet, false);
  FrameView view;

  EXPECT_TRUE(reader.Next(view));
  EXPECT_FALSE(reader.Next(view));
  EXPECT_FALSE(reader.Next(view));
  EXPECT_EQ(reader.fault(), PacketFault::kVersion);
}

TEST(PacketReader, TakesNoFrameOutOfThePayloadOfARefusedOne) {
  const Bytes looks_good = PacketOf(kCredit, {});
  const Bytes too_long =
      With(PacketOf(kMessage, looks_good), 12, FrameHeader::kSize + 1);
  PacketReader reader(too_long, false);
  FrameView view;

  EXPECT_FALSE(reader.Next(view));
  EXPECT_FALSE(reader.Next(view));
  EXPECT_EQ(reader.fault(), PacketFault::kTruncated);
}

TEST(PacketReader, AnEmptyPacketStaysRefused) {
  PacketReader reader({}, false);
  FrameView view;
  EXPECT_FALSE(reader.Next(view));
  EXPECT_FALSE(reader.Next(view));
  EXPECT_EQ(reader.fault(), PacketFault::kEmpty);
}

TEST(PacketWriter, SetsTheLengthFromThePayload) {
  FrameHeader header = kMessage;
  header.length = 77;
  const Bytes packet = PacketOf(header, BytesOf("hello"));
  PacketReader reader(packet, false);
  FrameView view;
  ASSERT_TRUE(reader.Next(view));
  EXPECT_EQ(view.header.length, 5u);
}

TEST(PacketWriter, TakesWhatFitsToTheByte) {
  Bytes room(40 + FrameHeader::kSize + 3);
  PacketWriter writer(room, false);
  EXPECT_TRUE(writer.empty());
  ASSERT_TRUE(writer.Append(kMessage, BytesOf("hello")));
  EXPECT_FALSE(writer.empty());

  // Three bytes of padding, a header, and three.
  EXPECT_TRUE(writer.Fits(3));
  EXPECT_FALSE(writer.Fits(4));
  EXPECT_FALSE(writer.Fits(std::numeric_limits<size_t>::max()));
  EXPECT_FALSE(writer.Append(kMessage, Bytes(4)));
  EXPECT_EQ(writer.written().size(), 37u);
  EXPECT_TRUE(writer.Append(kMessage, Bytes(3)));
  EXPECT_EQ(writer.written().size(), room.size());
  EXPECT_FALSE(writer.Fits(0));
  EXPECT_EQ(FaultOf(room), PacketFault::kNone);
}

TEST(PacketWriter, RefusesAHeaderThatDoesNotFit) {
  Bytes room(FrameHeader::kSize - 1);
  PacketWriter writer(room, false);
  EXPECT_FALSE(writer.Fits(0));
  EXPECT_FALSE(writer.Append(kCredit, {}));
  EXPECT_FALSE(writer.AppendHeader(kMessage, Bytes(5)));
  EXPECT_TRUE(writer.empty());
}

// Whatever was in the room before.
TEST(PacketWriter, FillsThePaddingWithZeros) {
  Bytes room(2 * FrameHeader::kSize + 8, std::byte{0xff});
  PacketWriter writer(room, false);
  ASSERT_TRUE(writer.Append(kMessage, BytesOf("hello")));
  ASSERT_TRUE(writer.Append(kCredit, {}));
  EXPECT_EQ(FaultOf(writer.written()), PacketFault::kNone);
}

TEST(PacketWriter, APayloadElsewhereMakesTheSamePacket) {
  for (const bool digest : {false, true}) {
    const Bytes payload = BytesOf("a payload that lies elsewhere");
    std::array<std::byte, 256> room, other_room;
    PacketWriter writer(room, digest), other(other_room, digest);
    ASSERT_TRUE(writer.Append(kMessage, BytesOf("hello")));
    ASSERT_TRUE(writer.AppendHeader(kMessage, payload));
    ASSERT_TRUE(other.Append(kMessage, BytesOf("hello")));
    ASSERT_TRUE(other.Append(kMessage, payload));

    Bytes gathered(writer.written().begin(), writer.written().end());
    gathered.insert(gathered.end(), payload.begin(), payload.end());
    EXPECT_EQ(gathered, Bytes(other.written().begin(), other.written().end()));
  }
}

TEST(PacketWriter, NothingFitsBehindAPayloadElsewhere) {
  std::array<std::byte, 256> room;
  PacketWriter writer(room, false);
  ASSERT_TRUE(writer.AppendHeader(kMessage, Bytes(1000)));
  EXPECT_FALSE(writer.Fits(0));
  EXPECT_FALSE(writer.Append(kCredit, {}));
  EXPECT_FALSE(writer.AppendHeader(kCredit, {}));
  EXPECT_EQ(writer.written().size(), FrameHeader::kSize);
}

TEST(PacketFault, EachIsSaidInWordsOfItsOwn) {
  std::vector<std::string_view> words;
  for (int fault = 0; fault <= static_cast<int>(PacketFault::kDigestMissing);
       ++fault) {
    words.push_back(ToString(static_cast<PacketFault>(fault)));
  }
  std::ranges::sort(words);
  EXPECT_EQ(std::ranges::adjacent_find(words), words.end());
  EXPECT_EQ(std::ranges::find(words, "unknown"), words.end());
}

}  // namespace
}  // namespace nd::transport
