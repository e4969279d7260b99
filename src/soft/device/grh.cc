#include "soft/device/grh.h"

#include <algorithm>
#include <cstdint>

#include "base/byte_order.h"
#include "soft/wire/icrc.h"

namespace nd::soft {
namespace {

constexpr size_t kIpv4Bytes = 20;
constexpr size_t kUdpBytes = 8;
constexpr size_t kIpv4At = kGrhBytes - kIpv4Bytes;
constexpr size_t kAddressAt4 = kMappedPrefix.size();
constexpr uint8_t kUdpProtocol = 17;
constexpr uint32_t kFlowMask = 0xfffff;

void Store8(std::byte* out, uint32_t value) {
  *out = static_cast<std::byte>(value);
}

void Store16(std::byte* out, uint32_t value) {
  Store8(out, value >> 8);
  Store8(out + 1, value & 0xff);
}

uint32_t Load8(const std::byte& in) { return static_cast<uint32_t>(in); }

// RFC 1071.
uint32_t HeaderChecksum(std::span<const std::byte> header) {
  uint32_t sum = 0;
  for (size_t i = 0; i < header.size(); i += 2) {
    sum += Load8(header[i]) << 8 | Load8(header[i + 1]);
  }
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

void WriteIpv4(const Path& path, size_t udp_bytes,
               std::span<std::byte, kIpv4Bytes> out) {
  Store8(&out[0], 0x45);
  Store8(&out[1], path.traffic_class);
  Store16(&out[2], static_cast<uint32_t>(kIpv4Bytes + udp_bytes));
  Store16(&out[6], 0x4000);  // do not fragment
  Store8(&out[8], path.hop_limit);
  Store8(&out[9], kUdpProtocol);
  for (size_t i = 0; i < 4; ++i) {
    Store8(&out[12 + i], path.source[kAddressAt4 + i]);
    Store8(&out[16 + i], path.destination[kAddressAt4 + i]);
  }
  Store16(&out[10], HeaderChecksum(out));
}

void WriteIpv6(const Path& path, size_t udp_bytes,
               std::span<std::byte, kGrhBytes> out) {
  const uint32_t first = 6u << 28 | uint32_t{path.traffic_class} << 20 |
                         (path.flow_label & kFlowMask);
  Store16(&out[0], first >> 16);
  Store16(&out[2], first & 0xffff);
  Store16(&out[4], static_cast<uint32_t>(udp_bytes));
  Store8(&out[6], kUdpProtocol);
  Store8(&out[7], path.hop_limit);
  for (size_t i = 0; i < path.source.size(); ++i) {
    Store8(&out[8 + i], path.source[i]);
    Store8(&out[24 + i], path.destination[i]);
  }
}

Gid AddressAt(std::span<const std::byte> bytes, bool ipv4) {
  Gid gid{};
  const size_t from = ipv4 ? kAddressAt4 : 0;
  for (size_t i = from; i < gid.size(); ++i) {
    gid[i] = static_cast<uint8_t>(bytes[i - from]);
  }
  return ipv4 ? Mapped(gid) : gid;
}

}  // namespace

std::array<std::byte, kGrhBytes> MakeGrh(const Path& path,
                                         const Packet& packet) {
  std::array<std::byte, kGrhBytes> grh{};
  const size_t udp_bytes = kUdpBytes + WireBytes(packet) + kIcrcBytes;
  if (IsIpv4(path.source)) {
    WriteIpv4(path, udp_bytes, std::span(grh).subspan<kIpv4At>());
  } else {
    WriteIpv6(path, udp_bytes, grh);
  }
  return grh;
}

std::optional<Path> ReadGrh(std::span<const std::byte, kGrhBytes> grh) {
  const auto ipv4 = grh.subspan<kIpv4At>();
  if (Load8(ipv4[0]) == 0x45 && HeaderChecksum(ipv4) == 0) {
    return Path{.source = AddressAt(ipv4.subspan(16), true),
                .destination = AddressAt(ipv4.subspan(12), true),
                .traffic_class = static_cast<uint8_t>(ipv4[1]),
                .hop_limit = 0xff};
  }
  if (Load8(grh[0]) >> 4 != 6) return std::nullopt;
  const uint32_t first = Load8(grh[0]) << 24 | Load8(grh[1]) << 16 |
                         Load8(grh[2]) << 8 | Load8(grh[3]);
  return Path{.source = AddressAt(grh.subspan(24), false),
              .destination = AddressAt(grh.subspan(8), false),
              .flow_label = first & kFlowMask,
              .traffic_class = static_cast<uint8_t>(first >> 20),
              .hop_limit = 0xff};
}

}  // namespace nd::soft
