// Faults: how they are written, and what they do to packets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "soft/net/bench.h"
#include "soft/net/fault_spec.h"
#include "soft/net/faulty_network.h"

namespace nd::soft {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

TEST(FaultSpec, NothingIsNoFault) {
  EXPECT_EQ(*ParseFaultSpec(""), FaultSpec{});
  EXPECT_EQ(*ParseFaultSpec(" ; "), FaultSpec{});
}

TEST(FaultSpec, ReadsEveryKind) {
  const auto spec = ParseFaultSpec(
      "seed=7; drop=0.01; duplicate=0.001; delay=2ms@0.02; reorder=0.05;"
      "corrupt=1; rnr=0.5; shuffle=0.3; cqe=RETRY_EXC_ERR@0.25; cm-reject=0.1;"
      "port-down=after:3s,for:1.5s; gid-change=after:200us;"
      "device-removal=after:0s");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(
      *spec,
      (FaultSpec{
          .seed = 7,
          .drop = 0.01,
          .duplicate = 0.001,
          .reorder = 0.05,
          .corrupt = 1,
          .delay = {.probability = 0.02, .by = milliseconds(2)},
          .rnr = 0.5,
          .shuffle = 0.3,
          .cqe = {.probability = 0.25, .status = IBV_WC_RETRY_EXC_ERR},
          .cm_reject = 0.1,
          .port_down = {{.after = seconds(3), .lasts = milliseconds(1500)}},
          .gid_change = std::chrono::microseconds(200),
          .device_removal = seconds(0)}));
}

TEST(FaultSpec, SaysWhichPieceIsWrong) {
  const std::pair<const char*, const char*> kWrong[] = {
      {"drop=0.1;drop=0.2", "'drop=0.2': given twice"},
      {"drop", "'drop': 'drop' takes a probability"},
      {"seed=1;drop=1.5", "'drop=1.5': 'drop' takes a probability"},
      {"drop=nan", "'drop=nan'"},
      {"drop=-0.1", "'drop=-0.1'"},
      {"seed=-1", "'seed=-1'"},
      {"delay=2ms", "'delay=2ms'"},
      {"delay=2@0.1", "'delay=2@0.1'"},
      {"delay=-2ms@0.1", "'delay=-2ms@0.1'"},
      {"delay=1e9s@0.1", "'delay=1e9s@0.1'"},
      {"cqe=SUCCESS@0.1", "'cqe=SUCCESS@0.1'"},
      {"port-down=3s", "'port-down=3s'"},
      {"port-down=after:3s,until:4s", "'port-down=after:3s,until:4s'"},
      {"device-removal=after:", "'device-removal=after:'"},
      {"shuffle=2", "'shuffle' takes a probability from 0 to 1"},
      {"lightning=1", "'lightning=1': no such fault; there are seed, drop"},
  };
  for (const auto& [text, reason] : kWrong) {
    const auto spec = ParseFaultSpec(text);
    ASSERT_FALSE(spec.ok()) << text;
    EXPECT_THAT(std::string(spec.status().message()), HasSubstr(reason));
  }
}

TEST(FaultSpec, PortIsDownFromThenForSoLong) {
  const FaultSpec spec = *ParseFaultSpec("port-down=after:3s,for:1s");
  EXPECT_FALSE(IsPortDown(spec, milliseconds(2999)));
  EXPECT_TRUE(IsPortDown(spec, seconds(3)));
  EXPECT_TRUE(IsPortDown(spec, milliseconds(3999)));
  EXPECT_FALSE(IsPortDown(spec, seconds(4)));
  const FaultSpec ever = *ParseFaultSpec("port-down=after:3s");
  EXPECT_TRUE(IsPortDown(ever, seconds(3000)));
}

// Gives back what was sent.
class Echo final : public Network {
 public:
  uint32_t slot() const override { return 1; }
  size_t Room(const Path&, Qpn) override { return 1; }
  void Send(const Path& path, const Outgoing& outgoing) override {
    packets_.push_back({.path = path,
                        .bth = outgoing.packet.bth,
                        .packets = outgoing.packet.packets});
  }
  void Flush() override {}
  size_t Receive(Instant, ArrivalSink& sink) override {
    size_t count = 0;
    for (; !packets_.empty(); ++count) {
      const Arrived sent = std::move(packets_.front());
      packets_.pop_front();
      // Gone once the sink returns, as a ring's bytes are.
      const size_t size = sent.packets == 1 ? kBytes : sent.packets * kMtu;
      auto payload = Payload(size, sent.bth.psn.value());
      Packet packet{.bth = sent.bth};
      packet.payload = payload;
      packet.packets = sent.packets;
      sink.OnArrival({.path = sent.path, .packet = packet});
      payload.assign(size, std::byte{0});
    }
    return count;
  }
  std::optional<Instant> NextDeadline() const override { return {}; }
  bool Rest() override { return true; }
  int fd() const override { return -1; }
  absl::Status ClaimService(const HostService&) override {
    return absl::OkStatus();
  }
  void ReleaseService(const HostService&) override {}
  absl::Status JoinGroup(const Gid&) override { return absl::OkStatus(); }
  void LeaveGroup(const Gid&) override {}

  static constexpr size_t kBytes = 64;
  static constexpr size_t kMtu = 256;  // of packets that go as one

 private:
  std::deque<Arrived> packets_;
};

class FaultyNetworkTest : public testing::Test {
 protected:
  void Use(const char* spec) {
    network_ = std::make_unique<FaultyNetwork>(
        *ParseFaultSpec(spec), std::make_unique<Echo>(), 7, start_);
  }
  void Send(uint32_t first, uint32_t last) {
    for (uint32_t psn = first; psn <= last; ++psn) {
      SendTo(*network_, {}, QpnOf(1), psn, Echo::kBytes);
    }
  }
  std::vector<uint32_t> ReceiveAt(Duration elapsed) {
    Collector sink;
    network_->Receive(start_ + elapsed, sink);
    std::vector<uint32_t> psns;
    for (const Arrived& arrived : sink.arrived) {
      EXPECT_TRUE(IsIntact(arrived, Echo::kBytes));
      psns.push_back(arrived.bth.psn.value());
    }
    return psns;
  }

  // Packets that come together: the first PSN and how many, of each part that
  // arrives of those with PSNs `first` to `last`, sent as one.
  std::vector<std::pair<uint32_t, int>> PartsOfBurst(uint32_t first,
                                                     uint32_t last) {
    const auto packets = static_cast<uint8_t>(last - first + 1);
    const size_t size = packets * Echo::kMtu;
    SendTo(*network_, {}, QpnOf(1), first, size, packets);
    Collector sink;
    network_->Receive(start_, sink);
    const auto sent = Payload(size, first);
    std::vector<std::pair<uint32_t, int>> parts;
    for (const Arrived& part : sink.arrived) {
      const size_t offset = (part.bth.psn.value() - first) * Echo::kMtu;
      EXPECT_EQ(part.payload.size(), part.packets * Echo::kMtu);
      EXPECT_TRUE(std::equal(part.payload.begin(), part.payload.end(),
                             sent.begin() + static_cast<ptrdiff_t>(offset)));
      parts.emplace_back(part.bth.psn.value(), part.packets);
    }
    return parts;
  }

  const Instant start_{std::chrono::hours(1)};
  std::unique_ptr<FaultyNetwork> network_;
};

TEST_F(FaultyNetworkTest, PacketsThatComeTogetherStayTogether) {
  Use("seed=1");
  EXPECT_THAT(PartsOfBurst(1, 16), ElementsAre(Pair(1, 16)));
}

TEST_F(FaultyNetworkTest, EachOfThoseThatComeTogetherHasItsOwnFault) {
  Use("drop=0.25");
  const auto parts = PartsOfBurst(1, 64);
  const auto dropped = network_->counters().dropped;
  EXPECT_GT(dropped, 8u);
  EXPECT_LT(dropped, 24u);
  uint64_t arrived = 0;
  uint32_t end = 1;
  for (const auto& [psn, packets] : parts) {
    // Between two parts at least one was lost.
    EXPECT_TRUE(psn > end || psn == 1);
    end = psn + static_cast<uint32_t>(packets);
    arrived += static_cast<uint64_t>(packets);
  }
  EXPECT_EQ(arrived + dropped, 64u);
  EXPECT_GT(std::ranges::count_if(
                parts, [](const auto& part) { return part.second > 1; }),
            0);
}

TEST_F(FaultyNetworkTest, FaultsAreTheSameHoweverPacketsCome) {
  Use("drop=0.25");
  std::vector<uint32_t> together;
  for (const auto& [psn, packets] : PartsOfBurst(1, 64)) {
    for (int i = 0; i < packets; ++i) together.push_back(psn + i);
  }
  Use("drop=0.25");
  Send(1, 64);
  EXPECT_EQ(ReceiveAt({}), together);
}

TEST_F(FaultyNetworkTest, ThoseThatComeTogetherOvertakeEachOther) {
  Use("reorder=1");
  EXPECT_THAT(PartsOfBurst(1, 4),
              ElementsAre(Pair(2, 1), Pair(1, 1), Pair(4, 1), Pair(3, 1)));
}

TEST_F(FaultyNetworkTest, EachOfThoseThatComeTogetherComesTwice) {
  Use("duplicate=1");
  EXPECT_THAT(PartsOfBurst(1, 2),
              ElementsAre(Pair(1, 1), Pair(1, 1), Pair(2, 1), Pair(2, 1)));
}

TEST_F(FaultyNetworkTest, PacketsThatAreTogetherAreCountedEach) {
  Use("port-down=after:0s");
  EXPECT_THAT(PartsOfBurst(1, 5), IsEmpty());
  EXPECT_EQ(network_->counters().port_down, 5u);
  Use("corrupt=1");
  EXPECT_THAT(PartsOfBurst(1, 5), IsEmpty());
  EXPECT_EQ(network_->counters().corrupted, 5u);
}

TEST_F(FaultyNetworkTest, WithoutFaultsAllArrives) {
  Use("");
  Send(1, 3);
  EXPECT_THAT(ReceiveAt({}), ElementsAre(1, 2, 3));
}

TEST_F(FaultyNetworkTest, DropLosesThatPart) {
  Use("drop=0.25");
  Send(1, 4000);
  EXPECT_NEAR(static_cast<double>(ReceiveAt({}).size()), 3000, 100);
  EXPECT_NEAR(static_cast<double>(network_->counters().dropped), 1000, 100);
}

TEST_F(FaultyNetworkTest, ASeedRepeatsARun) {
  Use("drop=0.5");
  Send(1, 64);
  const auto first = ReceiveAt({});
  Use("drop=0.5");
  Send(1, 64);
  EXPECT_EQ(ReceiveAt({}), first);
}

TEST_F(FaultyNetworkTest, CorruptLosesAndCounts) {
  Use("corrupt=1");
  Send(1, 3);
  EXPECT_THAT(ReceiveAt({}), IsEmpty());
  EXPECT_EQ(network_->counters().corrupted, 3u);
}

TEST_F(FaultyNetworkTest, DuplicateArrivesTwice) {
  Use("duplicate=1");
  Send(1, 2);
  EXPECT_THAT(ReceiveAt({}), ElementsAre(1, 1, 2, 2));
}

TEST_F(FaultyNetworkTest, DelayArrivesThenAndSetsADeadline) {
  Use("delay=2ms@1");
  Send(1, 2);
  EXPECT_THAT(ReceiveAt({}), IsEmpty());
  EXPECT_EQ(network_->NextDeadline(), start_ + milliseconds(2));
  EXPECT_THAT(ReceiveAt(milliseconds(1)), IsEmpty());
  EXPECT_THAT(ReceiveAt(milliseconds(2)), ElementsAre(1, 2));
  EXPECT_EQ(network_->NextDeadline(), std::nullopt);
}

TEST_F(FaultyNetworkTest, WhatIsHeldBackHasABound) {
  Use("delay=2ms@1");
  Send(1, FaultyNetwork::kMaxHeld + 3);
  EXPECT_THAT(ReceiveAt({}), IsEmpty());
  EXPECT_EQ(network_->counters().held_too_many, 3u);
  EXPECT_EQ(ReceiveAt(milliseconds(2)).size(), FaultyNetwork::kMaxHeld);
}

TEST_F(FaultyNetworkTest, ReorderIsOvertakenByTheNext) {
  Use("reorder=1");
  Send(1, 4);
  EXPECT_THAT(ReceiveAt({}), ElementsAre(2, 1, 4, 3));
}

TEST_F(FaultyNetworkTest, ReorderedLastPacketComesALittleLater) {
  Use("reorder=1");
  Send(1, 1);
  EXPECT_THAT(ReceiveAt({}), IsEmpty());
  EXPECT_EQ(network_->NextDeadline(), start_ + FaultyNetwork::kMaxOvertaking);
  EXPECT_THAT(ReceiveAt(FaultyNetwork::kMaxOvertaking), ElementsAre(1));
}

TEST_F(FaultyNetworkTest, PortDownLosesWhatComesAndGoes) {
  Use("port-down=after:3s,for:1s");
  Send(1, 1);
  EXPECT_THAT(ReceiveAt(seconds(3)), IsEmpty());
  Send(2, 2);
  EXPECT_THAT(ReceiveAt(seconds(4)), IsEmpty());
  EXPECT_EQ(network_->counters().port_down, 2u);
  Send(3, 3);
  EXPECT_THAT(ReceiveAt(seconds(4)), ElementsAre(3));
}

}  // namespace
}  // namespace nd::soft
