// What rping and krping put on the wire: the advert and the data of a ping.
#ifndef ND_NDPING_RPING_RPING_WIRE_H_
#define ND_NDPING_RPING_RPING_WIRE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace nd::ndping {

// The one message that travels by SEND, 16 bytes, big-endian. From the client
// it offers a buffer; from the server it is the go-ahead, and what is in it
// does not count.
struct RpingAdvert {
  static constexpr size_t kSize = 16;

  uint64_t address = 0;
  uint32_t rkey = 0;
  uint32_t size = 0;  // bytes

  std::array<std::byte, kSize> Encode() const;
  // Nothing when `data` is not exactly kSize bytes.
  static std::optional<RpingAdvert> Parse(std::span<const std::byte> data);
  bool operator==(const RpingAdvert&) const = default;
};

// Ping `sequence` (from 0) as rping and krping fill it: "rdma-ping-SEQUENCE: ",
// then the letters 'A' to 'z' over and over, beginning one further with each
// ping, and a zero at the end. What does not fit is cut off.
void FillRpingData(uint64_t sequence, std::span<std::byte> out);

// The text in a ping, up to its zero and at most `limit` bytes of it; bytes
// that are not printable ASCII are shown as '.'.
std::string RpingText(std::span<const std::byte> data, size_t limit);

}  // namespace nd::ndping

#endif  // ND_NDPING_RPING_RPING_WIRE_H_
