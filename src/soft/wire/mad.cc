#include "soft/wire/mad.h"

#include <algorithm>

#include "base/bytes.h"

namespace nd::soft {
namespace {

// The MAD header of the communication manager (13.4.3).
constexpr uint8_t kBaseVersion = 1;
constexpr uint8_t kCmClass = 7;
constexpr uint8_t kCmClassVersion = 2;
constexpr uint8_t kMethodSend = 3;

CommId ReadCommId(ByteReader& reader) { return CommId(reader.ReadBe32()); }
void WriteCommId(CommId id, ByteWriter& writer) {
  writer.WriteBe32(ToUint(id));
}

template <size_t kBytes>
void ReadArray(ByteReader& reader, std::array<uint8_t, kBytes>& out) {
  reader.ReadBytes(std::span<uint8_t>(out));
}
template <size_t kBytes>
void WriteArray(const std::array<uint8_t, kBytes>& bytes, ByteWriter& writer) {
  writer.WriteBytes(std::span<const uint8_t>(bytes));
}

// `value`'s bits from `shift` on, `bits` of them, and back.
constexpr uint8_t Bits(uint32_t value, int shift, int bits) {
  return static_cast<uint8_t>(value >> shift & ((1u << bits) - 1));
}
constexpr uint8_t At(uint8_t value, int shift) {
  return static_cast<uint8_t>(value << shift);
}

CmReq ReadReq(ByteReader& reader) {
  CmReq req;
  req.local_id = ReadCommId(reader);
  reader.Skip(4);  // reserved, vendor id
  req.service_id = reader.ReadBe64();
  req.ca_guid = reader.ReadBe64();
  reader.Skip(4);
  req.qkey = Qkey(reader.ReadBe32());
  req.qpn = Qpn(reader.ReadBe24());
  req.responder_resources = reader.ReadU8();
  reader.Skip(3);  // local EECN
  req.initiator_depth = reader.ReadU8();
  reader.Skip(3);  // remote EECN
  const uint8_t remote = reader.ReadU8();
  req.remote_response_timeout = Bits(remote, 3, 5);
  req.transport = Bits(remote, 1, 2);
  req.flow_control = Bits(remote, 0, 1) != 0;
  req.starting_psn = Psn(reader.ReadBe24());
  const uint8_t local = reader.ReadU8();
  req.local_response_timeout = Bits(local, 3, 5);
  req.retry_count = Bits(local, 0, 3);
  req.pkey = reader.ReadBe16();
  const uint8_t path = reader.ReadU8();
  req.path_mtu = Bits(path, 4, 4);
  req.rnr_retry_count = Bits(path, 0, 3);
  const uint8_t retries = reader.ReadU8();
  req.max_cm_retries = Bits(retries, 4, 4);
  req.srq = Bits(retries, 3, 1) != 0;
  req.local_lid = reader.ReadBe16();
  req.remote_lid = reader.ReadBe16();
  ReadArray(reader, req.local_gid);
  ReadArray(reader, req.remote_gid);
  const uint32_t flow = reader.ReadBe32();
  req.flow_label = flow >> 12;
  req.packet_rate = Bits(flow, 0, 6);
  req.traffic_class = reader.ReadU8();
  req.hop_limit = reader.ReadU8();
  const uint8_t level = reader.ReadU8();
  req.service_level = Bits(level, 4, 4);
  req.subnet_local = Bits(level, 3, 1) != 0;
  req.local_ack_timeout = Bits(reader.ReadU8(), 3, 5);
  reader.Skip(44);  // the alternate path
  ReadArray(reader, req.private_data);
  return req;
}

void WriteMessage(const CmReq& req, ByteWriter& writer) {
  WriteCommId(req.local_id, writer);
  writer.WriteZeros(4);
  writer.WriteBe64(req.service_id);
  writer.WriteBe64(req.ca_guid);
  writer.WriteZeros(4);
  writer.WriteBe32(ToUint(req.qkey));
  writer.WriteBe24(ToUint(req.qpn));
  writer.WriteU8(req.responder_resources);
  writer.WriteZeros(3);
  writer.WriteU8(req.initiator_depth);
  writer.WriteZeros(3);
  writer.WriteU8(At(req.remote_response_timeout, 3) | At(req.transport, 1) |
                 At(req.flow_control, 0));
  writer.WriteBe24(req.starting_psn.value());
  writer.WriteU8(At(req.local_response_timeout, 3) | req.retry_count);
  writer.WriteBe16(req.pkey);
  writer.WriteU8(At(req.path_mtu, 4) | req.rnr_retry_count);
  writer.WriteU8(At(req.max_cm_retries, 4) | At(req.srq, 3));
  writer.WriteBe16(req.local_lid);
  writer.WriteBe16(req.remote_lid);
  WriteArray(req.local_gid, writer);
  WriteArray(req.remote_gid, writer);
  writer.WriteBe32(req.flow_label << 12 | Bits(req.packet_rate, 0, 6));
  writer.WriteU8(req.traffic_class);
  writer.WriteU8(req.hop_limit);
  writer.WriteU8(At(req.service_level, 4) | At(req.subnet_local, 3));
  writer.WriteU8(At(req.local_ack_timeout, 3));
  writer.WriteZeros(44);
  WriteArray(req.private_data, writer);
}

CmMra ReadMra(ByteReader& reader) {
  CmMra mra;
  mra.local_id = ReadCommId(reader);
  mra.remote_id = ReadCommId(reader);
  mra.message = Bits(reader.ReadU8(), 6, 2);
  mra.service_timeout = Bits(reader.ReadU8(), 3, 5);
  ReadArray(reader, mra.private_data);
  return mra;
}

void WriteMessage(const CmMra& mra, ByteWriter& writer) {
  WriteCommId(mra.local_id, writer);
  WriteCommId(mra.remote_id, writer);
  writer.WriteU8(At(mra.message, 6));
  writer.WriteU8(At(mra.service_timeout, 3));
  WriteArray(mra.private_data, writer);
}

CmRej ReadRej(ByteReader& reader) {
  CmRej rej;
  rej.local_id = ReadCommId(reader);
  rej.remote_id = ReadCommId(reader);
  rej.message = Bits(reader.ReadU8(), 6, 2);
  rej.information_length = Bits(reader.ReadU8(), 1, 7);
  rej.reason = static_cast<RejectReason>(reader.ReadBe16());
  ReadArray(reader, rej.information);
  ReadArray(reader, rej.private_data);
  return rej;
}

void WriteMessage(const CmRej& rej, ByteWriter& writer) {
  WriteCommId(rej.local_id, writer);
  WriteCommId(rej.remote_id, writer);
  writer.WriteU8(At(rej.message, 6));
  writer.WriteU8(At(rej.information_length, 1));
  writer.WriteBe16(static_cast<uint16_t>(rej.reason));
  WriteArray(rej.information, writer);
  WriteArray(rej.private_data, writer);
}

CmRep ReadRep(ByteReader& reader) {
  CmRep rep;
  rep.local_id = ReadCommId(reader);
  rep.remote_id = ReadCommId(reader);
  rep.qkey = Qkey(reader.ReadBe32());
  rep.qpn = Qpn(reader.ReadBe24());
  reader.Skip(5);  // vendor id, EECN, vendor id
  rep.starting_psn = Psn(reader.ReadBe24());
  reader.Skip(1);  // vendor id
  rep.responder_resources = reader.ReadU8();
  rep.initiator_depth = reader.ReadU8();
  const uint8_t flags = reader.ReadU8();
  rep.target_ack_delay = Bits(flags, 3, 5);
  rep.failover = Bits(flags, 1, 2);
  rep.flow_control = Bits(flags, 0, 1) != 0;
  const uint8_t retries = reader.ReadU8();
  rep.rnr_retry_count = Bits(retries, 5, 3);
  rep.srq = Bits(retries, 4, 1) != 0;
  rep.ca_guid = reader.ReadBe64();
  ReadArray(reader, rep.private_data);
  return rep;
}

void WriteMessage(const CmRep& rep, ByteWriter& writer) {
  WriteCommId(rep.local_id, writer);
  WriteCommId(rep.remote_id, writer);
  writer.WriteBe32(ToUint(rep.qkey));
  writer.WriteBe24(ToUint(rep.qpn));
  writer.WriteZeros(5);
  writer.WriteBe24(rep.starting_psn.value());
  writer.WriteZeros(1);
  writer.WriteU8(rep.responder_resources);
  writer.WriteU8(rep.initiator_depth);
  writer.WriteU8(At(rep.target_ack_delay, 3) | At(rep.failover, 1) |
                 At(rep.flow_control, 0));
  writer.WriteU8(At(rep.rnr_retry_count, 5) | At(rep.srq, 4));
  writer.WriteBe64(rep.ca_guid);
  WriteArray(rep.private_data, writer);
}

CmDreq ReadDreq(ByteReader& reader) {
  CmDreq dreq;
  dreq.local_id = ReadCommId(reader);
  dreq.remote_id = ReadCommId(reader);
  dreq.remote_qpn = Qpn(reader.ReadBe24());
  reader.Skip(1);
  ReadArray(reader, dreq.private_data);
  return dreq;
}

void WriteMessage(const CmDreq& dreq, ByteWriter& writer) {
  WriteCommId(dreq.local_id, writer);
  WriteCommId(dreq.remote_id, writer);
  writer.WriteBe24(ToUint(dreq.remote_qpn));
  writer.WriteZeros(1);
  WriteArray(dreq.private_data, writer);
}

// RTU and DREP have the same shape.
template <typename Message>
Message ReadPlain(ByteReader& reader) {
  Message message;
  message.local_id = ReadCommId(reader);
  message.remote_id = ReadCommId(reader);
  ReadArray(reader, message.private_data);
  return message;
}

template <typename Message>
void WritePlain(const Message& message, ByteWriter& writer) {
  WriteCommId(message.local_id, writer);
  WriteCommId(message.remote_id, writer);
  WriteArray(message.private_data, writer);
}

void WriteMessage(const CmRtu& rtu, ByteWriter& writer) {
  WritePlain(rtu, writer);
}
void WriteMessage(const CmDrep& drep, ByteWriter& writer) {
  WritePlain(drep, writer);
}

CmSidrReq ReadSidrReq(ByteReader& reader) {
  CmSidrReq req;
  req.request_id = ReadCommId(reader);
  req.pkey = reader.ReadBe16();
  reader.Skip(2);
  req.service_id = reader.ReadBe64();
  ReadArray(reader, req.private_data);
  return req;
}

void WriteMessage(const CmSidrReq& req, ByteWriter& writer) {
  WriteCommId(req.request_id, writer);
  writer.WriteBe16(req.pkey);
  writer.WriteZeros(2);
  writer.WriteBe64(req.service_id);
  WriteArray(req.private_data, writer);
}

CmSidrRep ReadSidrRep(ByteReader& reader) {
  CmSidrRep rep;
  rep.request_id = ReadCommId(reader);
  rep.status = reader.ReadU8();
  rep.information_length = reader.ReadU8();
  reader.Skip(2);
  rep.qpn = Qpn(reader.ReadBe24());
  reader.Skip(1);
  rep.service_id = reader.ReadBe64();
  rep.qkey = Qkey(reader.ReadBe32());
  ReadArray(reader, rep.information);
  ReadArray(reader, rep.private_data);
  return rep;
}

void WriteMessage(const CmSidrRep& rep, ByteWriter& writer) {
  WriteCommId(rep.request_id, writer);
  writer.WriteU8(rep.status);
  writer.WriteU8(rep.information_length);
  writer.WriteZeros(2);
  writer.WriteBe24(ToUint(rep.qpn));
  writer.WriteZeros(1);
  writer.WriteBe64(rep.service_id);
  writer.WriteBe32(ToUint(rep.qkey));
  WriteArray(rep.information, writer);
  WriteArray(rep.private_data, writer);
}

std::optional<CmMessage> ReadMessage(uint16_t attribute, ByteReader& reader) {
  switch (static_cast<CmAttribute>(attribute)) {
    case CmAttribute::kReq:
      return ReadReq(reader);
    case CmAttribute::kMra:
      return ReadMra(reader);
    case CmAttribute::kRej:
      return ReadRej(reader);
    case CmAttribute::kRep:
      return ReadRep(reader);
    case CmAttribute::kRtu:
      return ReadPlain<CmRtu>(reader);
    case CmAttribute::kDreq:
      return ReadDreq(reader);
    case CmAttribute::kDrep:
      return ReadPlain<CmDrep>(reader);
    case CmAttribute::kSidrReq:
      return ReadSidrReq(reader);
    case CmAttribute::kSidrRep:
      return ReadSidrRep(reader);
  }
  return std::nullopt;
}

struct AttributeVisitor {
  CmAttribute operator()(const CmReq&) const { return CmAttribute::kReq; }
  CmAttribute operator()(const CmMra&) const { return CmAttribute::kMra; }
  CmAttribute operator()(const CmRej&) const { return CmAttribute::kRej; }
  CmAttribute operator()(const CmRep&) const { return CmAttribute::kRep; }
  CmAttribute operator()(const CmRtu&) const { return CmAttribute::kRtu; }
  CmAttribute operator()(const CmDreq&) const { return CmAttribute::kDreq; }
  CmAttribute operator()(const CmDrep&) const { return CmAttribute::kDrep; }
  CmAttribute operator()(const CmSidrReq&) const {
    return CmAttribute::kSidrReq;
  }
  CmAttribute operator()(const CmSidrRep&) const {
    return CmAttribute::kSidrRep;
  }
};

}  // namespace

CmAttribute AttributeOf(const CmMessage& message) {
  return std::visit(AttributeVisitor(), message);
}

std::optional<CmMad> ParseCmMad(std::span<const std::byte> bytes) {
  if (bytes.size() < kMadHeaderBytes || bytes.size() > kMadBytes) {
    return std::nullopt;
  }
  std::array<std::byte, kMadBytes> padded{};
  std::ranges::copy(bytes, padded.begin());
  ByteReader reader{std::span<const std::byte>(padded)};
  const bool is_cm =
      reader.ReadU8() == kBaseVersion && reader.ReadU8() == kCmClass &&
      reader.ReadU8() == kCmClassVersion && reader.ReadU8() == kMethodSend;
  if (!is_cm) return std::nullopt;
  reader.Skip(4);  // status, class specific
  const uint64_t transaction_id = reader.ReadBe64();
  const uint16_t attribute = reader.ReadBe16();
  reader.Skip(6);  // reserved, attribute modifier
  std::optional<CmMessage> message = ReadMessage(attribute, reader);
  if (!message.has_value()) return std::nullopt;
  return CmMad{.transaction_id = transaction_id, .message = *message};
}

void WriteCmMad(const CmMad& mad, std::span<std::byte, kMadBytes> out) {
  std::ranges::fill(out, std::byte{0});
  ByteWriter writer{std::span<std::byte>(out)};
  writer.WriteU8(kBaseVersion);
  writer.WriteU8(kCmClass);
  writer.WriteU8(kCmClassVersion);
  writer.WriteU8(kMethodSend);
  writer.WriteZeros(4);
  writer.WriteBe64(mad.transaction_id);
  writer.WriteBe16(static_cast<uint16_t>(AttributeOf(mad.message)));
  writer.WriteZeros(6);
  std::visit([&](const auto& message) { WriteMessage(message, writer); },
             mad.message);
}

RdmaCmHeader RdmaCmHeader::Read(std::span<const uint8_t, kSize> bytes) {
  ByteReader reader{std::span<const uint8_t>(bytes)};
  RdmaCmHeader header;
  header.version = reader.ReadU8();
  header.ip_version = Bits(reader.ReadU8(), 4, 4);
  header.source_port = reader.ReadBe16();
  ReadArray(reader, header.source);
  ReadArray(reader, header.destination);
  return header;
}

void RdmaCmHeader::Write(std::span<uint8_t, kSize> out) const {
  ByteWriter writer{std::span<uint8_t>(out)};
  writer.WriteU8(version);
  writer.WriteU8(At(ip_version, 4));
  writer.WriteBe16(source_port);
  WriteArray(source, writer);
  WriteArray(destination, writer);
}

}  // namespace nd::soft
