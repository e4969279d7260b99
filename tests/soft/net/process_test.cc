// Real processes: death, and other users.
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>

#include "soft/net/bench.h"

namespace nd::soft {
namespace {

class ProcessTest : public testing::Test {
 protected:
  ProcessTest() {
    options_.prefix = FreshPrefix();
    options_.first_slot = 100;
  }

  // Opens a network and answers every packet, for ever.
  static void Echo(const HostNetworkOptions& options, const Path& path,
                   uint32_t to_slot) {
    Process process(options);
    for (;;) {
      process.Receive();
      for (const Arrived& arrived : process.sink.arrived) {
        SendTo(*process.network, path, QpnOf(to_slot), arrived.bth.psn.value(),
               arrived.payload.size());
      }
      process.sink.arrived.clear();
      process.network->Flush();
      if (process.network->Rest()) (void)WaitFor(*process.network);
    }
  }

  // Sends to the slot until an answer comes.
  bool Answers(Process& process, uint32_t slot) {
    process.sink.arrived.clear();
    return ReceiveUntil({{&process}}, [&] {
      SendTo(*process.network, path_, QpnOf(slot), 1, 100);
      process.network->Flush();
      return !process.sink.arrived.empty();
    });
  }

  HostNetworkOptions options_;
  const Path path_{.source = Localhost(1), .destination = Localhost(1)};
};

TEST_F(ProcessTest, APeerThatIsKilledIsForgottenAndItsSlotReachedAgain) {
  Process us(options_);
  HostNetworkOptions theirs = options_;
  theirs.first_slot = 200;
  for (uint64_t i = 0; i < 3; ++i) {
    Child child([&] { Echo(theirs, path_, 100); });
    ASSERT_TRUE(Answers(us, 200)) << i;
    child.Kill();
    EXPECT_TRUE(ReceiveUntil({{&us}}, [&] {
      SendTo(*us.network, path_, QpnOf(200), 1, 4096);
      us.network->Flush();
      return us.network->counters().dropped_no_peer > 100 * i;
    }));
    EXPECT_GT(us.network->Room(path_, QpnOf(200)), 0u);
  }
}

TEST_F(ProcessTest, TheDeathOfAPeerIsTold) {
  Process us(options_);
  HostNetworkOptions theirs = options_;
  theirs.first_slot = 200;
  Child child([&] { Echo(theirs, path_, 100); });
  ASSERT_TRUE(Answers(us, 200));
  us.sink.gone.clear();  // before it was there
  ASSERT_TRUE(Answers(us, 200));
  EXPECT_TRUE(us.sink.gone.empty());
  child.Kill();
  EXPECT_TRUE(ReceiveUntil({{&us}}, [&] { return !us.sink.gone.empty(); }));
  EXPECT_EQ(us.sink.gone.front(), 200u);
}

TEST_F(ProcessTest, WhoSendsToAPeerThatHasDiedIsTold) {
  Process us(options_);
  us.Receive();
  EXPECT_TRUE(us.network->Rest());
  SendTo(*us.network, path_, QpnOf(200), 1, 100);
  // Nothing comes that would wake it.
  EXPECT_TRUE(us.network->NextDeadline());
  EXPECT_FALSE(us.network->Rest());
  EXPECT_TRUE(ReceiveUntil({{&us}}, [&] {
    SendTo(*us.network, path_, QpnOf(200), 1, 100);
    us.network->Flush();
    return !us.sink.gone.empty();
  }));
}

// Its rings may go before its name does.
TEST_F(ProcessTest, APeerWhoseNameOutlastsItsRingIsTold) {
  Process us(options_);
  HostNetworkOptions theirs = options_;
  theirs.first_slot = 200;
  theirs.max_links = 0;  // hangs up at once
  auto other = std::make_unique<Process>(theirs);
  ASSERT_TRUE(ReceiveUntil({{&us, other.get()}}, [&] {
    SendTo(*us.network, path_, QpnOf(200), 1, 100);
    us.network->Flush();
    return !other->sink.arrived.empty();
  }));
  us.Receive();
  other.reset();
  EXPECT_TRUE(ReceiveUntil({{&us}}, [&] { return !us.sink.gone.empty(); }));
}

TEST_F(ProcessTest, APeerThatTakesNoRingIsNotGone) {
  Process us(options_);
  HostNetworkOptions theirs = options_;
  theirs.first_slot = 200;
  theirs.max_links = 0;
  Process other(theirs);
  ASSERT_TRUE(ReceiveUntil({{&us, &other}}, [&] {
    SendTo(*us.network, path_, QpnOf(200), 1, 100);
    us.network->Flush();
    return !other.sink.arrived.empty();
  }));
  EXPECT_TRUE(us.sink.gone.empty());
}

TEST_F(ProcessTest, AFullRingToAPeerThatIsKilledHasRoomAgain) {
  Process us(options_);
  HostNetworkOptions theirs = options_;
  theirs.first_slot = 200;
  Child child([&] {
    Process process(theirs);
    while (process.sink.arrived.empty()) process.Receive();
    pause();
  });
  ASSERT_TRUE(ReceiveUntil({{&us}}, [&] {
    if (us.network->Room(path_, QpnOf(200)) == 0) return true;
    SendTo(*us.network, path_, QpnOf(200), 1, 4096);
    us.network->Flush();
    return false;
  }));
  child.Kill();
  EXPECT_TRUE(WaitFor(*us.network));
  EXPECT_TRUE(ReceiveUntil(
      {{&us}}, [&] { return us.network->Room(path_, QpnOf(200)) > 0; }));
}

// A real one, whose memory is another.
TEST_F(ProcessTest, WhatAnotherProcessLendsIsFetchedUntilItIsKilled) {
  Process us(options_);
  HostNetworkOptions theirs = options_;
  theirs.first_slot = 200;
  theirs.lends = Lends::kToAll;
  Child child([&] {
    Process process(theirs);
    std::vector<std::byte> bytes = Payload(50'000, 1);
    LoanWord word{1};
    while (true) {
      process.Receive();
      if (process.network->Room(path_, QpnOf(100)) == 0) continue;
      if (process.network->Bursts(path_, QpnOf(100)).lent == 0) {
        SendTo(*process.network, path_, QpnOf(100), 1, 1);
      } else {
        Lend(*process.network, path_, QpnOf(100), 1, bytes, word);
      }
      process.network->Flush();
    }
  });
  size_t whole = 0;
  size_t lost = 0;
  const auto count = [&] {
    for (const Arrived& arrived : us.sink.arrived) {
      if (!arrived.far) continue;
      ++(arrived.lost ? lost : whole);
      EXPECT_TRUE(arrived.lost || IsIntact(arrived, 50'000));
    }
    us.sink.arrived.clear();
  };
  EXPECT_TRUE(ReceiveUntil({{&us}}, [&] {
    count();
    return whole >= 10;
  }));
  EXPECT_EQ(lost, 0u);
  child.Kill();
  const size_t before = whole;
  while (us.Receive() > 0) continue;
  count();
  EXPECT_EQ(whole, before);
}

TEST_F(ProcessTest, AChildThatDestroysItsCopyDoesNotDisturbTheParent) {
  Process us(options_);
  Process other(options_);
  ASSERT_TRUE(ReceiveUntil({{&us, &other}}, [&] {
    SendTo(*us.network, path_, QpnOf(other.network->slot()), 1, 100);
    us.network->Flush();
    return !other.sink.arrived.empty();
  }));
  Child child([&] {
    us.network.reset();
    other.network.reset();
  });
  EXPECT_EQ(child.Wait(), 0);
  other.sink.arrived.clear();
  while (!other.network->Rest()) other.Receive();
  SendTo(*us.network, path_, QpnOf(other.network->slot()), 2, 100);
  us.network->Flush();
  EXPECT_TRUE(WaitFor(*other.network));
  EXPECT_TRUE(
      ReceiveUntil({{&other}}, [&] { return !other.sink.arrived.empty(); }));
}

// Needs root, to become somebody else.
TEST_F(ProcessTest, AnotherUserIsNotHeard) {
  if (getuid() != 0) GTEST_SKIP() << "has to be root to become another user";
  constexpr uid_t kSomebody = 12345;
  constexpr uid_t kSomebodyElse = 12346;
  HostNetworkOptions theirs = options_;
  theirs.first_slot = 200;
  // Each of the children is some user; the first says what it heard.
  Child receiver([&] {
    if (setresuid(kSomebody, kSomebody, kSomebody) != 0) _exit(2);
    Process process(options_);
    const bool counted = ReceiveUntil({{&process}}, [&] {
      return process.network->counters().dropped_untrusted > 0;
    });
    _exit(counted && process.sink.arrived.empty() ? 0 : 1);
  });
  Child sender([&] {
    if (setresuid(kSomebodyElse, kSomebodyElse, kSomebodyElse) != 0) _exit(2);
    Process process(theirs);
    (void)ReceiveUntil({{&process}}, [&] {
      SendTo(*process.network, path_, QpnOf(100), 1, 100);
      process.network->Flush();
      return false;
    });
  });
  EXPECT_EQ(receiver.Wait(), 0);
}

}  // namespace
}  // namespace nd::soft
