#include "soft/net/host_network.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>

#include "soft/net/bench.h"

namespace nd::soft {
namespace {

// Processes of one host, all in this one.
class HostNetworkTest : public testing::Test {
 protected:
  HostNetworkTest() { options_.prefix = FreshPrefix(); }

  Path PathWithin() const {
    return {.source = Localhost(1),
            .destination = Localhost(1),
            .flow_label = 5,
            .traffic_class = 3,
            .hop_limit = 9};
  }
  HostNetworkOptions WithRing(size_t bytes) const {
    HostNetworkOptions options = options_;
    options.ring_bytes = bytes;
    return options;
  }

  HostNetworkOptions options_;
};

void ExpectInOrder(const std::vector<Arrived>& arrived, size_t count,
                   const std::function<size_t(size_t)>& size) {
  ASSERT_EQ(arrived.size(), count);
  for (size_t i = 0; i < count; ++i) {
    ASSERT_EQ(arrived[i].bth.psn.value(), i);
    ASSERT_TRUE(IsIntact(arrived[i], size(i))) << i;
  }
}

TEST_F(HostNetworkTest, ProcessesOfAHostHaveDifferentSlots) {
  options_.first_slot = 1023;
  const Process a(options_);
  const Process b(options_);
  EXPECT_EQ(a.network->slot(), 1023u);
  EXPECT_EQ(b.network->slot(), 1u);
}

TEST_F(HostNetworkTest, ASlotIsFreeOnceItsProcessIsGone) {
  options_.first_slot = 5;
  { const Process a(options_); }
  EXPECT_EQ(Process(options_).network->slot(), 5u);
}

TEST_F(HostNetworkTest, WithoutAFreeSlotNothingOpens) {
  const HostNames names(options_.prefix);
  std::vector<UnixSocket> taken;
  rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 4096);
  setrlimit(RLIMIT_NOFILE, &limit);
  for (uint32_t slot = 1; slot < 1024; ++slot) {
    auto socket = UnixSocket::Bind(names.Slot(slot));
    ASSERT_TRUE(socket.ok()) << socket.status();
    taken.push_back(*std::move(socket));
  }
  SystemRandom random;
  EXPECT_EQ(HostNetwork::Open(options_, random).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(HostNetworkTest, OptionsThatCannotBeAreRefused) {
  SystemRandom random;
  EXPECT_TRUE(absl::IsInvalidArgument(
      HostNetwork::Open(WithRing(100000), random).status()));
  options_.first_slot = 1024;
  EXPECT_TRUE(
      absl::IsInvalidArgument(HostNetwork::Open(options_, random).status()));
}

TEST_F(HostNetworkTest, AProcessSendsToItself) {
  Process a(options_);
  const auto size = [](size_t i) { return i * 41 % 4097; };
  for (size_t i = 0; i < 100; ++i) {
    SendTo(*a.network, PathWithin(), QpnOf(a.network->slot()), i, size(i));
  }
  EXPECT_FALSE(a.network->Rest());
  EXPECT_TRUE(a.sink.arrived.empty());
  EXPECT_LE(a.Receive(), 64u * 2);
  while (a.Receive() > 0) continue;
  ExpectInOrder(a.sink.arrived, 100, size);
  EXPECT_EQ(a.sink.arrived[0].path, PathWithin());
  EXPECT_TRUE(a.network->Rest());
}

// A sink that answers each packet to the same process.
TEST_F(HostNetworkTest, WhatASinkSendsIsTakenWhenItHasReturned) {
  class Answerer final : public ArrivalSink {
   public:
    Answerer(Network& network, const Path& path)
        : network_(network), path_(path) {}
    void OnArrival(const Arrival& arrival) override {
      EXPECT_FALSE(busy_);
      busy_ = true;
      const uint32_t psn = arrival.packet.bth.psn.value();
      if (psn < 200) {
        SendTo(network_, path_, QpnOf(network_.slot()), psn + 1, 4096);
      }
      last = psn;
      busy_ = false;
    }
    uint32_t last = 0;

   private:
    Network& network_;
    const Path path_;
    bool busy_ = false;
  };
  Process a(options_);
  Answerer sink(*a.network, PathWithin());
  SendTo(*a.network, PathWithin(), QpnOf(a.network->slot()), 0, 4096);
  while (a.network->Receive(Clock::Monotonic().Now(), sink) > 0) continue;
  EXPECT_EQ(sink.last, 200u);
}

TEST_F(HostNetworkTest, ProcessesSendToOneAnother) {
  Process a(options_);
  Process b(options_);
  const auto size = [](size_t i) { return i * 41 % 4097; };
  for (size_t i = 0; i < 100; ++i) {
    SendTo(*a.network, PathWithin(), QpnOf(b.network->slot()), i, size(i));
  }
  a.network->Flush();
  ASSERT_TRUE(
      ReceiveUntil({{&b}}, [&] { return b.sink.arrived.size() >= 100; }));
  ExpectInOrder(b.sink.arrived, 100, size);
  EXPECT_EQ(b.sink.arrived[0].path, PathWithin());
  EXPECT_EQ(b.sink.arrived[0].bth.destination, QpnOf(b.network->slot()));
  EXPECT_EQ(a.network->counters().sent, 100u);
  EXPECT_EQ(b.network->counters().received, 100u);
}

TEST_F(HostNetworkTest, ARingThatWrapsKeepsEveryPacketInOrder) {
  Process a(WithRing(16384));
  Process b(options_);
  const Qpn destination = QpnOf(b.network->slot());
  const auto size = [](size_t i) { return i * 97 % 4097; };
  size_t sent = 0;
  constexpr size_t kPackets = 3000;
  ASSERT_TRUE(ReceiveUntil({{&a, &b}}, [&] {
    size_t room = a.network->Room(PathWithin(), destination);
    for (; room > 0 && sent < kPackets; --room, ++sent) {
      SendTo(*a.network, PathWithin(), destination, sent, size(sent));
    }
    a.network->Flush();
    return b.sink.arrived.size() >= kPackets;
  }));
  ExpectInOrder(b.sink.arrived, kPackets, size);
  EXPECT_EQ(a.network->counters().dropped_no_room, 0u);
}

TEST_F(HostNetworkTest, PacketsGoTogetherWhereThereIsARing) {
  Process a(options_);
  Process b(options_);
  const Qpn destination = QpnOf(b.network->slot());
  EXPECT_EQ(a.network->Bursts(PathWithin(), destination).copied, 0u);
  ASSERT_GT(a.network->Room(PathWithin(), destination), 0u);  // makes the ring
  const size_t burst = a.network->Bursts(PathWithin(), destination).copied;
  EXPECT_EQ(burst, kMaxBurstBytes);
  Path outside = PathWithin();
  outside.destination = Localhost(9);
  EXPECT_EQ(a.network->Bursts(outside, destination).copied, 0u);

  SendTo(*a.network, PathWithin(), destination, 7, burst, burst / 1024);
  a.network->Flush();
  ASSERT_TRUE(
      ReceiveUntil({{&a, &b}}, [&] { return !b.sink.arrived.empty(); }));
  EXPECT_EQ(b.sink.arrived[0].packets, burst / 1024);
  EXPECT_TRUE(IsIntact(b.sink.arrived[0], burst));
}

TEST_F(HostNetworkTest, AQueuePairIsToldOfShortMessagesOfOthers) {
  const Process a(options_), b(options_);
  const Qpn one = QpnOf(b.network->slot(), 1);
  const Qpn other = QpnOf(b.network->slot(), 2);
  const auto beside_short = [&](Qpn destination) {
    return a.network->Bursts(PathWithin(), destination).beside_short;
  };
  SendTo(*a.network, PathWithin(), other, 0, 8192, 8);
  EXPECT_FALSE(beside_short(one));
  SendTo(*a.network, PathWithin(), other, 8, 64);
  EXPECT_TRUE(beside_short(one));
  EXPECT_FALSE(beside_short(other));
  Path outside = PathWithin();
  outside.destination = Localhost(2);
  EXPECT_FALSE(a.network->Bursts(outside, one).beside_short);
}

TEST_F(HostNetworkTest, ASmallRingTakesPacketsOneByOne) {
  Process a(WithRing(16384));
  Process b(options_);
  const Qpn destination = QpnOf(b.network->slot());
  ASSERT_GT(a.network->Room(PathWithin(), destination), 0u);
  EXPECT_EQ(a.network->Bursts(PathWithin(), destination).copied, 0u);
}

// Two processes, of which the first lends to the second.
class LendingTest : public HostNetworkTest {
 protected:
  LendingTest() { Begin(Lends::kToAll); }

  void Begin(Lends lends) {
    HostNetworkOptions of_a = options_;
    of_a.lends = lends;
    a_.emplace(of_a);
  }
  // What a link's receiver says reaches the sender once it has taken the link.
  void Open(const HostNetworkOptions& of_b) {
    b_.emplace(of_b);
    destination_ = QpnOf(b_->network->slot());
    SendTo(*a_->network, PathWithin(), destination_, 0, 1);
    a_->network->Flush();
    ASSERT_TRUE(Until(1));
    b_->sink.arrived.clear();
  }
  bool Until(size_t arrived) {
    return ReceiveUntil({{&*a_, &*b_}},
                        [&] { return b_->sink.arrived.size() >= arrived; });
  }
  size_t lent() const {
    return a_->network->Bursts(PathWithin(), destination_).lent;
  }
  void Lend(uint32_t psn, std::span<std::byte> bytes) {
    soft::Lend(*a_->network, PathWithin(), destination_, psn, bytes, word_);
  }
  const std::vector<Arrived>& arrived() const { return b_->sink.arrived; }

  // Bursts of that many bytes to a queue pair of B's, at the same time.
  void Stream(uint32_t index, size_t bytes, size_t burst) {
    for (size_t sent = 0; sent < bytes; sent += burst) {
      SendTo(*a_->network, PathWithin(), QpnOf(b_->network->slot(), index), 1,
             burst, static_cast<uint8_t>(burst / 1024));
      a_->network->Receive(now_, a_->sink);
      b_->network->Receive(now_, b_->sink);
      b_->sink.arrived.clear();
    }
  }

  std::optional<Process> a_;
  std::optional<Process> b_;
  Qpn destination_{};
  LoanWord word_{12345};
  const Instant now_ = Clock::Monotonic().Now();
};

TEST_F(LendingTest, NothingIsLentWhileAnotherQueuePairHasPackets) {
  Open(options_);
  const Qpn other = QpnOf(b_->network->slot(), 18);
  Stream(18, 1024, 1024);
  EXPECT_EQ(lent(), 0u);
  // Nor by who comes now.
  HostNetworkOptions of_c = options_;
  of_c.lends = Lends::kToAll;
  const Process c(of_c);
  SendTo(*c.network, PathWithin(), other, 2, 100);
  c.network->Flush();
  while (b_->sink.arrived.empty()) b_->network->Receive(now_, b_->sink);
  EXPECT_EQ(c.network->Bursts(PathWithin(), other).lent, 0u);
  b_->network->Receive(now_ + Company::kStay, b_->sink);
  EXPECT_EQ(lent(), kMaxLentBytes);
  EXPECT_EQ(c.network->Bursts(PathWithin(), other).lent, kMaxLentBytes);
}

TEST_F(LendingTest, ALongStreamIsTriedBothWays) {
  Begin(Lends::kWhereFaster);
  Open(options_);
  // Short messages are none.
  Stream(17, CopyRace::kTrialBytes, kMaxBurstBytes / 2);
  EXPECT_EQ(lent(), 0u);
  Stream(17, CopyRace::kTrialBytes - kMaxBurstBytes, kMaxBurstBytes);
  EXPECT_EQ(lent(), 0u);
  Stream(17, kMaxBurstBytes, kMaxBurstBytes);
  EXPECT_EQ(lent(), kMaxLentBytes);
}

TEST_F(LendingTest, AStreamThatMayNotBeLentIsNotTried) {
  Begin(Lends::kWhereFaster);
  Open(options_);
  Stream(17, CopyRace::kTrialBytes - kMaxBurstBytes, kMaxBurstBytes);
  Stream(18, 1024, 1024);
  Stream(17, CopyRace::kTrialBytes, kMaxBurstBytes);
  b_->network->Receive(now_ + Company::kStay, b_->sink);
  EXPECT_EQ(lent(), 0u);
}

TEST_F(LendingTest, WhatIsLentIsFetchedFromWhereItLies) {
  Open(options_);
  EXPECT_EQ(lent(), kMaxLentBytes);
  std::vector<std::byte> bytes = Payload(100'001, 7);
  Lend(7, bytes);
  bytes[5] ^= std::byte{1};  // after Send
  a_->network->Flush();
  ASSERT_TRUE(Until(1));
  EXPECT_TRUE(arrived()[0].far);
  EXPECT_FALSE(arrived()[0].lost);
  EXPECT_EQ(arrived()[0].payload, bytes);
  EXPECT_EQ(arrived()[0].packets, 98);
}

TEST_F(LendingTest, WhatIsNotLentAnyMoreIsLost) {
  Open(options_);
  std::vector<std::byte> bytes = Payload(20'000, 7);
  Lend(7, bytes);
  ++word_;
  a_->network->Flush();
  ASSERT_TRUE(Until(1));
  EXPECT_TRUE(arrived()[0].lost);
  EXPECT_EQ(lent(), kMaxLentBytes);
  Lend(8, bytes);
  a_->network->Flush();
  ASSERT_TRUE(Until(2));
  EXPECT_FALSE(arrived()[1].lost);
}

// As what lies in memory of a device does.
TEST_F(LendingTest, AfterALoanThatCannotBeReachedNothingIsLent) {
  Open(options_);
  std::byte* const nowhere = nullptr;
  Lend(7, {nowhere + 4096, 20'000});
  a_->network->Flush();
  ASSERT_TRUE(Until(1));
  EXPECT_TRUE(arrived()[0].lost);
  EXPECT_EQ(lent(), 0u);
  std::vector<std::byte> bytes = Payload(20'000, 8);
  Lend(8, bytes);  // on its way when it heard so
  a_->network->Flush();
  ASSERT_TRUE(Until(2));
  EXPECT_TRUE(arrived()[1].lost);
}

TEST_F(LendingTest, NothingIsLentToWhoDoesNotFetch) {
  HostNetworkOptions of_b = options_;
  of_b.fetches = false;
  Open(of_b);
  EXPECT_EQ(lent(), 0u);
  EXPECT_EQ(a_->network->Bursts(PathWithin(), destination_).copied,
            kMaxBurstBytes);
}

TEST_F(LendingTest, ALoanOfTooManyBytesOrOfOnePacketIsMalformed) {
  Open(options_);
  std::vector<std::byte> bytes = Payload(kMaxLentBytes + 1, 8);
  Lend(1, bytes);
  Lend(2, std::span(bytes).first(1000));
  Lend(3, {});
  Lend(4, std::span(bytes).first(2000));
  a_->network->Flush();
  ASSERT_TRUE(Until(1));
  EXPECT_EQ(arrived()[0].bth.psn, Psn(4));
  EXPECT_EQ(b_->network->counters().dropped_malformed, 3u);
}

// To a peer without rings frames come as datagrams.
TEST_F(LendingTest, ALoanThatDidNotComeByARingIsDropped) {
  HostNetworkOptions of_b = options_;
  of_b.max_links = 0;
  b_.emplace(of_b);
  destination_ = QpnOf(b_->network->slot());
  std::vector<std::byte> bytes = Payload(2000, 8);
  ASSERT_TRUE(ReceiveUntil({{&*a_, &*b_}}, [&] {
    Lend(4, bytes);
    a_->network->Flush();
    return b_->network->counters().dropped_loans > 0;
  }));
  EXPECT_TRUE(arrived().empty());
}

TEST_F(HostNetworkTest, WhoFoundNoRoomIsToldOnceThereIs) {
  Process a(WithRing(16384));
  Process b(options_);
  const Qpn destination = QpnOf(b.network->slot());
  while (a.network->Room(PathWithin(), destination) > 0) {
    SendTo(*a.network, PathWithin(), destination, 1, 4096);
  }
  a.network->Flush();
  a.Receive();
  EXPECT_TRUE(a.network->Rest());
  EXPECT_FALSE(IsReadable(*a.network));
  while (b.Receive() > 0) continue;
  EXPECT_TRUE(WaitFor(*a.network));
  a.Receive();
  EXPECT_GT(a.network->Room(PathWithin(), destination), 0u);
  EXPECT_TRUE(a.network->Rest());
  EXPECT_FALSE(IsReadable(*a.network));
}

TEST_F(HostNetworkTest, APeerThatStandsStillForLongIsTakenForDead) {
  Process a(WithRing(16384));
  Process b(options_);
  const Qpn destination = QpnOf(b.network->slot());
  const Instant start = Clock::Monotonic().Now();
  a.network->Receive(start, a.sink);
  while (a.network->Room(PathWithin(), destination) > 0) {
    SendTo(*a.network, PathWithin(), destination, 1, 4096);
  }
  Instant now = start;
  for (; now < start + std::chrono::seconds(2);
       now = *a.network->NextDeadline()) {
    a.network->Receive(now, a.sink);
    ASSERT_EQ(a.network->Room(PathWithin(), destination), 0u);
    ASSERT_TRUE(a.network->NextDeadline().has_value());
  }
  EXPECT_EQ(now, start + std::chrono::seconds(2));
  a.network->Receive(now, a.sink);
  EXPECT_GT(a.network->Room(PathWithin(), destination), 0u);
  SendTo(*a.network, PathWithin(), destination, 1, 4096);
  EXPECT_EQ(a.network->counters().dropped_no_room, 1u);

  // It was not.
  b.Receive();
  ASSERT_FALSE(b.sink.arrived.empty());
  EXPECT_TRUE(ReceiveUntil({{&a, &b}}, [&] {
    SendTo(*a.network, PathWithin(), destination, 2, 4096);
    a.network->Flush();
    return b.sink.arrived.back().bth.psn == Psn(2);
  }));
}

// As on a machine with too much to do, which holds up the peer, too.
TEST_F(HostNetworkTest, APeerIsNotTakenForDeadByWhoDidNotRunItself) {
  Process a(WithRing(16384));
  Process b(options_);
  const Qpn destination = QpnOf(b.network->slot());
  Instant now = Clock::Monotonic().Now();
  a.network->Receive(now, a.sink);
  while (a.network->Room(PathWithin(), destination) > 0) {
    SendTo(*a.network, PathWithin(), destination, 1, 4096);
  }
  for (int i = 0; i < 100; ++i) {
    now += std::chrono::milliseconds(300);
    a.network->Receive(now, a.sink);
    ASSERT_EQ(a.network->Room(PathWithin(), destination), 0u) << i;
  }
}

TEST_F(HostNetworkTest, WhatDoesNotFitIsDroppedAndCounted) {
  Process a(WithRing(16384));
  Process b(options_);
  for (int i = 0; i < 10; ++i) {
    SendTo(*a.network, PathWithin(), QpnOf(b.network->slot()), i, 4096);
  }
  EXPECT_GT(a.network->counters().dropped_no_room, 0u);
}

TEST_F(HostNetworkTest, AProcessThatRestsIsWoken) {
  Process a(options_);
  Process b(options_);
  for (size_t i = 1; i <= 3; ++i) {
    while (!b.network->Rest()) b.Receive();
    EXPECT_FALSE(IsReadable(*b.network));
    SendTo(*a.network, PathWithin(), QpnOf(b.network->slot()), i, 8);
    a.network->Flush();
    EXPECT_TRUE(WaitFor(*b.network));
    ASSERT_TRUE(
        ReceiveUntil({{&b}}, [&] { return b.sink.arrived.size() == i; }));
    while (b.Receive() > 0 || IsReadable(*b.network)) continue;
  }
}

TEST_F(HostNetworkTest, WhatCameBeforeTheRestIsNotSleptThrough) {
  Process a(options_);
  Process b(options_);
  SendTo(*a.network, PathWithin(), QpnOf(b.network->slot()), 0, 8);
  a.network->Flush();
  ASSERT_TRUE(ReceiveUntil({{&b}}, [&] { return !b.sink.arrived.empty(); }));
  SendTo(*a.network, PathWithin(), QpnOf(b.network->slot()), 1, 8);
  a.network->Flush();
  EXPECT_FALSE(b.network->Rest());
}

// Either sleeps until it is woken, so that a lost bell stops both.
TEST_F(HostNetworkTest, TwoThreadsThatSleepPassPacketsToAndFro) {
  constexpr uint32_t kRounds = 2000;
  Process a(options_);
  Process b(options_);
  const uint32_t slot_of_b = b.network->slot();
  const uint32_t slot_of_a = a.network->slot();
  const auto play = [this](Process& process, uint32_t other, uint32_t first) {
    for (uint32_t psn = first; psn < kRounds; psn += 2) {
      if (psn > 0) {
        while (process.sink.arrived.empty()) {
          if (process.Receive() == 0 && process.network->Rest() &&
              !WaitFor(*process.network)) {
            return false;
          }
        }
        if (process.sink.arrived[0].bth.psn.value() != psn - 1) return false;
        process.sink.arrived.clear();
      }
      SendTo(*process.network, PathWithin(), QpnOf(other), psn, 100);
      process.network->Flush();
    }
    return true;
  };
  bool b_played = false;
  std::thread thread([&] { b_played = play(b, slot_of_a, 1); });
  EXPECT_TRUE(play(a, slot_of_b, 0));
  thread.join();
  EXPECT_TRUE(b_played);
}

TEST_F(HostNetworkTest, NobodyTakesEverything) {
  options_.first_slot = 7;
  Process a(options_);
  const Qpn nobodys = QpnOf(8);
  for (int i = 0; i < 100; ++i) {
    EXPECT_GT(a.network->Room(PathWithin(), nobodys), 0u);
    SendTo(*a.network, PathWithin(), nobodys, i, 4096);
  }
  EXPECT_EQ(a.network->counters().dropped_no_peer, 100u);
  SendTo(*a.network, PathWithin(), Qpn{0}, 0, 8);
  SendTo(*a.network, PathWithin(), Qpn{5}, 0, 8);
  EXPECT_EQ(a.network->counters().dropped_bad_qpn, 2u);
}

TEST_F(HostNetworkTest, ASlotIsReachedSomeTimeAfterItIsTaken) {
  options_.first_slot = 7;
  Process a(options_);
  SendTo(*a.network, PathWithin(), QpnOf(8), 0, 8);
  Process b(options_);
  ASSERT_EQ(b.network->slot(), 8u);
  EXPECT_TRUE(ReceiveUntil({{&a, &b}}, [&] {
    SendTo(*a.network, PathWithin(), QpnOf(8), 1, 8);
    a.network->Flush();
    return !b.sink.arrived.empty();
  }));
}

TEST_F(HostNetworkTest, ASlotTakenByAnotherProcessIsReachedAgain) {
  options_.first_slot = 7;
  Process a(options_);
  for (int i = 0; i < 3; ++i) {
    Process b(options_);
    ASSERT_EQ(b.network->slot(), 8u);
    EXPECT_TRUE(ReceiveUntil({{&a, &b}}, [&] {
      SendTo(*a.network, PathWithin(), QpnOf(8), 1, 8);
      a.network->Flush();
      return !b.sink.arrived.empty();
    }));
  }
}

TEST_F(HostNetworkTest, WhatAProcessSentBeforeItsEndArrives) {
  Process b(options_);
  {
    Process a(options_);
    for (size_t i = 0; i < 100; ++i) {
      SendTo(*a.network, PathWithin(), QpnOf(b.network->slot()), i, 1000);
    }
    a.network->Flush();
  }
  EXPECT_TRUE(
      ReceiveUntil({{&b}}, [&] { return b.sink.arrived.size() == 100; }));
}

TEST_F(HostNetworkTest, NoSenderIsStarvedByAnother) {
  Process a(options_);
  Process b(options_);
  Process c(options_);
  const Qpn to_c = QpnOf(c.network->slot());
  for (int i = 0; i < 200; ++i) {
    SendTo(*a.network, PathWithin(), to_c, 1, 1000);
    SendTo(*b.network, PathWithin(), to_c, 2, 1000);
  }
  a.network->Flush();
  b.network->Flush();
  ASSERT_TRUE(
      ReceiveUntil({{&c}}, [&] { return c.sink.arrived.size() >= 128; }));
  EXPECT_GE(std::ranges::count_if(
                c.sink.arrived,
                [](const auto& arrived) { return arrived.bth.psn == Psn(1); }),
            32);
  EXPECT_GE(std::ranges::count_if(
                c.sink.arrived,
                [](const auto& arrived) { return arrived.bth.psn == Psn(2); }),
            32);
}

TEST_F(HostNetworkTest, TheMarkIsPassedOnceWhatHadComeIsTaken) {
  Process a(options_);
  Process b(options_);
  const auto send_to = [this](Process& from, Process& to, uint32_t psn) {
    SendTo(*from.network, PathWithin(), QpnOf(to.network->slot()), psn, 8);
    from.network->Flush();
  };
  send_to(a, b, 0);
  ASSERT_TRUE(ReceiveUntil({{&b}}, [&] { return !b.sink.arrived.empty(); }));
  for (Process* const from : {&a, &b}) {
    b.sink.arrived.clear();
    for (uint32_t i = 0; i < 100; ++i) send_to(*from, b, i);
    b.network->Mark();
    for (uint32_t i = 0; i < 50; ++i) send_to(*from, b, 100 + i);
    EXPECT_FALSE(b.network->PassedMark());
    while (!b.network->PassedMark()) ASSERT_GT(b.Receive(), 0u);
    EXPECT_GE(b.sink.arrived.size(), 100u);
    EXPECT_LT(b.sink.arrived.size(), 150u);
    while (b.Receive() > 0) continue;
    b.network->Mark();
    b.Receive();
    EXPECT_TRUE(b.network->PassedMark());
  }
}

TEST_F(HostNetworkTest, TheMarkIsPassedOnceSocketsHaveBroughtAll) {
  constexpr size_t kSent = 8;  // less than the least of their queues
  options_.max_links = 0;
  Process a(options_);
  Process b(options_);
  for (uint32_t i = 0; i < kSent; ++i) {
    SendTo(*a.network, PathWithin(), QpnOf(b.network->slot()), i, 8);
  }
  b.network->Mark();
  EXPECT_FALSE(b.network->PassedMark());
  while (!b.network->PassedMark()) b.Receive();
  EXPECT_EQ(b.sink.arrived.size(), kSent);
}

TEST_F(HostNetworkTest, WithoutRingsPacketsGoAsDatagrams) {
  options_.max_links = 0;
  Process a(options_);
  Process b(options_);
  const Qpn destination = QpnOf(b.network->slot());
  size_t sent = 0;
  ASSERT_TRUE(ReceiveUntil({{&a, &b}}, [&] {
    if (sent < 100 && a.network->Room(PathWithin(), destination) > 0) {
      SendTo(*a.network, PathWithin(), destination, sent++, 4096);
    }
    return b.sink.arrived.size() == 100;
  }));
  ExpectInOrder(b.sink.arrived, 100, [](size_t) { return 4096; });
}

TEST_F(HostNetworkTest, AFullQueueOfDatagramsIsTriedAgainInTime) {
  options_.max_links = 0;
  Process a(options_);
  Process b(options_);
  const Qpn destination = QpnOf(b.network->slot());
  for (int i = 0; i < 100000; ++i) {
    if (a.network->Room(PathWithin(), destination) == 0) break;
    SendTo(*a.network, PathWithin(), destination, 0, 8);
  }
  ASSERT_EQ(a.network->Room(PathWithin(), destination), 0u);
  EXPECT_TRUE(a.network->NextDeadline().has_value());
  while (b.Receive() > 0) continue;
  EXPECT_TRUE(ReceiveUntil(
      {{&a}}, [&] { return a.network->Room(PathWithin(), destination) > 0; }));
  a.Receive();
  EXPECT_FALSE(a.network->NextDeadline().has_value());
}

TEST_F(HostNetworkTest, WithoutDescriptorsPacketsGoAsDatagrams) {
  Process a(options_);
  Process b(options_);
  const Path path = PathWithin();
  const Qpn destination = QpnOf(b.network->slot());
  // Once before, since the sanitizers want descriptors for their own.
  SendTo(*a.network, path, Qpn{0}, 0, 4096);
  a.network->Flush();
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  SendTo(*a.network, path, destination, 0, 4096);
  a.network->Flush();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_TRUE(ReceiveUntil({{&b}}, [&] { return !b.sink.arrived.empty(); }));
  EXPECT_EQ(a.network->counters().dropped_no_peer, 0u);
}

TEST_F(HostNetworkTest, WhoCannotTakeARingIsSentDatagrams) {
  Process a(options_);
  options_.max_links = 0;
  Process b(options_);
  const Qpn destination = QpnOf(b.network->slot());
  EXPECT_TRUE(ReceiveUntil({{&a, &b}}, [&] {
    SendTo(*a.network, PathWithin(), destination, 1, 8);
    a.network->Flush();
    return !b.sink.arrived.empty();
  }));
  EXPECT_EQ(b.network->counters().refused_links, 1u);
}

// A peer that does not keep to the protocol.
class HostilePeerTest : public HostNetworkTest {
 protected:
  HostilePeerTest()
      : victim_(options_),
        names_(options_.prefix),
        socket_(*UnixSocket::Bind(
            names_.Slot(victim_.network->slot() % 1023 + 1))) {}

  void Offer(int memory, int socket) {
    const std::array<int, 2> fds = {memory, socket};
    ASSERT_EQ(
        socket_.SendTo(names_.Slot(victim_.network->slot()), kLinkOffer, fds),
        0);
  }
  void SendBytes(std::span<const std::byte> bytes) {
    ASSERT_EQ(socket_.SendTo(names_.Slot(victim_.network->slot()), bytes), 0);
  }
  void LetReceive() {
    while (IsReadable(*victim_.network)) victim_.Receive();
    victim_.Receive();
  }
  const NetCounters& counters() const { return victim_.network->counters(); }

  // A frame for a QP of the victim's.
  std::vector<std::byte> Frame(const FrameHeader& header, Qpn destination) {
    std::vector<std::byte> packet(Bth::kSize);
    ByteWriter writer(packet);
    Bth{.opcode = Opcode::kRcSendOnly, .destination = destination, .psn = {}}
        .Write(writer);
    std::vector<std::byte> frame(FrameHeader::kSize + packet.size());
    WriteFrame(header, PacketSource(packet), frame);
    return frame;
  }

  Process victim_;
  const HostNames names_;
  UnixSocket socket_;
};

TEST_F(HostilePeerTest, OffersThatAreNoneAreRefused) {
  std::array<int, 2> pair;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  const Fd near(pair[0]);
  const Fd far(pair[1]);
  const auto no_power = SharedMemory::Create(kRingControlBytes + 5000);
  ASSERT_TRUE(no_power.ok());
  const auto good = SharedMemory::Create(kRingControlBytes + 16384);
  ASSERT_TRUE(good.ok());
  const Fd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const Fd unsealed(memfd_create("unsealed", MFD_CLOEXEC));
  SendBytes(kLinkOffer);
  Offer(no_power->fd(), far.get());
  Offer(near.get(), far.get());
  Offer(unsealed.get(), far.get());
  Offer(good->fd(), file.get());
  LetReceive();
  EXPECT_EQ(counters().refused_links, 5u);
}

TEST_F(HostilePeerTest, ARingOfNonsenseIsDropped) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    auto link = OutboundLink::Create(16384);
    ASSERT_TRUE(link.ok());
    const auto memory =
        SharedMemory::Adopt(Fd(dup(link->offer()[0])), size_t{1} << 20);
    ASSERT_TRUE(memory.ok());
    SeededRandom random(seed);
    random.Fill(memory->bytes().subspan(seed % 2 == 0 ? 0 : kRingControlBytes));
    Offer(link->offer()[0], link->offer()[1]);
    link->CloseOffer();
    LetReceive();
    // It hung up.
    EXPECT_FALSE(link->bell().Silence());
  }
  EXPECT_TRUE(victim_.sink.arrived.empty());
}

TEST_F(HostilePeerTest, ABellThatIsNoSocketIsHungUp) {
  const auto memory = SharedMemory::Create(kRingControlBytes + 16384);
  ASSERT_TRUE(memory.ok());
  std::array<int, 2> pipe_ends;
  ASSERT_EQ(pipe2(pipe_ends.data(), O_CLOEXEC), 0);
  const Fd reading(pipe_ends[0]);
  const Fd writing(pipe_ends[1]);
  Offer(memory->fd(), reading.get());
  LetReceive();
  ASSERT_EQ(write(writing.get(), "x", 1), 1);
  EXPECT_TRUE(WaitFor(*victim_.network));
  LetReceive();
  EXPECT_FALSE(IsReadable(*victim_.network));
}

TEST_F(HostilePeerTest, MessagesThatAreNoFramesAreDropped) {
  const std::vector<std::byte> frame =
      Frame({.path = PathWithin()}, QpnOf(victim_.network->slot()));
  for (size_t size = 0; size < frame.size(); ++size) {
    SendBytes(std::span(frame).first(size));
    LetReceive();
  }
  EXPECT_EQ(counters().dropped_malformed, frame.size());
  EXPECT_TRUE(victim_.sink.arrived.empty());
  SendBytes(frame);
  LetReceive();
  EXPECT_EQ(victim_.sink.arrived.size(), 1u);
}

TEST_F(HostilePeerTest, FramesOfNoPacketsOrOfOneTooLargeAreDropped) {
  const Qpn ours = QpnOf(victim_.network->slot());
  SendBytes(Frame({.path = PathWithin(), .packets = 0}, ours));
  LetReceive();
  EXPECT_EQ(counters().dropped_malformed, 1u);
  auto link = *OutboundLink::Create(size_t{64} << 10);
  Offer(link.offer()[0], link.offer()[1]);
  std::vector<std::byte> frame = Frame({.path = PathWithin()}, ours);
  frame.resize(kMaxFrameBytes + 4);
  std::ranges::copy(frame, link.ring().Reserve(frame.size()).begin());
  link.ring().Commit();
  (void)link.ring().Publish();
  LetReceive();
  EXPECT_EQ(counters().dropped_malformed, 2u);
  EXPECT_TRUE(victim_.sink.arrived.empty());
}

TEST_F(HostilePeerTest, FramesThatCannotComeFromThereAreDropped) {
  const Qpn ours = QpnOf(victim_.network->slot());
  Path foreign = PathWithin();
  foreign.source = Localhost(2);
  Path elsewhere = PathWithin();
  elsewhere.destination = Localhost(2);
  SendBytes(Frame({.path = foreign}, ours));
  SendBytes(Frame({.path = elsewhere}, ours));
  SendBytes(Frame({.path = PathWithin(), .from_wire = true}, ours));
  LetReceive();
  EXPECT_EQ(counters().dropped_bad_address, 3u);
  SendBytes(
      Frame({.path = PathWithin()}, QpnOf(victim_.network->slot() % 1023 + 1)));
  SendBytes(Frame({.path = PathWithin()}, Qpn{0}));
  LetReceive();
  EXPECT_EQ(counters().dropped_bad_qpn, 2u);
  EXPECT_TRUE(victim_.sink.arrived.empty());
}

// Requests, and whom they reach.
class GsiTest : public HostNetworkTest {
 protected:
  static constexpr uint64_t kService = 0x1061234;

  static CommId IdOf(const Process& process) {
    return CommId{process.network->slot() << kCommIdIndexBits | 3};
  }

  Process a_{options_};
  Process b_{options_};
};

TEST_F(GsiTest, ARequestReachesWhoClaimedTheService) {
  ASSERT_TRUE(b_.network->ClaimService({.id = kService}).ok());
  const CmReq req = Request(IdOf(a_), kService);
  SendMad(*a_.network, PathWithin(), req);
  ASSERT_TRUE(
      ReceiveUntil({{&a_, &b_}}, [&] { return !b_.sink.arrived.empty(); }));
  EXPECT_EQ(MessageOf(b_.sink.arrived[0]), CmMessage(req));
  EXPECT_EQ(b_.sink.arrived[0].bth.destination, kGsiQpn);
  EXPECT_TRUE(a_.sink.arrived.empty());
}

TEST_F(GsiTest, ARequestForOnesOwnServiceComesBack) {
  ASSERT_TRUE(a_.network->ClaimService({.id = kService}).ok());
  SendMad(*a_.network, PathWithin(),
          CmSidrReq{.request_id = IdOf(a_), .service_id = kService});
  a_.Receive();
  EXPECT_EQ(a_.sink.arrived.size(), 1u);
}

TEST_F(GsiTest, ARequestThatNobodyServesComesBackToBeRefused) {
  SendMad(*a_.network, PathWithin(), Request(IdOf(a_), kService));
  a_.Receive();
  EXPECT_EQ(a_.sink.arrived.size(), 1u);
  EXPECT_TRUE(b_.sink.arrived.empty());
}

TEST_F(GsiTest, AServiceIsOneProcesssUntilItIsReleased) {
  ASSERT_TRUE(a_.network->ClaimService({.id = kService}).ok());
  EXPECT_TRUE(
      absl::IsFailedPrecondition(b_.network->ClaimService({.id = kService})));
  EXPECT_TRUE(b_.network->ClaimService({.id = kService + 1}).ok());
  a_.network->ReleaseService({.id = kService});
  EXPECT_TRUE(b_.network->ClaimService({.id = kService}).ok());
}

constexpr Gid kAll4 = Mapped(Gid{});
constexpr Gid kOf6 = {0xfd, 1};

// As two servers of one port on two addresses.
TEST_F(GsiTest, AServiceIsOneProcesssAtEachAddress) {
  const Gid one = Localhost(1);
  const Gid two = Localhost(2);
  for (Process* const process : {&a_, &b_}) {
    process->network->SetLocalGids({one, two, kOf6});
  }
  ASSERT_TRUE(a_.network->ClaimService({.id = kService, .address = one}).ok());
  ASSERT_TRUE(b_.network->ClaimService({.id = kService, .address = two}).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(
      b_.network->ClaimService({.id = kService, .address = one})));
  const auto request = [this](const Gid& to) {
    a_.sink.arrived.clear();
    b_.sink.arrived.clear();
    SendMad(*a_.network, {.source = PathWithin().source, .destination = to},
            Request(IdOf(a_), kService));
    EXPECT_TRUE(ReceiveUntil({{&a_, &b_}}, [this] {
      return a_.sink.arrived.size() + b_.sink.arrived.size() == 1;
    }));
    return b_.sink.arrived.size();
  };
  EXPECT_EQ(request(one), 0u);
  EXPECT_EQ(request(two), 1u);
  // Nobody's, to be refused by who asks.
  b_.network->ReleaseService({.id = kService, .address = two});
  EXPECT_EQ(request(two), 0u);
}

TEST_F(GsiTest, ARequestReachesWhoClaimedAllAddresses) {
  for (const HostService& service :
       {HostService{.id = kService, .address = kAll4},
        HostService{.id = kService}}) {
    ASSERT_TRUE(b_.network->ClaimService(service).ok());
    b_.sink.arrived.clear();
    SendMad(*a_.network, PathWithin(), Request(IdOf(a_), kService));
    EXPECT_TRUE(
        ReceiveUntil({{&a_, &b_}}, [&] { return !b_.sink.arrived.empty(); }));
    b_.network->ReleaseService(service);
  }
}

TEST_F(GsiTest, AllAddressesAndOneExcludeEachOther) {
  const HostService one{.id = kService, .address = Localhost(1)};
  const HostService six{.id = kService, .address = kOf6};
  const HostService all4{.id = kService, .address = kAll4};
  const HostService all6{.id = kService, .address = {}, .ipv6_only = true};
  const HostService all{.id = kService};
  struct Case {
    HostService first;
    HostService second;
    bool collide;
  };
  for (Process* const process : {&a_, &b_}) {
    process->network->SetLocalGids({Localhost(1), kOf6});
  }
  for (const Case& each :
       {Case{one, all4, true}, Case{one, all, true}, Case{one, all6, false},
        Case{one, six, false}, Case{six, all4, false}, Case{six, all6, true},
        Case{six, all, true}, Case{all4, all6, false}, Case{all4, all, true},
        Case{all6, all, true}, Case{all, all, true}}) {
    for (const auto& [first, second] : {std::pair(each.first, each.second),
                                        std::pair(each.second, each.first)}) {
      SCOPED_TRACE(testing::PrintToString(first.address) + " and " +
                   testing::PrintToString(second.address));
      ASSERT_TRUE(a_.network->ClaimService(first).ok());
      EXPECT_EQ(absl::IsFailedPrecondition(b_.network->ClaimService(second)),
                each.collide);
      a_.network->ReleaseService(first);
      b_.network->ReleaseService(second);
    }
  }
}

TEST_F(GsiTest, WhoWasRefusedKeepsNothing) {
  const HostService one{.id = kService, .address = Localhost(1)};
  ASSERT_TRUE(a_.network->ClaimService(one).ok());
  ASSERT_FALSE(b_.network->ClaimService({.id = kService}).ok());
  a_.network->ReleaseService(one);
  EXPECT_TRUE(a_.network->ClaimService({.id = kService}).ok());
}

TEST_F(GsiTest, AProcessMayHaveBothItself) {
  ASSERT_TRUE(
      a_.network->ClaimService({.id = kService, .address = Localhost(1)}).ok());
  EXPECT_TRUE(a_.network->ClaimService({.id = kService}).ok());
}

TEST_F(GsiTest, AServiceClaimedTwiceIsReleasedTwice) {
  ASSERT_TRUE(a_.network->ClaimService({.id = kService}).ok());
  ASSERT_TRUE(a_.network->ClaimService({.id = kService}).ok());
  a_.network->ReleaseService({.id = kService});
  EXPECT_TRUE(
      absl::IsFailedPrecondition(b_.network->ClaimService({.id = kService})));
  a_.network->ReleaseService({.id = kService});
  EXPECT_TRUE(b_.network->ClaimService({.id = kService}).ok());
}

TEST_F(GsiTest, AnAnswerReachesTheSlotOfItsId) {
  CmRep rep;
  rep.local_id = IdOf(b_);
  rep.remote_id = IdOf(a_);
  SendMad(*b_.network, PathWithin(), rep);
  b_.network->Flush();
  ASSERT_TRUE(
      ReceiveUntil({{&a_, &b_}}, [&] { return !a_.sink.arrived.empty(); }));
  EXPECT_EQ(MessageOf(a_.sink.arrived[0]), CmMessage(rep));
}

TEST_F(GsiTest, WhatIsForNobodyIsDropped) {
  SendMad(*a_.network, PathWithin(), CmRej{.local_id = IdOf(a_)});
  a_.Receive();
  EXPECT_TRUE(a_.sink.arrived.empty());
  EXPECT_EQ(a_.network->counters().dropped_unroutable, 1u);
}

TEST_F(GsiTest, RequestsOutliveAFullQueue) {
  constexpr size_t kRequests = 200;
  ASSERT_TRUE(b_.network->ClaimService({.id = kService}).ok());
  for (size_t i = 0; i < kRequests; ++i) {
    ASSERT_GT(a_.network->Room(PathWithin(), kGsiQpn), 0u);
    SendMad(*a_.network, PathWithin(), Request(IdOf(a_), kService));
  }
  EXPECT_TRUE(ReceiveUntil(
      {{&a_, &b_}}, [&] { return b_.sink.arrived.size() == kRequests; }));
  EXPECT_EQ(a_.network->counters().dropped_no_room, 0u);
  a_.Receive();
  EXPECT_FALSE(a_.network->NextDeadline().has_value());
}

}  // namespace
}  // namespace nd::soft
