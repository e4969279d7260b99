// Any bytes at all into the parsers of packets and MADs. What they take must be
// written again as it was.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "fuzz/choices.h"
#include "soft/wire/icrc.h"
#include "soft/wire/mad.h"
#include "soft/wire/packet.h"

namespace nd::soft {
namespace {

using Bytes = std::vector<std::byte>;

// Of their very size, so that a step past the end is seen.
Bytes Copy(std::span<const std::byte> bytes) {
  return Bytes(bytes.begin(), bytes.end());
}

// The pad is written as zeros, whatever it was (9.2.3).
void CheckPacket(std::span<const std::byte> input) {
  Bytes bytes = Copy(input);
  Packet packet;
  const PacketFault fault = Parse(bytes, packet);
  Require(ToString(fault) != "unknown", "a fault without a name");
  if (fault != PacketFault::kNone) return;
  Require(packet.payload.size() <= bytes.size(), "more payload than bytes");
  Require(WireBytes(packet) == bytes.size(), "another size");
  std::fill_n(bytes.rbegin(), packet.bth.pad, std::byte{0});
  Bytes written(bytes.size());
  ByteWriter writer{std::span<std::byte>(written)};
  Write(packet, writer);
  Require(writer.ok() && writer.remaining() == 0, "does not fit");
  Require(written == bytes, "not the same packet");
}

// A MAD's reserved bits are not kept: what is compared is what it says.
void CheckMad(std::span<const std::byte> input) {
  const auto mad = ParseCmMad(Copy(input));
  if (!mad) return;
  std::array<std::byte, kMadBytes> written;
  WriteCmMad(*mad, written);
  const auto again = ParseCmMad(written);
  Require(again && *again == *mad, "another message");
  if (const auto* const req = std::get_if<CmReq>(&mad->message)) {
    std::array<uint8_t, RdmaCmHeader::kSize> header;
    std::copy_n(req->private_data.begin(), header.size(), header.begin());
    const RdmaCmHeader read = RdmaCmHeader::Read(header);
    read.Write(header);
    Require(RdmaCmHeader::Read(header) == read, "another header of rdma_cm");
  }
}

void CheckSealed(std::span<const std::byte> input) {
  const Bytes bytes = Copy(input);
  const Sealed sealed = Unseal(bytes);
  if (bytes.size() < Bth::kSize + kIcrcBytes) {
    return Require(sealed.packet.empty(), "a packet of too few bytes");
  }
  Require(sealed.packet.size() + kIcrcBytes == bytes.size(), "bytes are lost");
  for (const bool ipv4 : {true, false}) {
    NetHeaders headers{.source_port = 0xc000};
    if (ipv4) headers.source[10] = headers.source[11] = 0xff;
    headers.destination = headers.source;
    const uint32_t icrc = Icrc(headers, sealed.packet);
    Require(IcrcMatches(headers, {.packet = sealed.packet, .icrc = icrc}),
            "an ICRC that does not match");
  }
}

// `input` is from the BTH to the ICRC, as in a datagram to port 4791.
void CheckAll(std::span<const std::byte> input) {
  CheckSealed(input);
  CheckPacket(input);
  CheckMad(input);
  Packet packet;
  const Sealed sealed = Unseal(input);
  CheckPacket(sealed.packet);
  if (Parse(sealed.packet, packet) == PacketFault::kNone) {
    CheckMad(packet.payload);
  }
}

}  // namespace
}  // namespace nd::soft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nd::soft::CheckAll(std::as_bytes(std::span(data, size)));
  return 0;
}
