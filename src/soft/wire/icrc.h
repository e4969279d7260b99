// The invariant CRC: what protects a RoCEv2 packet from end to end (IBA vol. 1,
// 7.8.1; annex A17.3.3).
#ifndef ND_SOFT_WIRE_ICRC_H_
#define ND_SOFT_WIRE_ICRC_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "soft/wire/gid.h"

namespace nd::soft {

inline constexpr uint16_t kRoceUdpPort = 4791;
inline constexpr size_t kIcrcBytes = 4;

// What the ICRC covers of the headers in front of the BTH. Traffic class, hop
// limit, flow label and checksums do not count.
struct NetHeaders {
  Gid source{};
  Gid destination{};
  uint16_t source_port = 0;
  uint16_t destination_port = kRoceUdpPort;
  uint16_t identification = 0;  // IPv4; 0 is what Linux sends with
                                // IP_MTU_DISCOVER set to DO or PROBE
  bool dont_fragment = true;    // IPv4

  bool is_ipv4() const { return IsIpv4(source); }
  bool operator==(const NetHeaders&) const = default;
};

// The ICRC of a packet whose bytes from the BTH to the pad are `packet`, at
// least a BTH: the number that stands behind it, least significant byte first.
uint32_t Icrc(const NetHeaders& headers, std::span<const std::byte> packet);

// The same of a packet in pieces: it begins with one that is at least a BTH, of
// a packet that will have `packet_bytes`, and goes on with the others.
uint32_t BeginIcrc(const NetHeaders& headers, std::span<const std::byte> begin,
                   size_t packet_bytes);
uint32_t ExtendIcrc(uint32_t icrc, std::span<const std::byte> bytes);

// A datagram's payload as it was received: a packet and its ICRC.
struct Sealed {
  std::span<const std::byte> packet;  // BTH to pad
  uint32_t icrc = 0;
};
// Empty packet: shorter than a BTH and an ICRC.
Sealed Unseal(std::span<const std::byte> datagram);

// Stores `icrc` behind a packet.
void StoreIcrc(uint32_t icrc, std::span<std::byte, kIcrcBytes> out);

// Whether the packet is whole. headers.identification does not count: a plain
// UDP socket does not tell the IPv4 identification of what it received, so any
// is allowed, which leaves a check of 16 bits; over IPv6 it is of 32.
bool IcrcMatches(const NetHeaders& headers, const Sealed& sealed);

}  // namespace nd::soft

#endif  // ND_SOFT_WIRE_ICRC_H_
