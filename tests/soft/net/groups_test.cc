// Multicast groups: processes of one host, and two hosts.
#include "soft/net/groups.h"

#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "soft/net/bench.h"
#include "soft/net/inet.h"
#include "soft/net/memberships.h"

namespace nd::soft {
namespace {

// 239.1.2.`last` and ff0e::`last`.
Gid Group4(uint8_t last) {
  return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 239, 1, 2, last};
}
Gid Group6(uint8_t last) {
  Gid group{0xff, 0x0e};
  group[15] = last;
  return group;
}

std::vector<uint32_t> Psns(const Process& process) {
  std::vector<uint32_t> psns;
  for (const Arrived& each : process.sink.arrived) {
    psns.push_back(each.bth.psn.value());
  }
  std::ranges::sort(psns);
  return psns;
}

// Processes of one host, all in this one.
class GroupsTest : public testing::Test {
 protected:
  GroupsTest() { options_.prefix = FreshPrefix(); }

  Path PathTo(const Gid& group) const {
    return {.source = Localhost(1),
            .destination = group,
            .traffic_class = 3,
            .hop_limit = 9};
  }
  void Send(Process& from, uint32_t psn, size_t size = 100) {
    SendTo(*from.network, PathTo(Group4(1)), kMulticastQpn, psn, size);
    from.network->Flush();
  }
  static void Join(Process& process, const Gid& group = Group4(1)) {
    ASSERT_TRUE(process.network->JoinGroup(group).ok());
  }
  static void ReceiveAll(std::initializer_list<Process*> processes) {
    for (Process* const process : processes) {
      while (process->Receive() > 0) continue;
    }
  }
  // Whether these came to it, in whatever order, and no others.
  static bool Heard(Process& process, const std::vector<uint32_t>& psns) {
    (void)ReceiveUntil({{&process}}, [&] {
      return process.sink.arrived.size() >= psns.size();
    });
    ReceiveAll({&process});
    return Psns(process) == psns;
  }

  HostNetworkOptions options_;
};

TEST_F(GroupsTest, EachProcessInTheGroupHearsWhatIsSentToIt) {
  Process sender(options_);
  Process one(options_);
  Process other(options_);
  Process in_another_group(options_);
  Join(one);
  Join(other);
  Join(in_another_group, Group4(2));
  for (uint32_t psn = 0; psn < 50; ++psn) Send(sender, psn, psn * 83 % 4097);
  for (Process* const process : {&one, &other}) {
    ASSERT_TRUE(ReceiveUntil(
        {{process}}, [&] { return process->sink.arrived.size() == 50; }));
    for (uint32_t psn = 0; psn < 50; ++psn) {
      const Arrived& arrived = process->sink.arrived[psn];
      EXPECT_EQ(arrived.bth.psn.value(), psn);
      EXPECT_EQ(arrived.path, PathTo(Group4(1)));
      EXPECT_TRUE(IsIntact(arrived, psn * 83 % 4097));
    }
  }
  ReceiveAll({&sender, &in_another_group});
  EXPECT_TRUE(sender.sink.arrived.empty());
  EXPECT_TRUE(in_another_group.sink.arrived.empty());
}

TEST_F(GroupsTest, WhoSendsAndIsInTheGroupHearsItselfOnce) {
  Process a(options_);
  Process b(options_);
  Join(a);
  Join(b);
  Send(a, 1);
  Send(b, 2);
  EXPECT_TRUE(Heard(a, {1, 2}));
  EXPECT_TRUE(Heard(b, {1, 2}));
}

TEST_F(GroupsTest, WhoJoinsMissesNothingThatIsSentAfterwards) {
  Process sender(options_);
  Process first(options_);
  Join(first);
  Send(sender, 1);
  // More than the sender's news socket holds.
  std::vector<std::unique_ptr<Process>> others;
  for (int i = 0; i < 30; ++i) {
    others.push_back(std::make_unique<Process>(options_));
    Join(*others.back());
  }
  Send(sender, 2);
  EXPECT_TRUE(Heard(first, {1, 2}));
  for (const auto& other : others) ASSERT_TRUE(Heard(*other, {2}));
}

TEST_F(GroupsTest, WhoLeftHearsNothingAndMayJoinAgain) {
  Process sender(options_);
  Process a(options_);
  Process b(options_);
  Join(a);
  Join(b);
  Send(sender, 1);
  a.network->LeaveGroup(Group4(1));
  Send(sender, 2);
  EXPECT_TRUE(Heard(b, {1, 2}));
  Join(a);
  Send(sender, 3);
  // What was under way when it left came while it was in again.
  EXPECT_TRUE(Heard(a, {1, 3}));
  EXPECT_EQ(a.network->counters().dropped_bad_qpn, 0u);
}

TEST_F(GroupsTest, WhatIsUnderWayWhenAProcessLeavesIsDropped) {
  Process sender(options_);
  Process a(options_);
  Join(a);
  Send(sender, 1);
  a.network->LeaveGroup(Group4(1));
  EXPECT_TRUE(ReceiveUntil(
      {{&a}}, [&] { return a.network->counters().dropped_bad_qpn == 1; }));
  EXPECT_TRUE(a.sink.arrived.empty());
}

TEST_F(GroupsTest, AProcessThatDiedIsForgotten) {
  Process sender(options_);
  Process a(options_);
  auto dying = std::make_unique<Process>(options_);
  Join(a);
  Join(*dying);
  Send(sender, 1);
  dying.reset();
  EXPECT_TRUE(
      ReceiveUntil({{&sender}}, [&] { return !sender.sink.gone.empty(); }));
  const uint64_t before = sender.network->counters().dropped_no_peer;
  Send(sender, 2);
  EXPECT_EQ(sender.network->counters().dropped_no_peer, before);
  EXPECT_TRUE(Heard(a, {1, 2}));
}

TEST_F(GroupsTest, AMemberThatTakesNothingDoesNotHoldUpTheOthers) {
  options_.ring_bytes = size_t{16} << 10;
  Process sender(options_);
  Process idle(options_);
  Process busy(options_);
  Join(idle);
  Join(busy);
  std::vector<uint32_t> all;
  for (uint32_t psn = 0; psn < 100; ++psn) {
    EXPECT_GT(sender.network->Room(PathTo(Group4(1)), kMulticastQpn), 0u);
    Send(sender, psn, 1000);
    ReceiveAll({&busy});
    all.push_back(psn);
  }
  EXPECT_TRUE(Heard(busy, all));
  EXPECT_GT(sender.network->counters().dropped_no_room, 0u);
  ReceiveAll({&idle});
  EXPECT_GT(idle.sink.arrived.size(), 5u);
  EXPECT_LT(idle.sink.arrived.size(), 100u);
}

TEST_F(GroupsTest, ItTakesTheGroupsAddressAndItsQpn) {
  Process sender(options_);
  Process a(options_);
  Join(a);
  Path to_host = PathTo(Group4(1));
  to_host.destination = Localhost(1);
  SendTo(*sender.network, to_host, kMulticastQpn, 1, 8);
  SendTo(*sender.network, PathTo(Group4(1)), QpnOf(a.network->slot()), 2, 8);
  EXPECT_EQ(sender.network->counters().dropped_bad_qpn, 2u);
  sender.network->Flush();
  ReceiveAll({&a});
  EXPECT_TRUE(a.sink.arrived.empty());
}

TEST(Memberships, ManyGroupsTakeSeveralSockets) {
  const uint32_t loopback = if_nametoindex("lo");
  Memberships memberships;
  memberships.Join(Group4(1));
  EXPECT_EQ(memberships.size(), 0u);
  memberships.SetInterfaces({{IpFamily::kIpv4, loopback}});
  EXPECT_EQ(memberships.size(), 1u);
  // The kernel's default is 20 of a socket.
  for (uint8_t i = 2; i <= 50; ++i) memberships.Join(Group4(i));
  memberships.Join(Group6(1));
  EXPECT_EQ(memberships.size(), 50u);
  memberships.Leave(Group4(50));
  memberships.Leave(Group4(1));
  EXPECT_EQ(memberships.size(), 48u);
  memberships.SetInterfaces({});
  EXPECT_EQ(memberships.size(), 0u);
}

// ---- Two hosts, in a network namespace of their own. IPv4: the loopback
// interface has the addresses of both. IPv6 has no way to groups over that:
// each has one end of a cable.

constexpr int kCannot = 99;
constexpr uint16_t kUdpPort = 4791;

constexpr char kSetUp[] = R"(ip -batch - << END
link set lo up
addr add 10.98.0.1/32 dev lo
addr add 10.98.0.2/32 dev lo
link add wire1 type veth peer name wire2
addr add fd98::1/128 dev wire1 nodad
addr add fd98::2/128 dev wire2 nodad
link set wire1 up
link set wire2 up
END
)";

Gid Ipv4(uint8_t last) {
  return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 98, 0, last};
}
Gid Ipv6(uint8_t last) {
  Gid gid{0xfd, 0x98};
  gid[15] = last;
  return gid;
}

// Root of a user namespace, where this is not root already.
bool UnshareAll() {
  if (unshare(CLONE_NEWNET) == 0) return true;
  const uid_t uid = getuid();
  if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return false;
  std::ofstream map("/proc/self/uid_map");
  map << "0 " << uid << " 1" << std::flush;
  return map.good();
}

// Runs `body` in such a namespace; its answer.
int InNamespace(const std::function<bool()>& body) {
  Child child([&] {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): glibc's is for threads
    if (!UnshareAll() || std::system(kSetUp) != 0) _exit(kCannot);
    if (!body()) _exit(1);
  });
  return child.Wait();
}

class WireGroupsTest : public testing::TestWithParam<bool> {
 protected:
  WireGroupsTest() {
    here_.wire_addresses = {};
    for (HostNetworkOptions* const host : {&here_, &there_}) {
      host->prefix = FreshPrefix();
      host->udp_port = kUdpPort;
    }
  }

  bool ipv4() const { return GetParam(); }
  Gid Group(uint8_t last) const { return ipv4() ? Group4(last) : Group6(last); }
  Gid Address(uint8_t host) const { return ipv4() ? Ipv4(host) : Ipv6(host); }
  Path PathTo(const Gid& group) const {
    return {.source = Address(1),
            .destination = group,
            .traffic_class = 0x68,
            .hop_limit = 17};
  }
  // Whether what `from` sends to the group comes to `to`, as it was sent, while
  // these processes receive.
  bool Passes(Process& from, Process& to, const Gid& group,
              std::vector<Process*> receiving) {
    const Path path = PathTo(group);
    to.sink.arrived.clear();
    return ReceiveUntil(receiving,
                        [&] {
                          SendTo(*from.network, path, kMulticastQpn, 1, 1000);
                          from.network->Flush();
                          return !to.sink.arrived.empty() &&
                                 to.sink.arrived.back().path == path;
                        }) &&
           IsIntact(to.sink.arrived.back(), 1000);
  }
  void Expect(const std::function<bool()>& body) {
    const int status = InNamespace(body);
    if (status == kCannot) GTEST_SKIP() << "no namespaces, or no ip, here";
    EXPECT_EQ(status, 0);
  }

  HostNetworkOptions here_;
  HostNetworkOptions there_;
};

INSTANTIATE_TEST_SUITE_P(Families, WireGroupsTest, testing::Bool(),
                         [](const auto& test) {
                           return test.param ? "Ipv4" : "Ipv6";
                         });

TEST_P(WireGroupsTest, WhatIsSentReachesTheMembersOfAnotherHost) {
  Expect([&] {
    Process a(here_, Address(1));
    Process b(there_, Address(2));
    b.network->set_wants_wire(true);
    // More groups than one socket of the kernel's may be in.
    for (uint8_t i = 1; i <= 30; ++i) {
      if (!b.network->JoinGroup(Group(i)).ok()) return false;
    }
    return Passes(a, b, Group(1), {&a, &b}) &&
           Passes(a, b, Group(30), {&a, &b});
  });
}

TEST_P(WireGroupsTest, TheHolderHandsOnToEachMemberAndNeedNotBeOne) {
  Expect([&] {
    Process a(here_, Address(1));
    Process holder(there_, Address(2));
    Process one(there_, Address(2));
    Process other(there_, Address(2));
    holder.network->set_wants_wire(true);
    if (!one.network->JoinGroup(Group(1)).ok()) return false;
    if (!other.network->JoinGroup(Group(1)).ok()) return false;
    return Passes(a, one, Group(1), {&holder, &one, &other}) &&
           Passes(a, other, Group(1), {&holder, &one, &other}) &&
           holder.sink.arrived.empty();
  });
}

TEST_P(WireGroupsTest, AnotherHolderHandsOnAsWell) {
  Expect([&] {
    Process a(here_, Address(1));
    auto holder = std::make_unique<Process>(there_, Address(2));
    Process next(there_, Address(2));
    Process member(there_, Address(2));
    holder->network->set_wants_wire(true);
    next.network->set_wants_wire(true);
    if (!member.network->JoinGroup(Group(1)).ok()) return false;
    if (!Passes(a, member, Group(1), {holder.get(), &member})) return false;
    holder.reset();
    return Passes(a, member, Group(1), {&next, &member});
  });
}

// What is sent comes back: by the loopback interface, or by the cable.
TEST_P(WireGroupsTest, AHostHearsWhatItSendsOnce) {
  Expect([&] {
    there_.prefix = here_.prefix;
    Process a(there_, Address(1));
    Process b(there_, Address(1));
    a.network->set_wants_wire(true);
    if (!a.network->JoinGroup(Group(1)).ok()) return false;
    if (!b.network->JoinGroup(Group(1)).ok()) return false;
    a.network->SetLocalGids({Address(1), Address(2)});
    b.network->SetLocalGids({Address(1), Address(2)});
    for (uint32_t psn = 0; psn < 3; ++psn) {
      SendTo(*a.network, PathTo(Group(1)), kMulticastQpn, psn, 100);
      a.network->Flush();
    }
    return ReceiveUntil({{&a, &b}},
                        [&] {
                          return a.network->counters().dropped_bad_address == 3;
                        }) &&
           ReceiveUntil({{&a, &b}},
                        [&] { return b.sink.arrived.size() == 3; }) &&
           a.sink.arrived.size() == 3;
  });
}

TEST_P(WireGroupsTest, WhoLeftIsNotReached) {
  Expect([&] {
    Process a(here_, Address(1));
    Process b(there_, Address(2));
    b.network->set_wants_wire(true);
    if (!b.network->JoinGroup(Group(1)).ok()) return false;
    if (!b.network->JoinGroup(Group(2)).ok()) return false;
    if (!Passes(a, b, Group(1), {&a, &b})) return false;
    b.network->LeaveGroup(Group(1));
    while (b.Receive() > 0) continue;
    const uint64_t dropped = b.network->counters().dropped_no_peer;
    SendTo(*a.network, PathTo(Group(1)), kMulticastQpn, 1, 100);
    // What is behind it has come: it did not.
    return Passes(a, b, Group(2), {&a, &b}) &&
           b.network->counters().dropped_no_peer == dropped;
  });
}

}  // namespace
}  // namespace nd::soft
