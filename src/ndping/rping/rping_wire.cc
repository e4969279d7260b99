#include "ndping/rping/rping_wire.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/bytes.h"

namespace nd::ndping {

std::array<std::byte, RpingAdvert::kSize> RpingAdvert::Encode() const {
  std::array<std::byte, kSize> bytes{};
  ByteWriter writer(bytes);
  writer.WriteBe64(address);
  writer.WriteBe32(rkey);
  writer.WriteBe32(size);
  return bytes;
}

std::optional<RpingAdvert> RpingAdvert::Parse(std::span<const std::byte> data) {
  if (data.size() != kSize) return std::nullopt;
  ByteReader reader(data);
  RpingAdvert advert;
  advert.address = reader.ReadBe64();
  advert.rkey = reader.ReadBe32();
  advert.size = reader.ReadBe32();
  return advert;
}

void FillRpingData(uint64_t sequence, std::span<std::byte> out) {
  constexpr uint64_t kLetters = 'z' - 'A' + 1;
  if (out.empty()) return;
  const std::string head = absl::StrCat("rdma-ping-", sequence, ": ");
  const size_t head_size = std::min(head.size(), out.size());
  std::memcpy(out.data(), head.data(), head_size);
  uint64_t letter = sequence % kLetters;
  for (std::byte& byte : out.subspan(head_size)) {
    byte = static_cast<std::byte>('A' + letter);
    letter = letter + 1 == kLetters ? 0 : letter + 1;
  }
  out.back() = std::byte{0};
}

std::string RpingText(std::span<const std::byte> data, size_t limit) {
  std::string text;
  for (const std::byte byte : data.first(std::min(limit, data.size()))) {
    const auto c = std::to_integer<unsigned char>(byte);
    if (c == 0) break;
    text.push_back(absl::ascii_isprint(c) ? static_cast<char>(c) : '.');
  }
  return text;
}

}  // namespace nd::ndping
