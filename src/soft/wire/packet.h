// A packet from its BTH to its pad: bytes to values and back.
#ifndef ND_SOFT_WIRE_PACKET_H_
#define ND_SOFT_WIRE_PACKET_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/strings/string_view.h"
#include "base/bytes.h"
#include "soft/wire/headers.h"
#include "soft/wire/opcode.h"

namespace nd::soft {

// Payload that still lies in the memory of the process of this host that sends
// it.
class FarPayload {
 public:
  explicit FarPayload(size_t size) : size_(size) {}
  virtual ~FarPayload() = default;

  size_t size() const { return size_; }
  // Copies it to `pieces`, which are as long together. False: it is not to be
  // had any more, and what the pieces hold means nothing.
  [[nodiscard]] virtual bool CopyTo(
      std::span<const std::span<std::byte>> pieces) const = 0;

 private:
  const size_t size_;
};

// Which of the headers count follows from the opcode. The payload refers to the
// bytes that were parsed, or that are to be sent.
struct Packet {
  Bth bth;
  Deth deth{};
  Reth reth{};
  AtomicEth atomic_eth{};
  Aeth aeth{};
  AtomicAckEth atomic_ack_eth{};
  ImmDt imm_dt{};
  Ieth ieth{};
  std::span<const std::byte> payload{};  // without the pad

  // Within a host several packets of a RC message, with consecutive PSNs, go at
  // a time: the headers of the first, the payloads of all, and the part of the
  // message that they are together in the opcode. On a wire there is one.
  uint8_t packets = 1;
  // Their payload, where `payload` is empty for it. Good as long as `payload`.
  const FarPayload* far = nullptr;

  size_t payload_bytes() const { return far ? far->size() : payload.size(); }
  const OpcodeFacts& facts() const { return FactsOf(bth.opcode); }
};

// Why bytes are no packet. All of these are dropped without an answer.
enum class PacketFault : uint8_t {
  kNone,
  kTooShort,  // for its headers, or for the pad it claims
  kBadVersion,
  kUnknownOpcode,
  kStrayPayload,  // of an opcode that carries none
};
absl::string_view ToString(PacketFault fault);

// `bytes` from the BTH to the pad, without the ICRC; they must outlive
// `packet`.
[[nodiscard]] PacketFault Parse(std::span<const std::byte> bytes,
                                Packet& packet);

// The pad that a payload needs, 0 to 3 bytes (IBA vol. 1, 9.2.3).
constexpr uint8_t PadFor(size_t payload_bytes) {
  return static_cast<uint8_t>(-payload_bytes & 3);
}

// Bytes of the packet from the BTH to the pad.
size_t WireBytes(const Packet& packet);

// Writes headers, payload and pad; bth.pad says how long that is.
void Write(const Packet& packet, ByteWriter& writer);
// Headers only, for senders that gather the payload themselves.
void WriteHeaders(const Packet& packet, ByteWriter& writer);

}  // namespace nd::soft

#endif  // ND_SOFT_WIRE_PACKET_H_
