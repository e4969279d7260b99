// The opcodes of the BTH (IBA vol. 1, 9.2.1): what each carries and means.
#ifndef ND_SOFT_WIRE_OPCODE_H_
#define ND_SOFT_WIRE_OPCODE_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace nd::soft {

enum class Opcode : uint8_t {
  kRcSendFirst = 0x00,
  kRcSendMiddle = 0x01,
  kRcSendLast = 0x02,
  kRcSendLastImm = 0x03,
  kRcSendOnly = 0x04,
  kRcSendOnlyImm = 0x05,
  kRcWriteFirst = 0x06,
  kRcWriteMiddle = 0x07,
  kRcWriteLast = 0x08,
  kRcWriteLastImm = 0x09,
  kRcWriteOnly = 0x0a,
  kRcWriteOnlyImm = 0x0b,
  kRcReadRequest = 0x0c,
  kRcReadResponseFirst = 0x0d,
  kRcReadResponseMiddle = 0x0e,
  kRcReadResponseLast = 0x0f,
  kRcReadResponseOnly = 0x10,
  kRcAcknowledge = 0x11,
  kRcAtomicAcknowledge = 0x12,
  kRcCompareSwap = 0x13,
  kRcFetchAdd = 0x14,
  kRcSendLastInv = 0x16,
  kRcSendOnlyInv = 0x17,
  kUcSendFirst = 0x20,
  kUcSendMiddle = 0x21,
  kUcSendLast = 0x22,
  kUcSendLastImm = 0x23,
  kUcSendOnly = 0x24,
  kUcSendOnlyImm = 0x25,
  kUcWriteFirst = 0x26,
  kUcWriteMiddle = 0x27,
  kUcWriteLast = 0x28,
  kUcWriteLastImm = 0x29,
  kUcWriteOnly = 0x2a,
  kUcWriteOnlyImm = 0x2b,
  kUdSendOnly = 0x64,
  kUdSendOnlyImm = 0x65,
};

enum class Transport : uint8_t { kRc, kUc, kUd };

enum class PacketKind : uint8_t {
  kSend,
  kWrite,
  kReadRequest,
  kAtomicRequest,
  kReadResponse,
  kAcknowledge,
  kAtomicAcknowledge,
};

// Headers behind the BTH, in the order in which they stand there.
struct HeaderSet {
  bool deth = false;
  bool reth = false;
  bool atomic_eth = false;
  bool aeth = false;
  bool atomic_ack_eth = false;
  bool imm_dt = false;
  bool ieth = false;

  bool operator==(const HeaderSet&) const = default;
};

struct OpcodeFacts {
  const char* name = nullptr;  // null: no opcode of ours
  Transport transport = Transport::kRc;
  PacketKind kind = PacketKind::kSend;
  bool first = true;  // packet of its message
  bool last = true;
  bool payload = false;  // may carry one
  HeaderSet headers{};

  constexpr bool known() const { return name != nullptr; }
  constexpr bool is_response() const {
    return kind == PacketKind::kReadResponse ||
           kind == PacketKind::kAcknowledge ||
           kind == PacketKind::kAtomicAcknowledge;
  }
  size_t header_bytes() const;  // all headers, with the BTH
};

const OpcodeFacts& FactsOf(Opcode opcode);

// How a message of SENDs or WRITEs ends.
enum class Ending : uint8_t { kPlain, kImmediate, kInvalidate };

// The opcode of a packet of a SEND or WRITE. Only a RC SEND can invalidate, and
// only UD has no parts: `first` and `last` are set there.
Opcode MessageOpcode(Transport transport, PacketKind kind, bool first,
                     bool last, Ending ending);

// The opcode of a packet of a READ's answer.
Opcode ReadResponseOpcode(bool first, bool last);

}  // namespace nd::soft

#endif  // ND_SOFT_WIRE_OPCODE_H_
