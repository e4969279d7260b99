#include "soft/wire/burst.h"

#include <gtest/gtest.h>

#include <vector>

namespace nd::soft {
namespace {

constexpr size_t kMtu = 512;

Packet Burst(Opcode opcode, uint8_t packets,
             std::span<const std::byte> payload) {
  Packet burst;
  burst.bth = {.opcode = opcode,
               .solicited = true,
               .pad = PadFor(payload.size()),
               .ack_req = true,
               .psn = Psn(0xffffff)};
  burst.payload = payload;
  burst.packets = packets;
  return burst;
}

TEST(Burst, IsSeveralPacketsOfAMessageOfRc) {
  EXPECT_TRUE(IsBurst(Burst(Opcode::kRcSendOnly, 2, {})));
  EXPECT_TRUE(IsBurst(Burst(Opcode::kRcWriteMiddle, 2, {})));
  EXPECT_TRUE(IsBurst(Burst(Opcode::kRcReadResponseLast, 2, {})));
  EXPECT_FALSE(IsBurst(Burst(Opcode::kRcSendOnly, 1, {})));
  EXPECT_FALSE(IsBurst(Burst(Opcode::kRcReadRequest, 2, {})));
  EXPECT_FALSE(IsBurst(Burst(Opcode::kRcAcknowledge, 2, {})));
  EXPECT_FALSE(IsBurst(Burst(Opcode::kUcSendOnly, 2, {})));
  EXPECT_FALSE(IsBurst(Burst(Opcode::kUdSendOnly, 2, {})));
}

TEST(Burst, CountAndLengthGiveTheMtu) {
  for (size_t mtu = 256; mtu <= 4096; mtu *= 2) {
    for (size_t packets = 2; packets <= 64; ++packets) {
      ASSERT_EQ(MtuOfBurst(packets, packets * mtu), mtu);
      ASSERT_EQ(MtuOfBurst(packets, (packets - 1) * mtu + 1), mtu);
    }
  }
}

TEST(Burst, ItsPartsAreTheMessagesPackets) {
  const std::vector<std::byte> bytes(2 * kMtu + 5);
  const Packet burst = Burst(Opcode::kRcSendOnlyImm, 3, bytes);
  const Packet first = PartOfBurst(burst, 0, 1);
  const Packet middle = PartOfBurst(burst, 1, 1);
  const Packet last = PartOfBurst(burst, 2, 1);
  EXPECT_EQ(first.bth.opcode, Opcode::kRcSendFirst);
  EXPECT_EQ(middle.bth.opcode, Opcode::kRcSendMiddle);
  EXPECT_EQ(last.bth.opcode, Opcode::kRcSendLastImm);
  EXPECT_EQ(first.bth.psn, Psn(0xffffff));
  EXPECT_EQ(middle.bth.psn, Psn(0));
  EXPECT_EQ(last.bth.psn, Psn(1));
  EXPECT_EQ(first.payload.data(), bytes.data());
  EXPECT_EQ(first.payload.size(), kMtu);
  EXPECT_EQ(middle.payload.data(), bytes.data() + kMtu);
  EXPECT_EQ(middle.payload.size(), kMtu);
  EXPECT_EQ(last.payload.size(), 5u);
  EXPECT_EQ(first.bth.pad, 0);
  EXPECT_EQ(last.bth.pad, 3);
  EXPECT_FALSE(first.bth.ack_req || middle.bth.ack_req);
  EXPECT_FALSE(first.bth.solicited || middle.bth.solicited);
  EXPECT_TRUE(last.bth.ack_req && last.bth.solicited);
}

TEST(Burst, APartMayBeSeveralPackets) {
  const std::vector<std::byte> bytes(4 * kMtu);
  const Packet part = PartOfBurst(Burst(Opcode::kRcWriteFirst, 4, bytes), 1, 3);
  EXPECT_EQ(part.packets, 3);
  EXPECT_EQ(part.bth.opcode, Opcode::kRcWriteMiddle);
  EXPECT_EQ(part.payload.size(), 3 * kMtu);
  EXPECT_TRUE(part.bth.ack_req);
}

TEST(Burst, EachKindKeepsItsOpcodes) {
  const std::vector<std::byte> bytes(2 * kMtu);
  const auto ends = [&bytes](Opcode opcode) {
    const Packet burst = Burst(opcode, 2, bytes);
    return std::pair(PartOfBurst(burst, 0, 1).bth.opcode,
                     PartOfBurst(burst, 1, 1).bth.opcode);
  };
  EXPECT_EQ(ends(Opcode::kRcSendOnlyInv),
            std::pair(Opcode::kRcSendFirst, Opcode::kRcSendLastInv));
  EXPECT_EQ(ends(Opcode::kRcWriteOnlyImm),
            std::pair(Opcode::kRcWriteFirst, Opcode::kRcWriteLastImm));
  EXPECT_EQ(
      ends(Opcode::kRcReadResponseOnly),
      std::pair(Opcode::kRcReadResponseFirst, Opcode::kRcReadResponseLast));
  EXPECT_EQ(
      ends(Opcode::kRcReadResponseMiddle),
      std::pair(Opcode::kRcReadResponseMiddle, Opcode::kRcReadResponseMiddle));
}

// As from a peer that says of itself what it likes.
TEST(Burst, PacketsWithoutBytesAreEmpty) {
  const std::vector<std::byte> bytes(3);
  const Packet burst = Burst(Opcode::kRcSendOnly, 255, bytes);
  EXPECT_EQ(PartOfBurst(burst, 0, 1).payload.size(), 3u);
  EXPECT_TRUE(PartOfBurst(burst, 1, 253).payload.empty());
  EXPECT_TRUE(PartOfBurst(burst, 254, 1).payload.empty());
}

}  // namespace
}  // namespace nd::soft
