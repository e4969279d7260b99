#include "control/token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace nd::control {
namespace {

using ::testing::HasSubstr;

Token SomeToken(uint64_t seed) {
  SeededRandom random(seed);
  return Token::Generate(random);
}

TEST(Token, MatchesItselfAndNoOther) {
  const Token token = SomeToken(1);
  EXPECT_TRUE(token.Matches(SomeToken(1)));
  EXPECT_FALSE(token.Matches(SomeToken(2)));
}

TEST(Token, DifferenceInAnyByteCounts) {
  const Token token = SomeToken(1);
  for (size_t i = 0; i < Token::kSize; ++i) {
    std::string bytes = token.bytes();
    bytes[i] = static_cast<char>(bytes[i] ^ 1);
    EXPECT_FALSE(Token::FromBytes(bytes)->Matches(token)) << i;
  }
}

TEST(Token, BytesComeBack) {
  const Token token = SomeToken(1);
  EXPECT_TRUE(Token::FromBytes(token.bytes())->Matches(token));
}

TEST(Token, OtherLengthIsAnError) {
  const absl::StatusOr<Token> token = Token::FromBytes("short");
  EXPECT_EQ(token.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(token.status().message()), HasSubstr("5"));
}

TEST(ConnectHello, IsMagicTokenIndexInNetworkOrder) {
  const ConnectHello hello{.token = *Token::FromBytes("0123456789abcdef"),
                           .index = 0x01020304};
  const auto data = hello.Encode();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(data.data()), 24),
            "ndC10123456789abcdef\x01\x02\x03\x04");
}

TEST(ConnectHello, ComesBackWithPaddingBehindIt) {
  const ConnectHello hello{.token = SomeToken(3), .index = 7};
  const auto data = hello.Encode();
  std::vector<std::byte> padded(data.begin(), data.end());
  padded.resize(56);
  const std::optional<ConnectHello> parsed = ConnectHello::Parse(padded);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_TRUE(parsed->token.Matches(hello.token));
  EXPECT_EQ(parsed->index, 7u);
}

TEST(ConnectHello, CutAnywhereIsNone) {
  const auto data = ConnectHello{.token = SomeToken(3), .index = 7}.Encode();
  for (size_t size = 0; size < data.size(); ++size) {
    EXPECT_FALSE(ConnectHello::Parse(std::span(data).first(size)).has_value());
  }
}

TEST(ConnectHello, OtherMagicIsNone) {
  auto data = ConnectHello{.token = SomeToken(3), .index = 7}.Encode();
  data[3] = std::byte{'2'};
  EXPECT_FALSE(ConnectHello::Parse(data).has_value());
}

LinkHello SomeLinkHello() {
  return {.token = SomeToken(3), .session = 5, .link = {2, 7}};
}

TEST(LinkHello, IsMagicVersionTokenSessionLinkInNetworkOrder) {
  const LinkHello hello{.token = *Token::FromBytes("0123456789abcdef"),
                        .session = 0x0102030405060708,
                        .link = {0x11121314, 0x21222324}};
  const auto data = hello.Encode();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(data.data()), 36),
            "ndS\x01"
            "0123456789abcdef\x01\x02\x03\x04\x05\x06\x07\x08"
            "\x11\x12\x13\x14!\"#$");
}

TEST(LinkHello, ComesBackWithPaddingBehindIt) {
  const auto data = SomeLinkHello().Encode();
  std::vector<std::byte> padded(data.begin(), data.end());
  padded.resize(56);
  const std::optional<LinkHello> parsed = LinkHello::Parse(padded);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->version, LinkHello::kVersion);
  EXPECT_TRUE(parsed->token.Matches(SomeToken(3)));
  EXPECT_EQ(parsed->session, 5u);
  EXPECT_EQ(parsed->link, (LinkId{2, 7}));
}

TEST(LinkHello, CutAnywhereIsNone) {
  const auto data = SomeLinkHello().Encode();
  for (size_t size = 0; size < data.size(); ++size) {
    EXPECT_FALSE(LinkHello::Parse(std::span(data).first(size)).has_value());
  }
}

TEST(LinkHello, OfAnotherVersionTellsOnlyThat) {
  LinkHello hello = SomeLinkHello();
  hello.version = 2;
  const auto data = hello.Encode();
  const auto parsed = LinkHello::Parse(std::span(data).first(4));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->version, 2);
  EXPECT_TRUE(parsed->token.Matches(Token()));
}

TEST(LinkHello, AndConnectHelloAreNotTakenForEachOther) {
  EXPECT_FALSE(ConnectHello::Parse(SomeLinkHello().Encode()).has_value());
  EXPECT_FALSE(LinkHello::Parse(ConnectHello{.token = SomeToken(3)}.Encode())
                   .has_value());
}

TEST(RejectReason, ComesBackWithPaddingBehindIt) {
  const auto data = EncodeReject(RejectReason::kBadIndex);
  std::vector<std::byte> padded(data.begin(), data.end());
  padded.resize(148);
  EXPECT_EQ(ParseReject(padded), RejectReason::kBadIndex);
}

TEST(RejectReason, DataOfOthersIsNone) {
  EXPECT_FALSE(ParseReject({}).has_value());
  EXPECT_FALSE(ParseReject(std::vector<std::byte>(148)).has_value());
}

TEST(RejectReason, EachHasWordsOfItsOwn) {
  std::vector<absl::string_view> words;
  for (uint8_t reason = 1;
       reason <= static_cast<uint8_t>(kLastRejectReason) + 1; ++reason) {
    words.push_back(ToString(static_cast<RejectReason>(reason)));
  }
  EXPECT_THAT(words, ::testing::Each(::testing::Not(::testing::IsEmpty())));
  std::sort(words.begin(), words.end());
  EXPECT_EQ(std::unique(words.begin(), words.end()), words.end());
}

}  // namespace
}  // namespace nd::control
