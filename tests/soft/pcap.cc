#include "soft/pcap.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"

namespace nd::soft {
namespace {

constexpr uint32_t kMagic = 0xa1b2c3d4;
constexpr uint32_t kEthernet = 1;
constexpr uint16_t kTypeIpv4 = 0x0800;
constexpr uint16_t kTypeIpv6 = 0x86dd;
constexpr uint8_t kUdp = 17;

std::vector<char> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(absl::StrCat("cannot open ", path));
  return {std::istreambuf_iterator<char>(file), {}};
}

void ReadMapped(ByteReader& reader, Gid& gid) {
  reader.ReadBytes(std::span<uint8_t>(gid).subspan(kMappedPrefix.size()));
  gid = Mapped(gid);
}

// The IP header; false for what is not UDP over it.
bool ReadIp(uint16_t type, ByteReader& reader, NetHeaders& headers) {
  if (type == kTypeIpv4) {
    if (reader.ReadU8() != 0x45) return false;
    reader.Skip(3);
    headers.identification = reader.ReadBe16();
    headers.dont_fragment = (reader.ReadBe16() & 0x4000) != 0;
    reader.Skip(1);
    const uint8_t protocol = reader.ReadU8();
    reader.Skip(2);
    ReadMapped(reader, headers.source);
    ReadMapped(reader, headers.destination);
    return protocol == kUdp;
  }
  if (type != kTypeIpv6) return false;
  reader.Skip(6);
  const uint8_t protocol = reader.ReadU8();
  reader.Skip(1);
  reader.ReadBytes(std::span<uint8_t>(headers.source));
  reader.ReadBytes(std::span<uint8_t>(headers.destination));
  return protocol == kUdp;
}

std::optional<CapturedDatagram> ReadFrame(std::span<const std::byte> frame) {
  ByteReader reader(frame);
  reader.Skip(12);
  CapturedDatagram datagram;
  if (!ReadIp(reader.ReadBe16(), reader, datagram.headers)) return std::nullopt;
  datagram.headers.source_port = reader.ReadBe16();
  datagram.headers.destination_port = reader.ReadBe16();
  const uint16_t udp_length = reader.ReadBe16();
  reader.Skip(2);
  if (!reader.ok() || udp_length < 8 ||
      datagram.headers.destination_port != kRoceUdpPort) {
    return std::nullopt;
  }
  const auto payload = reader.ReadView(udp_length - 8u);
  if (!reader.ok()) return std::nullopt;
  datagram.payload.assign(payload.begin(), payload.end());
  return datagram;
}

}  // namespace

std::vector<CapturedDatagram> ReadPcap(const std::string& path) {
  const std::vector<char> bytes = ReadFile(path);
  ByteReader reader(std::as_bytes(std::span(bytes)));
  const uint32_t magic = reader.ReadLe32();
  reader.Skip(16);
  if (magic != kMagic || reader.ReadLe32() != kEthernet) {
    throw std::runtime_error(absl::StrCat(path, " is no pcap of Ethernet"));
  }
  std::vector<CapturedDatagram> datagrams;
  for (int number = 1; reader.remaining() > 0; ++number) {
    reader.Skip(8);
    const uint32_t captured = reader.ReadLe32();
    const uint32_t length = reader.ReadLe32();
    const auto frame = reader.ReadView(captured);
    if (!reader.ok() || captured != length) {
      throw std::runtime_error(absl::StrCat(path, " is cut"));
    }
    auto datagram = ReadFrame(frame);
    if (!datagram.has_value()) continue;
    datagram->number = number;
    datagrams.push_back(*std::move(datagram));
  }
  return datagrams;
}

std::vector<std::string> GoldenCaptures() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(ND_GOLDEN_DIR)) {
    if (entry.path().extension() == ".pcap") paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  return paths;
}

std::string GoldenName(const std::string& path) {
  return std::filesystem::path(path).stem();
}

}  // namespace nd::soft
