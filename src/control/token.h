// What a REQ carries in its private data to prove that it was invited, and what
// a REJ says about why it was not let in.
#ifndef ND_CONTROL_TOKEN_H_
#define ND_CONTROL_TOKEN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/random.h"

namespace nd::control {

// 128 random bits, handed out over gRPC and shown in the REQ. Never logged:
// there is no way to print one.
class Token {
 public:
  static constexpr size_t kSize = 16;

  static Token Generate(Random& random);
  static absl::StatusOr<Token> FromBytes(absl::string_view bytes);

  std::string bytes() const;
  // Takes the same time wherever the first difference is.
  bool Matches(const Token& other) const;

 private:
  friend struct ConnectHello;
  friend struct LinkHello;
  std::array<std::byte, kSize> bytes_{};
};

// The private data of a REQ: "ndC1", the token, the connection's index; 24
// bytes, big-endian.
struct ConnectHello {
  static constexpr size_t kSize = 24;

  Token token;
  uint32_t index = 0;  // which of the test's connections, from 0

  std::array<std::byte, kSize> Encode() const;
  // Nothing when it is too short or not a hello; padding behind is ignored.
  static std::optional<ConnectHello> Parse(std::span<const std::byte> data);
};

// A connection of a session, and how often one of that number was made before.
struct LinkId {
  uint32_t number = 0;
  uint32_t incarnation = 0;
  bool operator==(const LinkId&) const = default;
};

// The private data of a session's REQ: "ndS", the version, the token, the
// session, the link's number and incarnation; 36 bytes, big-endian.
struct LinkHello {
  static constexpr size_t kSize = 36;
  static constexpr uint8_t kVersion = 1;

  uint8_t version = kVersion;
  Token token;
  uint64_t session = 0;
  LinkId link;

  std::array<std::byte, kSize> Encode() const;
  // Nothing when it is no hello or too short; padding behind is ignored. Of
  // another version only `version` is known.
  static std::optional<LinkHello> Parse(std::span<const std::byte> data);
};

// Why a listener said no; the first byte behind "ndR1" of a REJ's private data.
enum class RejectReason : uint8_t {
  kNoHello = 1,       // no token at all: not one of nd's clients
  kUnknownToken = 2,  // never given out, or expired
  kUsedToken = 3,     // that connection was made already
  kBadIndex = 4,      // beyond the number of connections agreed
  kBusy = 5,          // too many requests wait
  kShuttingDown = 6,
  kUnknownVersion = 7,  // of the private data
  kOtherSession = 8,    // the token was given out for another one
  kOldIncarnation = 9,  // a later token was given out for that link
};
inline constexpr RejectReason kLastRejectReason = RejectReason::kOldIncarnation;

absl::string_view ToString(RejectReason reason);
std::array<std::byte, 5> EncodeReject(RejectReason reason);
std::optional<RejectReason> ParseReject(std::span<const std::byte> data);

}  // namespace nd::control

#endif  // ND_CONTROL_TOKEN_H_
