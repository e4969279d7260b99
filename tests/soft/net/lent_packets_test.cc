#include "soft/net/lent_packets.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/cache_line.h"
#include "soft/net/bench.h"

namespace nd::soft {
namespace {

constexpr size_t kMtu = 4096;
constexpr Qpn kOne{1};
constexpr Qpn kOther{2};

// Packets that wait, and what was handed out, in words: "0 x4" are four packets
// from PSN 0 on.
class LentPacketsTest : public testing::Test, private ArrivalSink {
 protected:
  static constexpr size_t kRingBytes = size_t{16} << 10;

  Packet PacketOf(Qpn qpn, uint32_t psn, uint8_t packets = 1,
                  Opcode opcode = Opcode::kRcSendOnly) {
    Packet packet;
    packet.bth = {.opcode = opcode, .destination = qpn, .psn = Psn(psn)};
    packet.packets = packets;
    return packet;
  }
  void Lend(Qpn qpn, uint32_t psn, uint8_t packets,
            Opcode opcode = Opcode::kRcSendOnly) {
    packets_.Push({}, PacketOf(qpn, psn, packets, opcode),
                  {.address = reinterpret_cast<uintptr_t>(&bytes_[psn * kMtu]),
                   .length = packets * kMtu,
                   .word_address = reinterpret_cast<uintptr_t>(&word_),
                   .word = 1},
                  lender_, *this);
  }
  // Whether it passes what waits.
  bool Passes(const Packet& packet) {
    return !packets_.TakeBehind({.path = {}, .packet = packet}, *this);
  }
  std::string Some() {
    handed_out_.clear();
    packets_.HandOutSome(*this);
    return handed_out_;
  }

  void OnArrival(const Arrival& arrival) override {
    const Packet& packet = arrival.packet;
    absl::StrAppend(&handed_out_, handed_out_.empty() ? "" : ", ",
                    packet.bth.psn.value());
    if (packet.far == nullptr) {
      absl::StrAppend(&handed_out_, " len ", packet.payload.size());
      return;
    }
    EXPECT_EQ(packet.far->size(), packet.packets * kMtu);
    std::vector<std::byte> fetched(packet.far->size());
    const std::span<std::byte> piece(fetched);
    EXPECT_TRUE(packet.far->CopyTo({&piece, 1}));
    // Its packets lie one behind the other.
    const size_t offset = packet.bth.psn.value() * kMtu;
    EXPECT_TRUE(std::ranges::equal(
        fetched, std::span(bytes_).subspan(offset, fetched.size())));
    absl::StrAppend(&handed_out_, " x", packet.packets,
                    packet.facts().first ? " first" : "",
                    packet.facts().last ? " last" : "");
  }

  std::vector<std::byte> bytes_ = Payload(64 * kMtu, 1);
  const LoanWord word_{1};
  struct alignas(kCacheLineBytes) Line {
    std::array<std::byte, kCacheLineBytes> bytes{};
  };
  std::vector<Line> memory_{(kRingControlBytes + kRingBytes) / sizeof(Line)};
  RingProducer producer_{std::as_writable_bytes(std::span(memory_))};
  RingConsumer consumer_{std::as_writable_bytes(std::span(memory_))};
  std::shared_ptr<Lender> lender_ =
      std::make_shared<Lender>(getpid(), true, consumer_);
  LentPackets packets_;
  std::string handed_out_;
};

TEST_F(LentPacketsTest, ALenderIsToldWhetherItsMemoryIsRead) {
  EXPECT_TRUE(lender_->fetches());
  EXPECT_TRUE(producer_.fetches());
  lender_->StopFetching();
  EXPECT_FALSE(producer_.fetches());
  EXPECT_FALSE(Lender(getpid(), false, consumer_).fetches());
  EXPECT_FALSE(producer_.fetches());
  EXPECT_FALSE(Lender(0, true, consumer_).fetches());
  EXPECT_FALSE(Lender(1 << 22, true, consumer_).fetches());  // above pid_max
}

// A pid that means another process here than there.
TEST_F(LentPacketsTest, MemoryThatIsNotTheLendersIsNotRead) {
  std::ranges::fill(std::as_writable_bytes(std::span(memory_)), std::byte{});
  EXPECT_FALSE(Lender(getpid(), true, consumer_).fetches());
}

TEST_F(LentPacketsTest, AreHandedOutOneByOneAndWhole) {
  Lend(kOne, 0, 32);
  Lend(kOther, 0, 8);
  EXPECT_EQ(Some(), "0 x32 first last");
  EXPECT_EQ(Some(), "0 x8 first last");
  EXPECT_TRUE(packets_.empty());
}

TEST_F(LentPacketsTest, WhatIsForAnotherQueuePairPassesThem) {
  Lend(kOne, 0, 4);
  EXPECT_TRUE(Passes(PacketOf(kOther, 7)));
}

TEST_F(LentPacketsTest, WhatIsForTheSameQueuePairComesBehindThem) {
  Lend(kOne, 0, 4);
  const std::vector<std::byte> payload(10);
  Packet behind = PacketOf(kOne, 4);
  behind.payload = payload;
  EXPECT_FALSE(Passes(behind));
  Lend(kOne, 5, 2);
  EXPECT_EQ(Some(), "0 x4 first last, 4 len 10");
  EXPECT_EQ(Some(), "5 x2 first last");
}

TEST_F(LentPacketsTest, AnswersAndRequestsPassOneAnother) {
  Lend(kOne, 0, 4);
  EXPECT_TRUE(Passes(PacketOf(kOne, 9, 1, Opcode::kRcAcknowledge)));
  Lend(kOther, 0, 4, Opcode::kRcReadResponseOnly);
  EXPECT_TRUE(Passes(PacketOf(kOther, 1)));
  EXPECT_FALSE(Passes(PacketOf(kOther, 9, 1, Opcode::kRcAcknowledge)));
}

TEST_F(LentPacketsTest, AreTakenApartWhileSomethingPassesThem) {
  Lend(kOne, 0, 20);
  EXPECT_TRUE(Passes(PacketOf(kOther, 7)));
  EXPECT_EQ(Some(), "0 x8 first");
  EXPECT_EQ(Some(), "8 x8");
  EXPECT_EQ(Some(), "16 x4 last");
  for (int i = 0; i < 5; ++i) {
    Lend(kOne, 0, 1);
    Some();
  }
  Lend(kOne, 0, 20);
  EXPECT_EQ(Some(), "0 x20 first last");
}

TEST_F(LentPacketsTest, OneThatIsBegunIsNotPassedByItsQueuePairsNext) {
  Lend(kOne, 0, 20);
  EXPECT_TRUE(Passes(PacketOf(kOther, 7)));
  Some();
  EXPECT_FALSE(Passes(PacketOf(kOne, 20)));
}

TEST_F(LentPacketsTest, AreBounded) {
  for (uint32_t i = 0; i < 1000; ++i) Lend(kOne, 0, 2);
  size_t left = 0;
  for (; !packets_.empty(); ++left) Some();
  EXPECT_LE(left, 256u);
}

TEST_F(LentPacketsTest, MoreThanMayWaitBehindOneIsHandedOutWithIt) {
  Lend(kOne, 0, 2);
  std::string expected = "0 x2 first last";
  uint32_t psn = 2;
  for (; !Passes(PacketOf(kOne, psn)); ++psn) {
    ASSERT_LT(psn, 1000u);
    absl::StrAppend(&expected, ", ", psn, " len 0");
  }
  EXPECT_TRUE(packets_.empty());
  EXPECT_EQ(handed_out_, expected);
}

TEST_F(LentPacketsTest, TheMarkIsPassedOnceAllBeforeItAreHandedOut) {
  Lend(kOne, 0, 2);
  packets_.Mark();
  Lend(kOther, 0, 2);
  EXPECT_FALSE(packets_.PassedMark());
  Some();
  EXPECT_TRUE(packets_.PassedMark());
}

}  // namespace
}  // namespace nd::soft
