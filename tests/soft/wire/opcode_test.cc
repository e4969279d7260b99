#include "soft/wire/opcode.h"

#include <gtest/gtest.h>

#include <string>

namespace nd::soft {
namespace {

TEST(Opcode, ThirtySevenAreKnown) {
  int known = 0;
  for (int value = 0; value < 256; ++value) {
    if (FactsOf(static_cast<Opcode>(value)).known()) ++known;
  }
  EXPECT_EQ(known, 37);
}

TEST(Opcode, ReservedOnesAreUnknown) {
  for (const int value : {0x15, 0x18, 0x1f, 0x2c, 0x40, 0x60, 0x66, 0xc0}) {
    EXPECT_FALSE(FactsOf(static_cast<Opcode>(value)).known()) << value;
  }
}

// UC has RC's SENDs and WRITEs, 0x20 higher (table 38).
TEST(Opcode, UcIsRcShifted) {
  for (int value = 0; value <= 0x0b; ++value) {
    const OpcodeFacts& rc = FactsOf(static_cast<Opcode>(value));
    const OpcodeFacts& uc = FactsOf(static_cast<Opcode>(value + 0x20));
    EXPECT_EQ(std::string(rc.name).substr(3), std::string(uc.name).substr(3));
    EXPECT_EQ(uc.transport, Transport::kUc);
    EXPECT_EQ(rc.first, uc.first);
    EXPECT_EQ(rc.last, uc.last);
    EXPECT_EQ(rc.headers, uc.headers);
  }
}

TEST(Opcode, HeadersAddUp) {
  EXPECT_EQ(FactsOf(Opcode::kRcSendMiddle).header_bytes(), 12u);
  EXPECT_EQ(FactsOf(Opcode::kRcWriteOnlyImm).header_bytes(), 12u + 16 + 4);
  EXPECT_EQ(FactsOf(Opcode::kRcCompareSwap).header_bytes(), 12u + 28);
  EXPECT_EQ(FactsOf(Opcode::kRcAtomicAcknowledge).header_bytes(), 12u + 4 + 8);
  EXPECT_EQ(FactsOf(Opcode::kUdSendOnlyImm).header_bytes(), 12u + 8 + 4);
}

struct MessagePart {
  Transport transport;
  PacketKind kind;
  bool first, last;
  Ending ending;
  Opcode expected;
};

TEST(MessageOpcode, NamesEachPart) {
  constexpr Transport kRc = Transport::kRc, kUc = Transport::kUc;
  constexpr PacketKind kSend = PacketKind::kSend, kWrite = PacketKind::kWrite;
  constexpr Ending kPlain = Ending::kPlain, kImm = Ending::kImmediate;
  const MessagePart parts[] = {
      {kRc, kSend, true, false, kImm, Opcode::kRcSendFirst},
      {kRc, kSend, false, false, kImm, Opcode::kRcSendMiddle},
      {kRc, kSend, false, true, kImm, Opcode::kRcSendLastImm},
      {kRc, kSend, true, true, kPlain, Opcode::kRcSendOnly},
      {kRc, kSend, false, true, Ending::kInvalidate, Opcode::kRcSendLastInv},
      {kRc, kSend, true, true, Ending::kInvalidate, Opcode::kRcSendOnlyInv},
      {kRc, kSend, true, false, Ending::kInvalidate, Opcode::kRcSendFirst},
      {kRc, kWrite, false, true, kPlain, Opcode::kRcWriteLast},
      {kRc, kWrite, true, true, kImm, Opcode::kRcWriteOnlyImm},
      {kUc, kSend, false, true, kPlain, Opcode::kUcSendLast},
      {kUc, kWrite, false, false, kImm, Opcode::kUcWriteMiddle},
      {kUc, kWrite, false, true, kImm, Opcode::kUcWriteLastImm},
      {Transport::kUd, kSend, true, true, kPlain, Opcode::kUdSendOnly},
      {Transport::kUd, kSend, true, true, kImm, Opcode::kUdSendOnlyImm},
  };
  for (const MessagePart& part : parts) {
    const Opcode opcode = MessageOpcode(part.transport, part.kind, part.first,
                                        part.last, part.ending);
    EXPECT_EQ(opcode, part.expected) << FactsOf(part.expected).name;
    EXPECT_EQ(FactsOf(opcode).first, part.first);
    EXPECT_EQ(FactsOf(opcode).last, part.last);
    EXPECT_EQ(FactsOf(opcode).kind, part.kind);
  }
}

TEST(ReadResponseOpcode, NamesEachPart) {
  EXPECT_EQ(ReadResponseOpcode(true, false), Opcode::kRcReadResponseFirst);
  EXPECT_EQ(ReadResponseOpcode(false, false), Opcode::kRcReadResponseMiddle);
  EXPECT_EQ(ReadResponseOpcode(false, true), Opcode::kRcReadResponseLast);
  EXPECT_EQ(ReadResponseOpcode(true, true), Opcode::kRcReadResponseOnly);
}

}  // namespace
}  // namespace nd::soft
