#include "transport/frame/frame.h"

namespace nd::transport {
namespace {

// What a payload's `read` makes of the bytes, if it is all of them and nothing
// more, and `valid` takes it.
template <typename Payload, typename Read>
std::optional<Payload> ParseAll(std::span<const std::byte> bytes, Read read) {
  if (bytes.size() != Payload::kSize) return std::nullopt;
  ByteReader in(bytes);
  Payload payload;
  if (!read(in, payload)) return std::nullopt;
  return payload;
}

// Bytes of the longest beginning of `text` that kMaxText takes and that splits
// no character of UTF-8.
size_t KeptText(std::string_view text) {
  if (text.size() <= kMaxText) return text.size();
  size_t kept = kMaxText;
  constexpr size_t kMaxContinuation = 3;
  while (kept > kMaxText - kMaxContinuation &&
         (static_cast<uint8_t>(text[kept]) & 0xc0) == 0x80) {
    --kept;
  }
  return kept;
}

}  // namespace

std::string_view ToString(FrameType type) {
  const FrameFacts& facts = FactsOf(type);
  return facts.known() ? facts.name : "unknown";
}

void Request::Write(ByteWriter& out) const {
  out.WriteLe32(transfer);
  out.WriteZeros(4);
  out.WriteLe64(size);
}

std::optional<Request> Request::Parse(std::span<const std::byte> payload) {
  return ParseAll<Request>(payload, [](ByteReader& in, Request& request) {
    request.transfer = in.ReadLe32();
    const bool zero = in.ReadLe32() == 0;
    request.size = in.ReadLe64();
    return zero;
  });
}

void Grant::Write(ByteWriter& out) const {
  out.WriteLe32(transfer);
  out.WriteLe32(slot);
  out.WriteLe64(address);
  out.WriteLe32(rkey);
  out.WriteZeros(4);
  out.WriteLe64(size);
}

std::optional<Grant> Grant::Parse(std::span<const std::byte> payload) {
  return ParseAll<Grant>(payload, [](ByteReader& in, Grant& grant) {
    grant.transfer = in.ReadLe32();
    grant.slot = in.ReadLe32();
    grant.address = in.ReadLe64();
    grant.rkey = in.ReadLe32();
    const bool zero = in.ReadLe32() == 0;
    grant.size = in.ReadLe64();
    return zero && grant.slot < kRingSlot;
  });
}

void Written::Write(ByteWriter& out) const {
  out.WriteLe32(transfer);
  out.WriteLe32(static_cast<uint32_t>(status));
  out.WriteLe32(digest);
  out.WriteLe32(links);
}

std::optional<Written> Written::Parse(std::span<const std::byte> payload) {
  return ParseAll<Written>(payload, [](ByteReader& in, Written& written) {
    written.transfer = in.ReadLe32();
    const uint32_t status = in.ReadLe32();
    written.status = static_cast<WrittenStatus>(status);
    written.digest = in.ReadLe32();
    written.links = in.ReadLe32();
    return status <= static_cast<uint32_t>(WrittenStatus::kRevoked);
  });
}

void Revoke::Write(ByteWriter& out) const {
  out.WriteLe32(transfer);
  out.WriteZeros(4);
}

std::optional<Revoke> Revoke::Parse(std::span<const std::byte> payload) {
  return ParseAll<Revoke>(payload, [](ByteReader& in, Revoke& revoke) {
    revoke.transfer = in.ReadLe32();
    return in.ReadLe32() == 0;
  });
}

void Notify::Write(ByteWriter& out) const {
  out.WriteLe64(region);
  out.WriteLe64(offset);
  out.WriteLe64(size);
  out.WriteLe32(immediate);
  out.WriteZeros(4);
}

std::optional<Notify> Notify::Parse(std::span<const std::byte> payload) {
  return ParseAll<Notify>(payload, [](ByteReader& in, Notify& notify) {
    notify.region = in.ReadLe64();
    notify.offset = in.ReadLe64();
    notify.size = in.ReadLe64();
    notify.immediate = in.ReadLe32();
    return in.ReadLe32() == 0;
  });
}

void Probe::Write(ByteWriter& out) const { out.WriteLe64(number); }

std::optional<Probe> Probe::Parse(std::span<const std::byte> payload) {
  return ParseAll<Probe>(payload, [](ByteReader& in, Probe& probe) {
    probe.number = in.ReadLe64();
    return true;
  });
}

void Gone::Write(ByteWriter& out) const {
  out.WriteLe32(link);
  out.WriteLe32(incarnation);
  out.WriteLe32(received);
}

std::optional<Gone> Gone::Parse(std::span<const std::byte> payload) {
  return ParseAll<Gone>(payload, [](ByteReader& in, Gone& gone) {
    gone.link = in.ReadLe32();
    gone.incarnation = in.ReadLe32();
    gone.received = in.ReadLe32();
    return true;
  });
}

size_t Reason::size() const { return sizeof(code) + KeptText(text); }

void Reason::Write(ByteWriter& out) const {
  out.WriteLe32(code);
  out.WriteBytes(std::as_bytes(std::span(text.substr(0, KeptText(text)))));
}

std::optional<Reason> Reason::Parse(std::span<const std::byte> payload) {
  if (payload.size() < sizeof(code) ||
      payload.size() > sizeof(code) + kMaxText) {
    return std::nullopt;
  }
  ByteReader in(payload);
  const uint32_t code = in.ReadLe32();
  const auto text = in.ReadView(in.remaining());
  return Reason{
      .code = code,
      .text = {reinterpret_cast<const char*>(text.data()), text.size()}};
}

}  // namespace nd::transport
