// Frames, version 1: what two ends of a session say to each other. docs/wire.md
// is the specification; here are its values, as bytes and back.
#ifndef ND_TRANSPORT_FRAME_FRAME_H_
#define ND_TRANSPORT_FRAME_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/bytes.h"

namespace nd::transport {

inline constexpr uint8_t kFrameVersion = 1;
// Frames begin at multiples of this within a packet.
inline constexpr size_t kFrameAlignment = 8;
// Text of Reset, Goodbye and Abort, and the name of a stream.
inline constexpr size_t kMaxText = 252;
inline constexpr size_t kMaxStreamName = 255;

// Whose lane a frame belongs to.
enum class MessageClass : uint8_t { kLatency = 0, kBulk = 1 };
inline constexpr size_t kMessageClasses = 2;

enum class FrameType : uint8_t {
  // Sequenced: once and in order, whatever happens to links.
  kMessage = 1,
  kOpen = 2,
  kFinish = 3,
  kReset = 4,
  kWindow = 5,
  kRequest = 6,
  kGrant = 7,
  kWritten = 8,
  kRevoke = 9,
  kNotify = 10,
  kGoodbye = 11,
  // About the link they come by.
  kCredit = 16,
  kPing = 17,
  kPong = 18,
  kGone = 19,
  kAbort = 20,
};

std::string_view ToString(FrameType type);  // "Message", "Open", ...
constexpr bool IsSequenced(FrameType type) { return type < FrameType::kCredit; }

struct FrameHeader {
  static constexpr size_t kSize = 32;

  FrameType type = FrameType::kCredit;
  MessageClass message_class = MessageClass::kLatency;
  uint32_t stream = 0;
  uint32_t sequence = 0;
  uint32_t length = 0;  // bytes of the payload
  uint32_t credits = 0;
  uint32_t window = 0;
  bool operator==(const FrameHeader&) const = default;
};

// Payloads. Parse takes exactly what Write wrote; nothing for another length or
// for reserved bytes that are not zero.
struct Request {
  static constexpr size_t kSize = 16;
  uint32_t transfer = 0;
  uint64_t size = 0;
  void Write(ByteWriter& out) const;
  static std::optional<Request> Parse(std::span<const std::byte> payload);
  bool operator==(const Request&) const = default;
};

struct Grant {
  static constexpr size_t kSize = 32;
  uint32_t transfer = 0;
  uint32_t slot = 0;  // below 2^16
  uint64_t address = 0;
  uint32_t rkey = 0;
  uint64_t size = 0;
  void Write(ByteWriter& out) const;
  static std::optional<Grant> Parse(std::span<const std::byte> payload);
  bool operator==(const Grant&) const = default;
};

enum class WrittenStatus : uint32_t { kDone = 0, kCancelled = 1, kRevoked = 2 };

struct Written {
  static constexpr size_t kSize = 16;
  uint32_t transfer = 0;
  WrittenStatus status = WrittenStatus::kDone;
  uint32_t digest = 0;  // CRC32C of all bytes, where the layout asks for it
  void Write(ByteWriter& out) const;
  static std::optional<Written> Parse(std::span<const std::byte> payload);
  bool operator==(const Written&) const = default;
};

struct Revoke {
  static constexpr size_t kSize = 8;
  uint32_t transfer = 0;
  void Write(ByteWriter& out) const;
  static std::optional<Revoke> Parse(std::span<const std::byte> payload);
  bool operator==(const Revoke&) const = default;
};

struct Notify {
  static constexpr size_t kSize = 32;
  uint64_t region = 0;
  uint64_t offset = 0;
  uint64_t size = 0;
  uint32_t immediate = 0;
  void Write(ByteWriter& out) const;
  static std::optional<Notify> Parse(std::span<const std::byte> payload);
  bool operator==(const Notify&) const = default;
};

// Of Ping and Pong.
struct Probe {
  static constexpr size_t kSize = 8;
  uint64_t number = 0;
  void Write(ByteWriter& out) const;
  static std::optional<Probe> Parse(std::span<const std::byte> payload);
  bool operator==(const Probe&) const = default;
};

struct Gone {
  static constexpr size_t kSize = 12;
  uint32_t link = 0;
  uint32_t incarnation = 0;
  uint32_t received = 0;  // receives consumed, modulo 2^32
  void Write(ByteWriter& out) const;
  static std::optional<Gone> Parse(std::span<const std::byte> payload);
  bool operator==(const Gone&) const = default;
};

// Of Reset, Goodbye and Abort: why, by Abseil's canonical codes and in words.
struct Reason {
  uint32_t code = 0;
  std::string_view text;  // longer ones are cut to kMaxText
  size_t size() const;    // bytes that Write writes
  void Write(ByteWriter& out) const;
  static std::optional<Reason> Parse(std::span<const std::byte> payload);
  bool operator==(const Reason&) const = default;
};

// The immediate that ends a transfer without a Written frame.
struct WrittenImmediate {
  uint16_t slot = 0;      // of the grant
  uint16_t transfer = 0;  // its lower bits
  constexpr uint32_t Encode() const { return uint32_t{transfer} << 16 | slot; }
  static constexpr WrittenImmediate Decode(uint32_t immediate) {
    return {.slot = static_cast<uint16_t>(immediate),
            .transfer = static_cast<uint16_t>(immediate >> 16)};
  }
  bool operator==(const WrittenImmediate&) const = default;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_FRAME_FRAME_H_
