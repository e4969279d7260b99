// A packet for each line of the tables of docs/wire.md, written by hand from
// that page. The digests are those of a bitwise CRC32C.
#ifndef ND_TESTS_TRANSPORT_FRAME_GOLDEN_PACKETS_H_
#define ND_TESTS_TRANSPORT_FRAME_GOLDEN_PACKETS_H_

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "transport/frame/frame.h"

namespace nd::transport {

using Bytes = std::vector<std::byte>;

// The bytes of fragments of hexadecimal digits and blanks.
Bytes Hex(std::initializer_list<std::string_view> fragments);

// Bytes as they are, or what the payload's Parse makes of them.
using Content = std::variant<std::string, Request, Grant, Written, Revoke,
                             Notify, Probe, Gone, Reason>;

struct GoldenFrame {
  FrameHeader header;
  Content content;
};

struct GoldenPacket {
  std::string name;
  bool digest = false;
  Bytes bytes;
  std::vector<GoldenFrame> frames;
};

std::vector<GoldenPacket> GoldenPackets();

}  // namespace nd::transport

#endif  // ND_TESTS_TRANSPORT_FRAME_GOLDEN_PACKETS_H_
