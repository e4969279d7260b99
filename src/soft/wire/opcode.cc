#include "soft/wire/opcode.h"

#include <infiniband/opcode.h>

#include "soft/wire/headers.h"

namespace nd::soft {
namespace {

constexpr int ToInt(Opcode opcode) { return static_cast<int>(opcode); }

static_assert(ToInt(Opcode::kRcSendFirst) == IBV_OPCODE_RC_SEND_FIRST);
static_assert(ToInt(Opcode::kRcSendMiddle) == IBV_OPCODE_RC_SEND_MIDDLE);
static_assert(ToInt(Opcode::kRcSendLast) == IBV_OPCODE_RC_SEND_LAST);
static_assert(ToInt(Opcode::kRcSendLastImm) ==
              IBV_OPCODE_RC_SEND_LAST_WITH_IMMEDIATE);
static_assert(ToInt(Opcode::kRcSendOnly) == IBV_OPCODE_RC_SEND_ONLY);
static_assert(ToInt(Opcode::kRcSendOnlyImm) ==
              IBV_OPCODE_RC_SEND_ONLY_WITH_IMMEDIATE);
static_assert(ToInt(Opcode::kRcWriteFirst) == IBV_OPCODE_RC_RDMA_WRITE_FIRST);
static_assert(ToInt(Opcode::kRcWriteMiddle) == IBV_OPCODE_RC_RDMA_WRITE_MIDDLE);
static_assert(ToInt(Opcode::kRcWriteLast) == IBV_OPCODE_RC_RDMA_WRITE_LAST);
static_assert(ToInt(Opcode::kRcWriteLastImm) ==
              IBV_OPCODE_RC_RDMA_WRITE_LAST_WITH_IMMEDIATE);
static_assert(ToInt(Opcode::kRcWriteOnly) == IBV_OPCODE_RC_RDMA_WRITE_ONLY);
static_assert(ToInt(Opcode::kRcWriteOnlyImm) ==
              IBV_OPCODE_RC_RDMA_WRITE_ONLY_WITH_IMMEDIATE);
static_assert(ToInt(Opcode::kRcReadRequest) == IBV_OPCODE_RC_RDMA_READ_REQUEST);
static_assert(ToInt(Opcode::kRcReadResponseFirst) ==
              IBV_OPCODE_RC_RDMA_READ_RESPONSE_FIRST);
static_assert(ToInt(Opcode::kRcReadResponseMiddle) ==
              IBV_OPCODE_RC_RDMA_READ_RESPONSE_MIDDLE);
static_assert(ToInt(Opcode::kRcReadResponseLast) ==
              IBV_OPCODE_RC_RDMA_READ_RESPONSE_LAST);
static_assert(ToInt(Opcode::kRcReadResponseOnly) ==
              IBV_OPCODE_RC_RDMA_READ_RESPONSE_ONLY);
static_assert(ToInt(Opcode::kRcAcknowledge) == IBV_OPCODE_RC_ACKNOWLEDGE);
static_assert(ToInt(Opcode::kRcAtomicAcknowledge) ==
              IBV_OPCODE_RC_ATOMIC_ACKNOWLEDGE);
static_assert(ToInt(Opcode::kRcCompareSwap) == IBV_OPCODE_RC_COMPARE_SWAP);
static_assert(ToInt(Opcode::kRcFetchAdd) == IBV_OPCODE_RC_FETCH_ADD);
static_assert(ToInt(Opcode::kUcSendFirst) == IBV_OPCODE_UC_SEND_FIRST);
static_assert(ToInt(Opcode::kUcWriteOnlyImm) ==
              IBV_OPCODE_UC_RDMA_WRITE_ONLY_WITH_IMMEDIATE);
static_assert(ToInt(Opcode::kUdSendOnly) == IBV_OPCODE_UD_SEND_ONLY);
static_assert(ToInt(Opcode::kUdSendOnlyImm) ==
              IBV_OPCODE_UD_SEND_ONLY_WITH_IMMEDIATE);

constexpr size_t kOpcodes = 256;
using Table = std::array<OpcodeFacts, kOpcodes>;

constexpr void Put(Table& table, Opcode opcode, const OpcodeFacts& facts) {
  table[static_cast<size_t>(opcode)] = facts;
}

constexpr OpcodeFacts Send(const char* name, Transport transport, bool first,
                           bool last, HeaderSet headers = {}) {
  return {.name = name,
          .transport = transport,
          .kind = PacketKind::kSend,
          .first = first,
          .last = last,
          .payload = true,
          .headers = headers};
}

constexpr OpcodeFacts Write(const char* name, Transport transport, bool first,
                            bool last, HeaderSet headers = {}) {
  headers.reth = first;
  OpcodeFacts facts = Send(name, transport, first, last, headers);
  facts.kind = PacketKind::kWrite;
  return facts;
}

constexpr OpcodeFacts Response(const char* name, bool first, bool last) {
  return {.name = name,
          .kind = PacketKind::kReadResponse,
          .first = first,
          .last = last,
          .payload = true,
          .headers = {.aeth = first || last}};
}

constexpr void PutReliable(Table& table) {
  constexpr Transport kRc = Transport::kRc;
  Put(table, Opcode::kRcSendFirst, Send("RC SEND FIRST", kRc, true, false));
  Put(table, Opcode::kRcSendMiddle, Send("RC SEND MIDDLE", kRc, false, false));
  Put(table, Opcode::kRcSendLast, Send("RC SEND LAST", kRc, false, true));
  Put(table, Opcode::kRcSendLastImm,
      Send("RC SEND LAST with immediate", kRc, false, true, {.imm_dt = true}));
  Put(table, Opcode::kRcSendOnly, Send("RC SEND ONLY", kRc, true, true));
  Put(table, Opcode::kRcSendOnlyImm,
      Send("RC SEND ONLY with immediate", kRc, true, true, {.imm_dt = true}));
  Put(table, Opcode::kRcSendLastInv,
      Send("RC SEND LAST with invalidate", kRc, false, true, {.ieth = true}));
  Put(table, Opcode::kRcSendOnlyInv,
      Send("RC SEND ONLY with invalidate", kRc, true, true, {.ieth = true}));
  Put(table, Opcode::kRcWriteFirst, Write("RC WRITE FIRST", kRc, true, false));
  Put(table, Opcode::kRcWriteMiddle,
      Write("RC WRITE MIDDLE", kRc, false, false));
  Put(table, Opcode::kRcWriteLast, Write("RC WRITE LAST", kRc, false, true));
  Put(table, Opcode::kRcWriteLastImm,
      Write("RC WRITE LAST with immediate", kRc, false, true,
            {.imm_dt = true}));
  Put(table, Opcode::kRcWriteOnly, Write("RC WRITE ONLY", kRc, true, true));
  Put(table, Opcode::kRcWriteOnlyImm,
      Write("RC WRITE ONLY with immediate", kRc, true, true, {.imm_dt = true}));
  Put(table, Opcode::kRcReadRequest,
      {.name = "RC READ request",
       .kind = PacketKind::kReadRequest,
       .headers = {.reth = true}});
  Put(table, Opcode::kRcReadResponseFirst,
      Response("RC READ response FIRST", true, false));
  Put(table, Opcode::kRcReadResponseMiddle,
      Response("RC READ response MIDDLE", false, false));
  Put(table, Opcode::kRcReadResponseLast,
      Response("RC READ response LAST", false, true));
  Put(table, Opcode::kRcReadResponseOnly,
      Response("RC READ response ONLY", true, true));
  Put(table, Opcode::kRcAcknowledge,
      {.name = "RC acknowledge",
       .kind = PacketKind::kAcknowledge,
       .headers = {.aeth = true}});
  Put(table, Opcode::kRcAtomicAcknowledge,
      {.name = "RC atomic acknowledge",
       .kind = PacketKind::kAtomicAcknowledge,
       .headers = {.aeth = true, .atomic_ack_eth = true}});
  Put(table, Opcode::kRcCompareSwap,
      {.name = "RC COMPARE_SWAP",
       .kind = PacketKind::kAtomicRequest,
       .headers = {.atomic_eth = true}});
  Put(table, Opcode::kRcFetchAdd,
      {.name = "RC FETCH_ADD",
       .kind = PacketKind::kAtomicRequest,
       .headers = {.atomic_eth = true}});
}

constexpr void PutUnreliable(Table& table) {
  constexpr Transport kUc = Transport::kUc;
  Put(table, Opcode::kUcSendFirst, Send("UC SEND FIRST", kUc, true, false));
  Put(table, Opcode::kUcSendMiddle, Send("UC SEND MIDDLE", kUc, false, false));
  Put(table, Opcode::kUcSendLast, Send("UC SEND LAST", kUc, false, true));
  Put(table, Opcode::kUcSendLastImm,
      Send("UC SEND LAST with immediate", kUc, false, true, {.imm_dt = true}));
  Put(table, Opcode::kUcSendOnly, Send("UC SEND ONLY", kUc, true, true));
  Put(table, Opcode::kUcSendOnlyImm,
      Send("UC SEND ONLY with immediate", kUc, true, true, {.imm_dt = true}));
  Put(table, Opcode::kUcWriteFirst, Write("UC WRITE FIRST", kUc, true, false));
  Put(table, Opcode::kUcWriteMiddle,
      Write("UC WRITE MIDDLE", kUc, false, false));
  Put(table, Opcode::kUcWriteLast, Write("UC WRITE LAST", kUc, false, true));
  Put(table, Opcode::kUcWriteLastImm,
      Write("UC WRITE LAST with immediate", kUc, false, true,
            {.imm_dt = true}));
  Put(table, Opcode::kUcWriteOnly, Write("UC WRITE ONLY", kUc, true, true));
  Put(table, Opcode::kUcWriteOnlyImm,
      Write("UC WRITE ONLY with immediate", kUc, true, true, {.imm_dt = true}));
  constexpr Transport kUd = Transport::kUd;
  Put(table, Opcode::kUdSendOnly,
      Send("UD SEND ONLY", kUd, true, true, {.deth = true}));
  Put(table, Opcode::kUdSendOnlyImm,
      Send("UD SEND ONLY with immediate", kUd, true, true,
           {.deth = true, .imm_dt = true}));
}

constexpr Table kTable = [] {
  Table table{};
  PutReliable(table);
  PutUnreliable(table);
  return table;
}();

// The part of the opcode that says FIRST, MIDDLE, LAST or ONLY, for a kind
// whose opcodes begin at `base`.
constexpr int Part(int base, bool first, bool last, bool immediate) {
  if (first && last) return base + 4 + (immediate ? 1 : 0);
  if (first) return base;
  if (!last) return base + 1;
  return base + 2 + (immediate ? 1 : 0);
}

}  // namespace

size_t OpcodeFacts::header_bytes() const {
  size_t bytes = Bth::kSize;
  if (headers.deth) bytes += Deth::kSize;
  if (headers.reth) bytes += Reth::kSize;
  if (headers.atomic_eth) bytes += AtomicEth::kSize;
  if (headers.aeth) bytes += Aeth::kSize;
  if (headers.atomic_ack_eth) bytes += AtomicAckEth::kSize;
  if (headers.imm_dt) bytes += ImmDt::kSize;
  if (headers.ieth) bytes += Ieth::kSize;
  return bytes;
}

const OpcodeFacts& FactsOf(Opcode opcode) {
  return kTable[static_cast<size_t>(opcode)];
}

Opcode MessageOpcode(Transport transport, PacketKind kind, bool first,
                     bool last, Ending ending) {
  const bool immediate = last && ending == Ending::kImmediate;
  if (transport == Transport::kUd) {
    return immediate ? Opcode::kUdSendOnlyImm : Opcode::kUdSendOnly;
  }
  if (last && ending == Ending::kInvalidate) {
    return first ? Opcode::kRcSendOnlyInv : Opcode::kRcSendLastInv;
  }
  const Opcode base =
      kind == PacketKind::kWrite ? Opcode::kRcWriteFirst : Opcode::kRcSendFirst;
  const int of_rc = Part(ToInt(base), first, last, immediate);
  const int shift =
      transport == Transport::kUc ? ToInt(Opcode::kUcSendFirst) : 0;
  return static_cast<Opcode>(of_rc + shift);
}

Opcode ReadResponseOpcode(bool first, bool last) {
  if (first) {
    return last ? Opcode::kRcReadResponseOnly : Opcode::kRcReadResponseFirst;
  }
  return last ? Opcode::kRcReadResponseLast : Opcode::kRcReadResponseMiddle;
}

}  // namespace nd::soft
