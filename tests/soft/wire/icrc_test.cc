#include "soft/wire/icrc.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/random.h"
#include "soft/wire/headers.h"

namespace nd::soft {
namespace {

// From rdma_rxe, Linux 6.1: rping_ipv4.pcap and rc_ipv6 captures.
constexpr std::array<uint8_t, 16> kFirst = {0, 0, 0,    0,    0,  0,  0, 0,
                                            0, 0, 0xff, 0xff, 10, 98, 0, 1};
constexpr std::array<uint8_t, 16> kSecond = {0, 0, 0,    0,    0,  0,  0, 0,
                                             0, 0, 0xff, 0xff, 10, 98, 0, 2};

std::vector<std::byte> Bytes(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

const NetHeaders kHeaders = {.source = kSecond,
                             .destination = kFirst,
                             .source_port = 0xc7c5,
                             .identification = 0x434f};
const std::vector<std::byte> kAck =
    Bytes({0x11, 0, 0xff, 0xff, 0, 0, 0, 0x11, 0, 0, 1, 0, 0x1f, 0, 0, 1});
constexpr uint32_t kAckIcrc = 0xb38a076e;

TEST(Icrc, IsThatOfAPacketOfRxe) { EXPECT_EQ(Icrc(kHeaders, kAck), kAckIcrc); }

TEST(Icrc, Ipv6PacketOfRxe) {
  NetHeaders headers = {.source_port = 0xcf3c};
  headers.source = {0xfd, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  headers.destination = {0xfd, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  const auto ack =
      Bytes({0x11, 0, 0xff, 0xff, 0, 0, 0, 0x1e, 0, 0, 1, 2, 0x1f, 0, 0, 1});
  EXPECT_EQ(Icrc(headers, ack), 0x256c1358u);
}

TEST(Icrc, IsTheSameInPieces) {
  for (size_t i = Bth::kSize; i <= kAck.size(); ++i) {
    const auto begin = std::span(kAck).first(i);
    const auto rest = std::span(kAck).subspan(i);
    EXPECT_EQ(ExtendIcrc(BeginIcrc(kHeaders, begin, kAck.size()), rest),
              kAckIcrc);
  }
}

TEST(Icrc, CongestionBitsDoNotCount) {
  std::vector<std::byte> marked = kAck;
  marked[4] = std::byte{0xc0};
  EXPECT_EQ(Icrc(kHeaders, marked), kAckIcrc);
}

TEST(Icrc, EveryOtherBitCounts) {
  for (size_t i = 0; i < kAck.size() * 8; ++i) {
    if (i / 8 == 4) continue;
    std::vector<std::byte> changed = kAck;
    changed[i / 8] ^= static_cast<std::byte>(1 << i % 8);
    EXPECT_NE(Icrc(kHeaders, changed), kAckIcrc) << "bit " << i;
  }
  NetHeaders headers = kHeaders;
  headers.source_port ^= 1;
  EXPECT_NE(Icrc(headers, kAck), kAckIcrc);
  headers = kHeaders;
  headers.dont_fragment = false;
  EXPECT_NE(Icrc(headers, kAck), kAckIcrc);
  headers = kHeaders;
  std::swap(headers.source, headers.destination);
  EXPECT_NE(Icrc(headers, kAck), kAckIcrc);
}

TEST(Icrc, StandsBehindThePacketLeastSignificantByteFirst) {
  std::vector<std::byte> datagram = kAck;
  datagram.resize(kAck.size() + kIcrcBytes);
  StoreIcrc(kAckIcrc, std::span(datagram).last<kIcrcBytes>());
  EXPECT_EQ(datagram[kAck.size()], std::byte{0x6e});
  const Sealed sealed = Unseal(datagram);
  EXPECT_EQ(sealed.icrc, kAckIcrc);
  EXPECT_TRUE(std::ranges::equal(sealed.packet, kAck));
}

TEST(Icrc, DatagramWithoutPlaceForOneIsEmpty) {
  const std::vector<std::byte> shortest(Bth::kSize + kIcrcBytes);
  EXPECT_EQ(Unseal(shortest).packet.size(), Bth::kSize);
  EXPECT_TRUE(Unseal(std::span(shortest).first(15)).packet.empty());
  EXPECT_TRUE(Unseal({}).packet.empty());
}

TEST(IcrcMatches, AnyIdentificationButNoOtherChange) {
  SeededRandom random(7);
  for (const size_t payload : {0, 1, 63, 256, 1024, 4096}) {
    std::vector<std::byte> packet = kAck;
    for (size_t i = 0; i < payload; ++i) {
      packet.push_back(static_cast<std::byte>(random.Next()));
    }
    NetHeaders sent = kHeaders, seen = kHeaders;
    seen.identification = 0;
    for (int i = 0; i < 64; ++i) {
      sent.identification = static_cast<uint16_t>(random.Next());
      const uint32_t icrc = Icrc(sent, packet);
      EXPECT_TRUE(IcrcMatches(seen, {.packet = packet, .icrc = icrc}));
      const uint32_t flip = uint32_t{1} << random.Next() % 32;
      EXPECT_FALSE(IcrcMatches(seen, {.packet = packet, .icrc = icrc ^ flip}));
    }
  }
}

TEST(IcrcMatches, Ipv6HasNothingToGuess) {
  NetHeaders headers = {.source_port = 1};
  headers.source[0] = headers.destination[0] = 0xfd;
  const uint32_t icrc = Icrc(headers, kAck);
  EXPECT_TRUE(IcrcMatches(headers, {.packet = kAck, .icrc = icrc}));
  for (int bit = 0; bit < 32; ++bit) {
    EXPECT_FALSE(IcrcMatches(
        headers, {.packet = kAck, .icrc = icrc ^ (uint32_t{1} << bit)}));
  }
}

}  // namespace
}  // namespace nd::soft
