#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "transport/frame/frame.h"
#include "transport/frame/golden_packets.h"

namespace nd::transport {
namespace {

template <typename Payload>
Bytes BytesOf(const Payload& payload) {
  Bytes bytes(512);
  ByteWriter out{std::span<std::byte>(bytes)};
  payload.Write(out);
  bytes.resize(out.written().size());
  return bytes;
}

Bytes With(Bytes bytes, size_t offset, int value) {
  bytes.at(offset) = static_cast<std::byte>(value);
  return bytes;
}

template <typename Payload>
class FixedPayload : public testing::Test {};
using FixedPayloads =
    testing::Types<Request, Grant, Written, Revoke, Notify, Probe, Gone>;
TYPED_TEST_SUITE(FixedPayload, FixedPayloads);

TYPED_TEST(FixedPayload, IsRefusedWithAnotherLength) {
  Bytes bytes = BytesOf(TypeParam{});
  ASSERT_EQ(bytes.size(), TypeParam::kSize);
  EXPECT_EQ(TypeParam::Parse(bytes), TypeParam{});
  bytes.resize(TypeParam::kSize + 1);
  EXPECT_EQ(TypeParam::Parse(bytes), std::nullopt);
  bytes.resize(TypeParam::kSize - 1);
  EXPECT_EQ(TypeParam::Parse(bytes), std::nullopt);
  EXPECT_EQ(TypeParam::Parse({}), std::nullopt);
}

// Refused with any of the bytes from `first` set, up to `end`.
template <typename Payload>
void ExpectReserved(size_t first, size_t end) {
  const Bytes good = BytesOf(Payload{});
  for (size_t offset = first; offset < end; ++offset) {
    EXPECT_EQ(Payload::Parse(With(good, offset, 1)), std::nullopt) << offset;
  }
}

TEST(Payload, IsRefusedWithReservedBytesThatAreNotZero) {
  ExpectReserved<Request>(4, 8);
  ExpectReserved<Grant>(20, 24);
  ExpectReserved<Revoke>(4, 8);
  ExpectReserved<Notify>(28, 32);
}

TEST(Grant, SlotsAreBelowThatOfTheRing) {
  const Bytes last = BytesOf(Grant{.slot = 0xfffe});
  EXPECT_EQ(Grant::Parse(last), Grant{.slot = 0xfffe});
  EXPECT_EQ(Grant::Parse(With(last, 4, 0xff)), std::nullopt);
  EXPECT_EQ(Grant::Parse(With(last, 6, 1)), std::nullopt);
}

TEST(Written, AnUnknownStatusIsRefused) {
  const Bytes done = BytesOf(Written{});
  EXPECT_NE(Written::Parse(With(done, 4, 2)), std::nullopt);
  EXPECT_EQ(Written::Parse(With(done, 4, 3)), std::nullopt);
  EXPECT_EQ(Written::Parse(With(done, 7, 1)), std::nullopt);
}

TEST(Reason, HasACodeAndAtMost252BytesOfText) {
  EXPECT_EQ(Reason::Parse(Bytes(3)), std::nullopt);
  EXPECT_EQ(Reason::Parse(Bytes(4)), Reason{});
  EXPECT_NE(Reason::Parse(Bytes(256)), std::nullopt);
  EXPECT_EQ(Reason::Parse(Bytes(257)), std::nullopt);
}

// What comes back of a reason with this text.
std::string TextAfterTheWay(std::string_view text) {
  const Reason reason{.code = 3, .text = text};
  const Bytes bytes = BytesOf(reason);
  EXPECT_EQ(bytes.size(), reason.size());
  return std::string(Reason::Parse(bytes).value().text);
}

TEST(Reason, LongerTextIsCut) {
  EXPECT_EQ(TextAfterTheWay(""), "");
  EXPECT_EQ(TextAfterTheWay(std::string(252, 'a')), std::string(252, 'a'));
  EXPECT_EQ(TextAfterTheWay(std::string(253, 'a')), std::string(252, 'a'));
}

TEST(Reason, TextIsCutBetweenCharacters) {
  for (const std::string_view character : {"é", "€", "𝄞"}) {
    for (size_t before = 249; before <= 252; ++before) {
      const std::string start(before, 'a');
      const bool fits = before + character.size() <= kMaxText;
      EXPECT_EQ(TextAfterTheWay(start + std::string(character) + "aaaa")
                    .substr(0, before + (fits ? character.size() : 0)),
                fits ? start + std::string(character) : start);
      if (!fits) {
        EXPECT_EQ(TextAfterTheWay(start + std::string(character) + "aaaa"),
                  start);
      }
    }
  }
}

TEST(Reason, TextThatIsNoUtf8IsCutToo) {
  EXPECT_EQ(TextAfterTheWay(std::string(400, '\x80')).size(), kMaxText - 3);
}

TEST(WrittenImmediate, HasTheSlotBelowTheTransfer) {
  constexpr WrittenImmediate kImmediate = {.slot = 0x0102, .transfer = 0x7304};
  EXPECT_EQ(kImmediate.Encode(), 0x73040102u);
  EXPECT_EQ(WrittenImmediate::Decode(0x73040102), kImmediate);
}

TEST(WrittenImmediate, MarksOneLinksPartByTheUppermostBit) {
  constexpr WrittenImmediate kMark = {
      .slot = 0x0102, .transfer = 0x7304, .mark = true};
  EXPECT_EQ(kMark.Encode(), 0xf3040102u);
  EXPECT_EQ(WrittenImmediate::Decode(0xf3040102), kMark);
}

TEST(FrameType, IsSaidByItsName) {
  EXPECT_EQ(ToString(FrameType::kMessage), "Message");
  EXPECT_EQ(ToString(FrameType::kAbort), "Abort");
  EXPECT_EQ(ToString(static_cast<FrameType>(12)), "unknown");
}

TEST(FrameType, ThoseUpToGoodbyeAreSequenced) {
  EXPECT_TRUE(IsSequenced(FrameType::kMessage));
  EXPECT_TRUE(IsSequenced(FrameType::kGoodbye));
  EXPECT_FALSE(IsSequenced(FrameType::kCredit));
  EXPECT_FALSE(IsSequenced(FrameType::kAbort));
}

}  // namespace
}  // namespace nd::transport
