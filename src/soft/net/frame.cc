#include "soft/net/frame.h"

#include <algorithm>

#include "absl/base/attributes.h"
#include "base/bytes.h"

namespace nd::soft {
namespace {

constexpr uint8_t kFromWire = 1;
constexpr uint8_t kSameEnds = 2;
constexpr uint8_t kLent = 4;

// Of a payload in one piece.
Loan LoanOf(const Outgoing& outgoing) {
  Loan loan{.word_address = reinterpret_cast<uintptr_t>(outgoing.loan),
            .word = outgoing.loan->load(std::memory_order_relaxed)};
  ForEachPiece(outgoing.payload, [&loan](Segment piece) {
    loan.address = reinterpret_cast<uintptr_t>(piece.data());
    loan.length = piece.size();
  });
  return loan;
}

}  // namespace

std::optional<FrameHeader> FrameHeader::Read(std::span<const std::byte>& frame,
                                             LinkEnds* ends) {
  ByteReader reader(frame);
  // Once: the sender may write to it meanwhile.
  const uint32_t first = reader.ReadBe32();
  FrameHeader header;
  const auto flags = static_cast<uint8_t>(first >> 24);
  header.from_wire = (flags & kFromWire) != 0;
  header.lent = (flags & kLent) != 0;
  header.path.traffic_class = static_cast<uint8_t>(first >> 16);
  header.path.hop_limit = static_cast<uint8_t>(first >> 8);
  header.packets = static_cast<uint8_t>(first);
  header.path.flow_label = reader.ReadBe32();
  if ((flags & kSameEnds) == 0) {
    reader.ReadBytes(header.path.source);
    reader.ReadBytes(header.path.destination);
    if (!reader.ok()) return std::nullopt;
    if (ends != nullptr) {
      *ends = {header.path.source, header.path.destination, true};
    }
  } else if (reader.ok() && ends != nullptr && ends->known) {
    header.path.source = ends->source;
    header.path.destination = ends->destination;
  } else {
    return std::nullopt;
  }
  frame = frame.last(reader.remaining());
  return header;
}

void FrameHeader::Write(std::span<std::byte> out) const {
  const bool whole = out.size() == kSize;
  const uint32_t flags = (from_wire ? kFromWire : 0) | (lent ? kLent : 0) |
                         (whole ? 0 : kSameEnds);
  ByteWriter writer(out);
  writer.WriteBe32(flags << 24 | uint32_t{path.traffic_class} << 16 |
                   uint32_t{path.hop_limit} << 8 | packets);
  writer.WriteBe32(path.flow_label);
  if (!whole) return;
  writer.WriteBytes(path.source);
  writer.WriteBytes(path.destination);
}

PacketSource::PacketSource(const Outgoing& outgoing)
    : outgoing_(&outgoing),
      size_(
          outgoing.packet.facts().header_bytes() + outgoing.packet.bth.pad +
          (outgoing.loan != nullptr ? Loan::kSize : outgoing.payload.length)) {}

ABSL_ATTRIBUTE_HOT void PacketSource::CopyTo(std::span<std::byte> out) const {
  if (outgoing_ == nullptr) [[unlikely]] {
    std::ranges::copy(bytes_, out.begin());
    return;
  }
  ByteWriter writer(out);
  WriteHeaders(outgoing_->packet, writer);
  if (outgoing_->loan != nullptr) [[unlikely]] {
    writer.WriteZeros(outgoing_->packet.bth.pad);
    LoanOf(*outgoing_).Write(writer);
    return;
  }
  const size_t payload = outgoing_->payload.length;
  const auto rest = out.subspan(writer.written().size());
  Gather(outgoing_->payload, rest.first(payload));
  std::ranges::fill(rest.subspan(payload), std::byte{0});
}

ABSL_ATTRIBUTE_HOT void WriteFrame(const FrameHeader& header,
                                   const PacketSource& packet,
                                   std::span<std::byte> out) {
  header.Write(out.first(out.size() - packet.size()));
  packet.CopyTo(out.last(packet.size()));
}

ABSL_ATTRIBUTE_HOT PacketFault ParseShared(std::span<const std::byte> bytes,
                                           HeaderCopy& copy, Packet& packet) {
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

std::optional<Loan> TakeLoan(std::span<const std::byte>& bytes) {
  if (bytes.size() < Loan::kSize) return std::nullopt;
  ByteReader reader(bytes.last(Loan::kSize));
  const Loan loan = Loan::Read(reader);
  if (loan.length == 0 || loan.length > kMaxLentBytes) return std::nullopt;
  bytes = bytes.first(bytes.size() - Loan::kSize);
  return loan;
}

}  // namespace nd::soft
