#include "control/token.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"

namespace nd::control {
namespace {

constexpr std::array<std::byte, 4> kHelloMagic = {
    std::byte{'n'}, std::byte{'d'}, std::byte{'C'}, std::byte{'1'}};
constexpr std::array<std::byte, 4> kRejectMagic = {
    std::byte{'n'}, std::byte{'d'}, std::byte{'R'}, std::byte{'1'}};

constexpr std::array<std::byte, 3> kLinkMagic = {std::byte{'n'}, std::byte{'d'},
                                                 std::byte{'S'}};

static_assert(LinkHello::kSize == kLinkMagic.size() + sizeof(uint8_t) +
                                      Token::kSize + sizeof(uint64_t) +
                                      2 * sizeof(uint32_t));
static_assert(ConnectHello::kSize ==
              kHelloMagic.size() + Token::kSize + sizeof(uint32_t));

}  // namespace

Token Token::Generate(Random& random) {
  Token token;
  random.Fill(token.bytes_);
  return token;
}

absl::StatusOr<Token> Token::FromBytes(absl::string_view bytes) {
  if (bytes.size() != kSize) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a token has ", kSize, " bytes, this one has ", bytes.size()));
  }
  Token token;
  std::ranges::transform(bytes, token.bytes_.begin(), [](char c) {
    return static_cast<std::byte>(static_cast<unsigned char>(c));
  });
  return token;
}

std::string Token::bytes() const {
  return std::string(reinterpret_cast<const char*>(bytes_.data()),
                     bytes_.size());
}

bool Token::Matches(const Token& other) const {
  std::byte difference{0};
  for (size_t i = 0; i < kSize; ++i) difference |= bytes_[i] ^ other.bytes_[i];
  return difference == std::byte{0};
}

std::array<std::byte, ConnectHello::kSize> ConnectHello::Encode() const {
  std::array<std::byte, kSize> data{};
  ByteWriter writer(data);
  writer.WriteBytes(kHelloMagic);
  writer.WriteBytes(token.bytes_);
  writer.WriteBe32(index);
  return data;
}

std::optional<ConnectHello> ConnectHello::Parse(
    std::span<const std::byte> data) {
  ByteReader reader(data);
  const std::span<const std::byte> magic = reader.ReadView(kHelloMagic.size());
  ConnectHello hello;
  reader.ReadBytes(hello.token.bytes_);
  hello.index = reader.ReadBe32();
  if (!reader.ok() || !std::ranges::equal(magic, kHelloMagic)) {
    return std::nullopt;
  }
  return hello;
}

std::array<std::byte, LinkHello::kSize> LinkHello::Encode() const {
  std::array<std::byte, kSize> data{};
  ByteWriter writer(data);
  writer.WriteBytes(kLinkMagic);
  writer.WriteU8(version);
  writer.WriteBytes(token.bytes_);
  writer.WriteBe64(session);
  writer.WriteBe32(link.number);
  writer.WriteBe32(link.incarnation);
  return data;
}

std::optional<LinkHello> LinkHello::Parse(std::span<const std::byte> data) {
  ByteReader reader(data);
  const std::span<const std::byte> magic = reader.ReadView(kLinkMagic.size());
  LinkHello hello;
  hello.version = reader.ReadU8();
  if (!reader.ok() || !std::ranges::equal(magic, kLinkMagic)) {
    return std::nullopt;
  }
  if (hello.version != kVersion) return hello;
  reader.ReadBytes(hello.token.bytes_);
  hello.session = reader.ReadBe64();
  hello.link.number = reader.ReadBe32();
  hello.link.incarnation = reader.ReadBe32();
  if (!reader.ok()) return std::nullopt;
  return hello;
}

absl::string_view ToString(RejectReason reason) {
  switch (reason) {
    case RejectReason::kNoHello:
      return "the request carries no token; this port serves nd's clients only";
    case RejectReason::kUnknownToken:
      return "the token was never given out, or has expired";
    case RejectReason::kUsedToken:
      return "the token was used for this connection already";
    case RejectReason::kBadIndex:
      return "more connections than were agreed";
    case RejectReason::kBusy:
      return "too many connection requests wait";
    case RejectReason::kShuttingDown:
      return "the server is shutting down";
    case RejectReason::kUnknownVersion:
      return "the request is of a version that the server does not know";
    case RejectReason::kOtherSession:
      return "the token was given out for another session";
    case RejectReason::kOldIncarnation:
      return "a later token was given out for that link";
  }
  return "a reason that this version does not know";
}

std::array<std::byte, 5> EncodeReject(RejectReason reason) {
  std::array<std::byte, 5> data{};
  ByteWriter writer(data);
  writer.WriteBytes(kRejectMagic);
  writer.WriteU8(static_cast<uint8_t>(reason));
  return data;
}

std::optional<RejectReason> ParseReject(std::span<const std::byte> data) {
  ByteReader reader(data);
  const std::span<const std::byte> magic = reader.ReadView(kRejectMagic.size());
  const uint8_t reason = reader.ReadU8();
  if (!reader.ok() || !std::ranges::equal(magic, kRejectMagic)) {
    return std::nullopt;
  }
  return static_cast<RejectReason>(reason);
}

}  // namespace nd::control
