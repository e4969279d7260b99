// Every packet that the kernel's rxe, its CM and crafted probes put on the
// wire, parsed and written again. tests/golden/roce/README.md says what each
// capture holds.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "soft/pcap.h"
#include "soft/wire/icrc.h"
#include "soft/wire/mad.h"
#include "soft/wire/packet.h"

namespace nd::soft {
namespace {

// What the probes and the mangling wire hold that is wrong on purpose.
struct Wrong {
  size_t icrc = 0;
  size_t packets = 0;  // no packets, or not written again as they were
  size_t mads = 0;     // likewise
};
Wrong WrongIn(const std::string& name) {
  if (name == "icrc_mangled") return {.icrc = 8};
  // R10: a header version, five opcodes, a datagram's on an RC QP; R11: pad.
  if (name == "probes_responder") return {.icrc = 2, .packets = 8};
  // M05: classes, versions, lengths; M99: longer than a MAD.
  if (name == "probes_cm") return {.mads = 9};
  return {};
}

class Golden : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    datagrams_ = ReadPcap(GetParam());
    ASSERT_FALSE(datagrams_.empty());
  }
  Wrong wrong() const { return WrongIn(GoldenName(GetParam())); }

  std::vector<CapturedDatagram> datagrams_;
};

std::vector<std::byte> Rewritten(const Packet& packet) {
  std::vector<std::byte> bytes(WireBytes(packet));
  ByteWriter writer{std::span<std::byte>(bytes)};
  Write(packet, writer);
  EXPECT_TRUE(writer.ok());
  EXPECT_EQ(writer.remaining(), 0u);
  return bytes;
}

TEST_P(Golden, PacketsWrittenAgainAreTheSame) {
  std::vector<int> wrong_ones;
  for (const CapturedDatagram& datagram : datagrams_) {
    const Sealed sealed = Unseal(datagram.payload);
    Packet packet;
    if (Parse(sealed.packet, packet) != PacketFault::kNone ||
        !std::ranges::equal(Rewritten(packet), sealed.packet)) {
      wrong_ones.push_back(datagram.number);
    }
  }
  EXPECT_EQ(wrong_ones.size(), wrong().packets)
      << ::testing::PrintToString(wrong_ones);
}

TEST_P(Golden, IcrcIsThatOfTheCapture) {
  std::vector<int> wrong_ones;
  for (const CapturedDatagram& datagram : datagrams_) {
    const Sealed sealed = Unseal(datagram.payload);
    if (Icrc(datagram.headers, sealed.packet) != sealed.icrc) {
      wrong_ones.push_back(datagram.number);
    }
  }
  EXPECT_EQ(wrong_ones.size(), wrong().icrc)
      << ::testing::PrintToString(wrong_ones);
}

// A plain UDP socket does not tell the identification.
TEST_P(Golden, IcrcMatchesWithoutTheIdentification) {
  for (const CapturedDatagram& datagram : datagrams_) {
    const Sealed sealed = Unseal(datagram.payload);
    if (Icrc(datagram.headers, sealed.packet) != sealed.icrc) continue;
    NetHeaders headers = datagram.headers;
    headers.identification = 0;
    EXPECT_TRUE(IcrcMatches(headers, sealed)) << "packet " << datagram.number;
    EXPECT_FALSE(IcrcMatches(
        headers, {.packet = sealed.packet, .icrc = sealed.icrc ^ 0x10000}))
        << "packet " << datagram.number;
  }
}

TEST_P(Golden, PacketCutInItsHeadersIsRefused) {
  for (const CapturedDatagram& datagram : datagrams_) {
    const Sealed sealed = Unseal(datagram.payload);
    Packet packet;
    if (Parse(sealed.packet, packet) != PacketFault::kNone) continue;
    const size_t least = packet.facts().header_bytes() + packet.bth.pad;
    for (size_t cut = 0; cut < least; ++cut) {
      Packet part;
      EXPECT_EQ(Parse(sealed.packet.first(cut), part), PacketFault::kTooShort)
          << "packet " << datagram.number << " cut at " << cut;
    }
  }
}

TEST_P(Golden, ManagementDatagramsWrittenAgainAreTheSame) {
  std::vector<int> wrong_ones;
  for (const CapturedDatagram& datagram : datagrams_) {
    Packet packet;
    if (Parse(Unseal(datagram.payload).packet, packet) != PacketFault::kNone ||
        packet.bth.destination != kGsiQpn) {
      continue;
    }
    const auto mad = ParseCmMad(packet.payload);
    std::array<std::byte, kMadBytes> bytes{};
    if (mad.has_value()) WriteCmMad(*mad, bytes);
    if (!std::ranges::equal(bytes, packet.payload)) {
      wrong_ones.push_back(datagram.number);
    }
  }
  EXPECT_EQ(wrong_ones.size(), wrong().mads)
      << ::testing::PrintToString(wrong_ones);
}

INSTANTIATE_TEST_SUITE_P(Captures, Golden,
                         ::testing::ValuesIn(GoldenCaptures()),
                         [](const ::testing::TestParamInfo<std::string>& info) {
                           return GoldenName(info.param);
                         });

}  // namespace
}  // namespace nd::soft
