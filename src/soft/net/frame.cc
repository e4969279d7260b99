#include "soft/net/frame.h"

#include <algorithm>

#include "base/bytes.h"

namespace nd::soft {
namespace {

constexpr uint8_t kFromWire = 1;

}  // namespace

FrameHeader FrameHeader::Read(std::span<const std::byte, kSize> bytes) {
  ByteReader reader{std::span<const std::byte>(bytes)};
  FrameHeader header;
  header.from_wire = (reader.ReadU8() & kFromWire) != 0;
  header.path.traffic_class = reader.ReadU8();
  header.path.hop_limit = reader.ReadU8();
  header.packets = reader.ReadU8();
  header.path.flow_label = reader.ReadLe32();
  reader.ReadBytes(header.path.source);
  reader.ReadBytes(header.path.destination);
  return header;
}

void FrameHeader::Write(std::span<std::byte, kSize> out) const {
  ByteWriter writer{std::span<std::byte>(out)};
  writer.WriteU8(from_wire ? kFromWire : 0);
  writer.WriteU8(path.traffic_class);
  writer.WriteU8(path.hop_limit);
  writer.WriteU8(packets);
  writer.WriteLe32(path.flow_label);
  writer.WriteBytes(path.source);
  writer.WriteBytes(path.destination);
  writer.WriteZeros(writer.remaining());
}

PacketSource::PacketSource(const Outgoing& outgoing)
    : outgoing_(&outgoing),
      size_(outgoing.packet.facts().header_bytes() + outgoing.payload.length +
            outgoing.packet.bth.pad) {}

void PacketSource::CopyTo(std::span<std::byte> out) const {
  if (outgoing_ == nullptr) {
    std::ranges::copy(bytes_, out.begin());
    return;
  }
  ByteWriter writer(out);
  WriteHeaders(outgoing_->packet, writer);
  const size_t payload = outgoing_->payload.length;
  const auto rest = out.subspan(writer.written().size());
  Gather(outgoing_->payload, rest.first(payload));
  std::ranges::fill(rest.subspan(payload), std::byte{0});
}

void WriteFrame(const FrameHeader& header, const PacketSource& packet,
                std::span<std::byte> out) {
  header.Write(out.first<FrameHeader::kSize>());
  packet.CopyTo(out.subspan(FrameHeader::kSize));
}

PacketFault ParseShared(std::span<const std::byte> bytes, HeaderCopy& copy,
                        Packet& packet) {
  const auto seen = bytes.first(std::min(bytes.size(), copy.size()));
  std::ranges::copy(seen, copy.begin());
  const PacketFault fault = Parse(std::span(copy).first(seen.size()), packet);
  if (fault != PacketFault::kNone || seen.size() == bytes.size()) return fault;
  // All headers and as many bytes as the pad has were among those seen.
  const size_t headers = packet.facts().header_bytes();
  packet.payload =
      bytes.subspan(headers, bytes.size() - headers - packet.bth.pad);
  return PacketFault::kNone;
}

}  // namespace nd::soft
