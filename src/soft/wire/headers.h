// The transport headers, as values (IBA vol. 1, 9.2 and 9.3). Each reads and
// writes itself; a reader that ran out of bytes says so with ok(). Reserved
// bits are kept where the ICRC covers them, so that a packet written again is
// the same.
#ifndef ND_SOFT_WIRE_HEADERS_H_
#define ND_SOFT_WIRE_HEADERS_H_

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "soft/wire/opcode.h"
#include "soft/wire/serial.h"
#include "soft/wire/syndrome.h"

namespace nd::soft {

inline constexpr uint16_t kDefaultPkey = 0xffff;

// Base Transport Header (9.2).
struct Bth {
  static constexpr size_t kSize = 12;

  Opcode opcode = Opcode::kRcSendOnly;
  bool solicited = false;
  bool mig_req = false;
  uint8_t pad = 0;      // bytes behind the payload, 0 to 3
  uint8_t version = 0;  // of the header: 0, 4 bits
  uint16_t pkey = kDefaultPkey;
  uint8_t congestion = 0;  // FECN, BECN and 6 reserved bits
  Qpn destination{};
  bool ack_req = false;
  uint8_t reserved = 0;  // 7 bits
  Psn psn;

  static Bth Read(ByteReader& reader);
  void Write(ByteWriter& writer) const;
  bool operator==(const Bth&) const = default;
};

// Datagram Extended Transport Header.
struct Deth {
  static constexpr size_t kSize = 8;

  Qkey qkey{};
  uint8_t reserved = 0;
  Qpn source{};

  static Deth Read(ByteReader& reader);
  void Write(ByteWriter& writer) const;
  bool operator==(const Deth&) const = default;
};

// RDMA Extended Transport Header.
struct Reth {
  static constexpr size_t kSize = 16;

  uint64_t address = 0;
  Rkey rkey{};
  uint32_t length = 0;  // bytes of the whole message

  static Reth Read(ByteReader& reader);
  void Write(ByteWriter& writer) const;
  bool operator==(const Reth&) const = default;
};

// Atomic Extended Transport Header.
struct AtomicEth {
  static constexpr size_t kSize = 28;

  uint64_t address = 0;
  Rkey rkey{};
  uint64_t swap_or_add = 0;
  uint64_t compare = 0;  // COMPARE_SWAP

  static AtomicEth Read(ByteReader& reader);
  void Write(ByteWriter& writer) const;
  bool operator==(const AtomicEth&) const = default;
};

// ACK Extended Transport Header (9.3.5).
struct Aeth {
  static constexpr size_t kSize = 4;

  Syndrome syndrome;
  Msn msn;

  static Aeth Read(ByteReader& reader);
  void Write(ByteWriter& writer) const;
  bool operator==(const Aeth&) const = default;
};

// Atomic ACK Extended Transport Header.
struct AtomicAckEth {
  static constexpr size_t kSize = 8;

  uint64_t original = 0;  // what was there before

  static AtomicAckEth Read(ByteReader& reader);
  void Write(ByteWriter& writer) const;
  bool operator==(const AtomicAckEth&) const = default;
};

// Immediate Data (9.3.6), as the application gives it: in network order.
struct ImmDt {
  static constexpr size_t kSize = 4;

  uint32_t value = 0;  // the 32 bits read as a big-endian number

  static ImmDt Read(ByteReader& reader);
  void Write(ByteWriter& writer) const;
  bool operator==(const ImmDt&) const = default;
};

// Invalidate Extended Transport Header (9.3.7).
struct Ieth {
  static constexpr size_t kSize = 4;

  Rkey rkey{};

  static Ieth Read(ByteReader& reader);
  void Write(ByteWriter& writer) const;
  bool operator==(const Ieth&) const = default;
};

}  // namespace nd::soft

#endif  // ND_SOFT_WIRE_HEADERS_H_
