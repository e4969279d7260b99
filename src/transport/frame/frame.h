// Frames, version 1: what two ends of a session say to each other. docs/wire.md
// is the specification; here are its values, as bytes and back.
#ifndef ND_TRANSPORT_FRAME_FRAME_H_
#define ND_TRANSPORT_FRAME_FRAME_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

#include "base/bytes.h"

namespace nd::transport {

inline constexpr uint8_t kFrameVersion = 1;
// Frames begin at multiples of this within a packet.
inline constexpr size_t kFrameAlignment = 8;
// Bytes of the text of Reset, Goodbye and Abort, and of the name of a stream.
inline constexpr size_t kMaxText = 252;
inline constexpr size_t kMaxStreamName = 255;
// What a message costs of its stream's window besides its bytes.
inline constexpr uint32_t kMessageCost = 256;

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

constexpr bool IsSequenced(FrameType type) { return type < FrameType::kCredit; }

// What docs/wire.md says of a type.
struct FrameFacts {
  std::string_view name;    // empty: no such type
  bool of_stream = false;   // the others have stream 0 and window 0
  uint32_t min_length = 0;  // of the payload
  uint32_t max_length = 0;

  constexpr bool known() const { return !name.empty(); }
};

// "Message", "Open", ...; "unknown" for what is no type.
std::string_view ToString(FrameType type);

// A field that the type does not have is 0: a writer has to leave it so, and a
// reader refuses it otherwise.
// What a stream's id says. Number 0 is nobody's: 0 is the session.
struct StreamId {
  static constexpr uint32_t kMaxNumber = (uint32_t{1} << 30) - 1;

  uint32_t number = 0;  // counted by each side and class, from 1
  MessageClass message_class = MessageClass::kLatency;
  bool by_client = false;  // who opened it

  constexpr uint32_t Encode() const {
    return number << 2 | static_cast<uint32_t>(message_class) << 1 |
           (by_client ? 1 : 0);
  }
  static constexpr StreamId Of(uint32_t id) {
    return {.number = id >> 2,
            .message_class = static_cast<MessageClass>(id >> 1 & 1),
            .by_client = (id & 1) != 0};
  }
  constexpr bool IsOf(MessageClass wanted) const {
    return message_class == wanted;
  }
  bool operator==(const StreamId&) const = default;
};

struct FrameHeader {
  static constexpr size_t kSize = 32;

  FrameType type = FrameType::kCredit;
  MessageClass message_class = MessageClass::kLatency;  // of sequenced types
  uint32_t stream = 0;    // of a stream's types, where it is never 0
  uint32_t sequence = 0;  // of sequenced types
  uint32_t length = 0;    // bytes of the payload
  uint32_t credits = 0;
  uint32_t window = 0;  // of a stream's types
  bool operator==(const FrameHeader&) const = default;
};

// Instead of a grant's slot in an immediate: a packet in the ring.
inline constexpr uint16_t kRingSlot = 0xffff;

// Payloads. Parse takes exactly what Write wrote; nothing for another length,
// for reserved bytes that are not zero, or for a value out of its range.
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
  uint32_t slot = 0;  // below kRingSlot
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
  uint32_t links = 0;   // by bit: those on which a mark has gone before
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
  // UTF-8, in the packet that it was parsed from. One longer than kMaxText is
  // written without its last characters.
  std::string_view text;
  size_t size() const;  // bytes that Write writes
  void Write(ByteWriter& out) const;
  static std::optional<Reason> Parse(std::span<const std::byte> payload);
  bool operator==(const Reason&) const = default;
};

// The immediate behind WRITEs: the whole transfer is there, or, as a mark, what
// this link has carried of it.
struct WrittenImmediate {
  static constexpr uint32_t kTransferMask = 0x7fff;

  uint16_t slot = 0;      // of the grant, not kRingSlot
  uint32_t transfer = 0;  // its lower 15 bits travel
  bool mark = false;
  constexpr uint32_t Encode() const {
    return (mark ? 1u << 31 : 0) | (transfer & kTransferMask) << 16 | slot;
  }
  static constexpr WrittenImmediate Decode(uint32_t immediate) {
    return {.slot = static_cast<uint16_t>(immediate),
            .transfer = immediate >> 16 & kTransferMask,
            .mark = immediate >> 31 != 0};
  }
  bool operator==(const WrittenImmediate&) const = default;
};

// Indexed by type, one entry for each byte.
inline constexpr auto kFrameFacts = [] {
  // As long as the packet is; its reader knows the eager limit.
  constexpr uint32_t kAny = std::numeric_limits<uint32_t>::max();
  constexpr uint32_t kReasonMin = 4;
  constexpr uint32_t kReasonMax = kReasonMin + kMaxText;
  constexpr bool kOfStream = true;
  std::array<FrameFacts, 256> facts;
  const auto of = [&](FrameType type) -> FrameFacts& {
    return facts[static_cast<uint8_t>(type)];
  };
  const auto one = [](std::string_view name, bool of_stream, size_t length) {
    return FrameFacts{name, of_stream, static_cast<uint32_t>(length),
                      static_cast<uint32_t>(length)};
  };
  of(FrameType::kMessage) = {"Message", kOfStream, 0, kAny};
  of(FrameType::kOpen) = {"Open", kOfStream, 0, kMaxStreamName};
  of(FrameType::kFinish) = one("Finish", kOfStream, 0);
  of(FrameType::kReset) = {"Reset", kOfStream, kReasonMin, kReasonMax};
  of(FrameType::kWindow) = one("Window", kOfStream, 0);
  of(FrameType::kRequest) = one("Request", kOfStream, Request::kSize);
  of(FrameType::kGrant) = one("Grant", kOfStream, Grant::kSize);
  of(FrameType::kWritten) = one("Written", kOfStream, Written::kSize);
  of(FrameType::kRevoke) = one("Revoke", kOfStream, Revoke::kSize);
  of(FrameType::kNotify) = one("Notify", kOfStream, Notify::kSize);
  of(FrameType::kGoodbye) = {"Goodbye", false, kReasonMin, kReasonMax};
  of(FrameType::kCredit) = one("Credit", false, 0);
  of(FrameType::kPing) = one("Ping", false, Probe::kSize);
  of(FrameType::kPong) = one("Pong", false, Probe::kSize);
  of(FrameType::kGone) = one("Gone", false, Gone::kSize);
  of(FrameType::kAbort) = {"Abort", false, kReasonMin, kReasonMax};
  return facts;
}();

// Of any byte, known or not.
constexpr const FrameFacts& FactsOf(FrameType type) {
  return kFrameFacts[static_cast<uint8_t>(type)];
}

// Whether the fields that the header's type does not have are 0, and its stream
// is there where the type has one.
constexpr bool HasOnlyItsFields(const FrameHeader& header) {
  const bool of_stream = FactsOf(header.type).of_stream;
  return (header.stream != 0) == of_stream &&
         (of_stream || header.window == 0) &&
         (IsSequenced(header.type) ||
          (header.sequence == 0 &&
           header.message_class == MessageClass::kLatency));
}

}  // namespace nd::transport

#endif  // ND_TRANSPORT_FRAME_FRAME_H_
