#include "soft/wire/icrc.h"

#include <isa-l/crc.h>

#include <array>

#include "base/byte_order.h"
#include "base/bytes.h"
#include "soft/wire/headers.h"

namespace nd::soft {
namespace {

constexpr size_t kLrhBytes = 8;  // that a RoCE packet does not have
constexpr size_t kIpv4Bytes = 20;
constexpr size_t kIpv6Bytes = 40;
constexpr size_t kUdpBytes = 8;
constexpr size_t kLongestPseudo =
    kLrhBytes + kIpv6Bytes + kUdpBytes + Bth::kSize;
constexpr size_t kCongestionOffset = 4;  // in the BTH

constexpr uint8_t kUdpProtocol = 17;
constexpr uint16_t kDontFragment = 0x4000;

// From the start of the identification to the end of the IPv4 header.
constexpr size_t kFromIdentification = kIpv4Bytes - 4;

constexpr uint32_t kPolynomial = 0xedb88320;

// `register_value` of the reflected CRC, one bit of input earlier.
constexpr uint32_t StepBack(uint32_t register_value) {
  return (register_value & 0x80000000) != 0
             ? ((register_value ^ kPolynomial) << 1) | 1
             : register_value << 1;
}

// The register's steps are linear: a map is known by what it makes of each bit.
using Map = std::array<uint32_t, 32>;

constexpr uint32_t Apply(const Map& map, uint32_t value) {
  uint32_t result = 0;
  for (int bit = 0; value != 0; ++bit, value >>= 1) {
    if ((value & 1) != 0) result ^= map[bit];
  }
  return result;
}

// kBytesBack[i] steps 2^i bytes back.
constexpr auto kBytesBack = [] {
  std::array<Map, 14> maps{};
  for (int bit = 0; bit < 32; ++bit) {
    uint32_t value = uint32_t{1} << bit;
    for (int step = 0; step < 8; ++step) value = StepBack(value);
    maps[0][bit] = value;
  }
  for (size_t i = 1; i < maps.size(); ++i) {
    for (int bit = 0; bit < 32; ++bit) {
      maps[i][bit] = Apply(maps[i - 1], maps[i - 1][bit]);
    }
  }
  return maps;
}();

uint32_t StepBytesBack(uint32_t value, size_t bytes) {
  for (size_t i = 0; i < kBytesBack.size(); ++i) {
    if ((bytes >> i & 1) != 0) value = Apply(kBytesBack[i], value);
  }
  return value;
}

void WriteIpv4(const NetHeaders& headers, size_t udp_bytes,
               ByteWriter& writer) {
  writer.WriteU8(0x45);
  writer.WriteU8(0xff);  // type of service
  writer.WriteBe16(static_cast<uint16_t>(kIpv4Bytes + udp_bytes));
  writer.WriteBe16(headers.identification);
  writer.WriteBe16(headers.dont_fragment ? kDontFragment : 0);
  writer.WriteU8(0xff);  // time to live
  writer.WriteU8(kUdpProtocol);
  writer.WriteBe16(0xffff);  // checksum
  writer.WriteBytes(
      std::span<const uint8_t>(headers.source).subspan(kMappedPrefix.size()));
  writer.WriteBytes(std::span<const uint8_t>(headers.destination)
                        .subspan(kMappedPrefix.size()));
}

void WriteIpv6(const NetHeaders& headers, size_t udp_bytes,
               ByteWriter& writer) {
  writer.WriteBe32(0x6fffffff);  // traffic class and flow label
  writer.WriteBe16(static_cast<uint16_t>(udp_bytes));
  writer.WriteU8(kUdpProtocol);
  writer.WriteU8(0xff);  // hop limit
  writer.WriteBytes(std::span<const uint8_t>(headers.source));
  writer.WriteBytes(std::span<const uint8_t>(headers.destination));
}

}  // namespace

uint32_t BeginIcrc(const NetHeaders& headers, std::span<const std::byte> begin,
                   size_t packet_bytes) {
  const size_t udp_bytes = kUdpBytes + packet_bytes + kIcrcBytes;
  std::array<std::byte, kLongestPseudo> pseudo;
  ByteWriter writer{std::span<std::byte>(pseudo)};
  for (size_t i = 0; i < kLrhBytes; ++i) writer.WriteU8(0xff);
  if (headers.is_ipv4()) {
    WriteIpv4(headers, udp_bytes, writer);
  } else {
    WriteIpv6(headers, udp_bytes, writer);
  }
  writer.WriteBe16(headers.source_port);
  writer.WriteBe16(headers.destination_port);
  writer.WriteBe16(static_cast<uint16_t>(udp_bytes));
  writer.WriteBe16(0xffff);  // checksum
  writer.WriteBytes(begin.first(kCongestionOffset));
  writer.WriteU8(0xff);  // FECN, BECN, reserved
  writer.WriteBytes(
      begin.subspan(kCongestionOffset + 1, Bth::kSize - kCongestionOffset - 1));
  return ExtendIcrc(ExtendIcrc(0, writer.written()), begin.subspan(Bth::kSize));
}

uint32_t ExtendIcrc(uint32_t icrc, std::span<const std::byte> bytes) {
  if (bytes.empty()) return icrc;
  return crc32_gzip_refl(
      icrc, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

uint32_t Icrc(const NetHeaders& headers, std::span<const std::byte> packet) {
  return BeginIcrc(headers, packet, packet.size());
}

Sealed Unseal(std::span<const std::byte> datagram) {
  if (datagram.size() < Bth::kSize + kIcrcBytes) return {};
  return {.packet = datagram.first(datagram.size() - kIcrcBytes),
          .icrc = static_cast<uint32_t>(
              LoadUint<std::endian::little>(datagram.last<kIcrcBytes>()))};
}

void StoreIcrc(uint32_t icrc, std::span<std::byte, kIcrcBytes> out) {
  StoreUint<std::endian::little>(out, icrc);
}

// A CRC is linear: what another identification changes in it is the CRC of that
// difference alone. Stepped back to where the identification stands, the
// difference shows there, and nowhere else if that is all that differs.
bool IcrcMatches(const NetHeaders& headers, const Sealed& sealed) {
  const uint32_t difference = Icrc(headers, sealed.packet) ^ sealed.icrc;
  if (difference == 0) return true;
  if (!headers.is_ipv4()) return false;
  const uint32_t at_identification = StepBytesBack(
      difference, kFromIdentification + kUdpBytes + sealed.packet.size());
  return (at_identification >> 16) == 0;
}

}  // namespace nd::soft
