// Two hosts: each has an address of the loopback interface and names of its
// own.
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "soft/net/bench.h"
#include "soft/net/inet.h"
#include "soft/net/udp_sender.h"
#include "soft/wire/icrc.h"

namespace nd::soft {
namespace {

// A port that nothing on the machine had a moment ago.
uint16_t FreePort() {
  const Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  SocketAddress address = ToSocketAddress(kAnyIpv4, 0);
  EXPECT_EQ(bind(fd.get(), address.get(), address.length), 0);
  EXPECT_EQ(getsockname(fd.get(), address.get(), &address.length), 0);
  return PortOf(address);
}

Gid Ipv6(uint8_t first, uint8_t second, uint8_t last) {
  Gid gid{};
  gid[0] = first;
  gid[1] = second;
  gid[15] = last;
  return gid;
}

// What SIOCSIFADDR of an AF_INET6 socket takes. linux/ipv6.h, which has it,
// cannot stand beside netinet/in.h.
struct Ipv6Request {
  in6_addr address;
  uint32_t prefix_bits;
  int interface;
};

// Starts the loopback interface and gives it the addresses.
bool AddToLoopback(std::span<const Gid> addresses) {
  const Fd fd(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq up{};
  std::strcpy(up.ifr_name, "lo");
  up.ifr_flags = IFF_UP;
  if (ioctl(fd.get(), SIOCSIFFLAGS, &up) != 0) return false;
  for (const Gid& gid : addresses) {
    const Ipv6Request request{
        .address = ToIn6Addr(gid),
        .prefix_bits = 64,
        .interface = static_cast<int>(if_nametoindex("lo"))};
    if (ioctl(fd.get(), SIOCSIFADDR, &request) != 0) return false;
  }
  return true;
}

class WireTest : public testing::Test {
 protected:
  WireTest() {
    port_ = FreePort();
    here_ = HostWith(Localhost(1));
    there_ = HostWith(Localhost(2));
  }

  HostNetworkOptions HostWith(const Gid& address) const {
    HostNetworkOptions options;
    options.prefix = FreshPrefix();
    options.udp_port = port_;
    options.wire_addresses = {address};
    return options;
  }

  uint16_t port_;
  HostNetworkOptions here_;
  HostNetworkOptions there_;
  const Path path_{.source = Localhost(1),
                   .destination = Localhost(2),
                   .traffic_class = 0x68,
                   .hop_limit = 17};
};

TEST_F(WireTest, PacketsReachAnotherHost) {
  Process a(here_, Localhost(1));
  Process b(there_, Localhost(2));
  b.network->set_wants_wire(true);
  ASSERT_TRUE(b.network->holds_wire());
  const Qpn destination = QpnOf(b.network->slot());
  const auto size = [](size_t i) { return i * 41 % 4097; };
  size_t sent = 0;
  ASSERT_TRUE(ReceiveUntil({{&a, &b}}, [&] {
    // One at a time: the loopback interface may drop what is too much.
    if (sent == b.sink.arrived.size() && sent < 200) {
      EXPECT_GT(a.network->Room(path_, destination), 0u);
      SendTo(*a.network, path_, destination, sent, size(sent));
      ++sent;
      a.network->Flush();
    }
    return b.sink.arrived.size() == 200;
  }));
  for (size_t i = 0; i < 200; ++i) {
    ASSERT_EQ(b.sink.arrived[i].bth.psn.value(), i);
    ASSERT_TRUE(IsIntact(b.sink.arrived[i], size(i)));
    ASSERT_EQ(b.sink.arrived[i].path, path_);
  }
}

// A message in memory that lasts, cut into packets of one train, with what is
// left over at its end.
class LentMessage {
 public:
  explicit LentMessage(size_t bytes) : bytes_(Payload(bytes)) {
    // The sizes of the pieces do not go with those of packets.
    const std::span all(bytes_);
    for (size_t at = 0, size = 1; at < bytes; at += size, size += 501) {
      pieces_.push_back(all.subspan(at, std::min(size, bytes - at)));
    }
  }

  void Send(Network& network, const Path& path, Qpn destination) const {
    for (size_t at = 0; at < bytes_.size(); at += 4096) {
      const size_t size = std::min<size_t>(4096, bytes_.size() - at);
      Outgoing outgoing;
      outgoing.packet.bth = {.opcode = Opcode::kRcSendOnly,
                             .pad = PadFor(size),
                             .destination = destination,
                             .psn = Psn(static_cast<uint32_t>(at))};
      outgoing.payload = {.segments = pieces_, .offset = at, .length = size};
      outgoing.lasts = true;
      network.Send(path, outgoing);
    }
  }
  bool IsIn(const Arrived& arrived) const {
    const auto there = std::span(bytes_).subspan(arrived.bth.psn.value());
    return std::ranges::equal(
        arrived.payload, there.first(std::min<size_t>(4096, there.size())));
  }
  std::span<std::byte> bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  std::vector<Segment> pieces_;
};

TEST_F(WireTest, WhatLastsArrivesHoweverItLies) {
  constexpr size_t kPackets = 10;
  Process a(here_, Localhost(1));
  Process b(there_, Localhost(2));
  b.network->set_wants_wire(true);
  const LentMessage message((kPackets - 1) * 4096 + 1027);
  message.Send(*a.network, path_, QpnOf(b.network->slot()));
  a.network->Flush();
  ASSERT_TRUE(ReceiveUntil({{&a, &b}},
                           [&] { return b.sink.arrived.size() == kPackets; }));
  for (const Arrived& arrived : b.sink.arrived) {
    EXPECT_TRUE(message.IsIn(arrived));
  }
}

// The receiver sees a right ICRC of what the memory holds then.
TEST_F(WireTest, WhatLastsIsReadWhereItLiesWhenItIsFlushed) {
  Process a(here_, Localhost(1));
  Process b(there_, Localhost(2));
  b.network->set_wants_wire(true);
  LentMessage message(2048);
  message.Send(*a.network, path_, QpnOf(b.network->slot()));
  std::ranges::copy(Payload(2048, 1), message.bytes().begin());
  a.network->Flush();
  ASSERT_TRUE(
      ReceiveUntil({{&a, &b}}, [&] { return !b.sink.arrived.empty(); }));
  EXPECT_EQ(b.sink.arrived[0].payload, Payload(2048, 1));
}

TEST_F(WireTest, WhatDoesNotLastIsCopiedWhenItIsSent) {
  Process a(here_, Localhost(1));
  Process b(there_, Localhost(2));
  b.network->set_wants_wire(true);
  SendTo(*a.network, path_, QpnOf(b.network->slot()), 7, 2048);
  a.network->Flush();
  ASSERT_TRUE(
      ReceiveUntil({{&a, &b}}, [&] { return !b.sink.arrived.empty(); }));
  EXPECT_TRUE(IsIntact(b.sink.arrived[0], 2048));
}

// As what the kernel does not take at once is.
TEST_F(WireTest, WhatIsKeptIsNotReadWhereItLiesAnyMore) {
  SystemRandom random;
  auto sender = UdpSender::Open(IpFamily::kIpv4, port_, random);
  ASSERT_TRUE(sender.ok());
  Process b(there_, Localhost(2));
  b.network->set_wants_wire(true);
  std::vector<std::byte> bytes = Payload(2047, 1);
  const Segment segment(bytes);
  Outgoing outgoing;
  outgoing.packet.bth = {.opcode = Opcode::kRcSendOnly,
                         .pad = PadFor(bytes.size()),
                         .destination = QpnOf(b.network->slot()),
                         .psn = Psn(1)};
  outgoing.payload = {.segments = {&segment, 1}, .length = bytes.size()};
  outgoing.lasts = true;
  sender->Send(path_, 0, 0, PacketSource(outgoing));
  sender->Keep();
  std::ranges::fill(bytes, std::byte{});
  NetCounters counters;
  EXPECT_EQ(sender->Flush(counters), std::nullopt);
  ASSERT_TRUE(ReceiveUntil({{&b}}, [&] { return !b.sink.arrived.empty(); }));
  EXPECT_TRUE(IsIntact(b.sink.arrived[0], 2047));
}

// Whether packets get from the one address to the other.
bool Passes(HostNetworkOptions here, HostNetworkOptions there, const Gid& from,
            const Gid& to) {
  here.wire_addresses = {};
  there.wire_addresses = {kAnyIpv6};
  Process a(here, from);
  Process b(there, to);
  b.network->set_wants_wire(true);
  const Path path{.source = from,
                  .destination = to,
                  .traffic_class = 0x68,
                  .hop_limit = 17};
  return ReceiveUntil({{&a, &b}},
                      [&] {
                        SendTo(*a.network, path, QpnOf(b.network->slot()), 1,
                               4095);
                        a.network->Flush();
                        return !b.sink.arrived.empty();
                      }) &&
         IsIntact(b.sink.arrived[0], 4095) && b.sink.arrived[0].path == path;
}

// In a network namespace of its own, which has these addresses.
TEST_F(WireTest, PacketsReachAnotherHostOverIpv6) {
  const std::array<Gid, 4> addresses = {Ipv6(0xfd, 0x00, 1), Ipv6(0xfd, 0, 2),
                                        Ipv6(0xfe, 0x80, 1),
                                        Ipv6(0xfe, 0x80, 2)};
  constexpr int kCannot = 99;
  Child child([&] {
    if ((unshare(CLONE_NEWNET) != 0 &&
         unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) ||
        !AddToLoopback(addresses)) {
      _exit(kCannot);
    }
    if (!Passes(here_, there_, addresses[0], addresses[1])) _exit(1);
    if (!Passes(here_, there_, addresses[2], addresses[3])) _exit(2);
  });
  const int status = child.Wait();
  if (status == kCannot) GTEST_SKIP() << "no namespaces or no IPv6 here";
  EXPECT_EQ(status, 0);
}

TEST_F(WireTest, ADatagramIsWhatRoceSays) {
  Process a(here_, Localhost(1));
  const Fd tap(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const SocketAddress address = ToSocketAddress(Localhost(2), port_);
  ASSERT_EQ(bind(tap.get(), address.get(), address.length), 0);
  SendTo(*a.network, path_, Qpn{0x123456}, 0x54321, 5);
  a.network->Flush();

  std::array<std::byte, 100> bytes;
  SocketAddress source;
  source.length = sizeof(source.storage);
  const ssize_t size = recvfrom(tap.get(), bytes.data(), bytes.size(), 0,
                                source.get(), &source.length);
  ASSERT_EQ(size, 12 + 5 + 3 + 4);
  EXPECT_EQ(GidOf(source), Localhost(1));
  EXPECT_GE(PortOf(source), 0xc000);
  const Sealed sealed = Unseal(std::span(bytes).first(24));
  EXPECT_EQ(sealed.icrc, Icrc({.source = Localhost(1),
                               .destination = Localhost(2),
                               .source_port = PortOf(source),
                               .destination_port = port_},
                              sealed.packet));
  Packet packet;
  ASSERT_EQ(Parse(sealed.packet, packet), PacketFault::kNone);
  EXPECT_EQ(packet.bth.psn, Psn(0x54321));
  EXPECT_EQ(packet.bth.destination, Qpn{0x123456});
}

TEST_F(WireTest, AFlowKeepsItsSourcePortAndOthersHaveOthers) {
  Process a(here_, Localhost(1));
  const Fd tap(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const SocketAddress address = ToSocketAddress(Localhost(2), port_);
  ASSERT_EQ(bind(tap.get(), address.get(), address.length), 0);
  const auto port_of = [&](uint32_t flow_label, uint32_t qpn) {
    Path path = path_;
    path.flow_label = flow_label;
    SendTo(*a.network, path, Qpn{qpn}, 1, 8);
    a.network->Flush();
    std::byte byte;
    SocketAddress source;
    source.length = sizeof(source.storage);
    EXPECT_GE(recvfrom(tap.get(), &byte, 1, 0, source.get(), &source.length),
              0);
    return PortOf(source);
  };
  std::set<uint16_t> of_qps;
  std::set<uint16_t> of_labels;
  for (uint32_t i = 1; i <= 32; ++i) {
    of_qps.insert(port_of(0, 0x12300 + i));
    of_labels.insert(port_of(i, 0x12345));
    EXPECT_EQ(port_of(0, 0x12300 + i), port_of(0, 0x12300 + i));
    EXPECT_EQ(port_of(i, 0x12345), port_of(i, 0x54321));
  }
  EXPECT_EQ(of_qps.size(), 4u);
  EXPECT_EQ(of_labels, of_qps);
  EXPECT_GE(*of_qps.begin(), 0xc000);
}

TEST_F(WireTest, WhatIsDamagedOrForeignIsDropped) {
  Process b(there_, Localhost(2));
  b.network->set_wants_wire(true);
  const Fd sender(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const SocketAddress source = ToSocketAddress(Localhost(9), 0xc111);
  ASSERT_EQ(bind(sender.get(), source.get(), source.length), 0);
  const SocketAddress destination = ToSocketAddress(Localhost(2), port_);
  const auto send = [&](std::span<const std::byte> bytes) {
    ASSERT_EQ(sendto(sender.get(), bytes.data(), bytes.size(), 0,
                     destination.get(), destination.length),
              static_cast<ssize_t>(bytes.size()));
  };
  const std::vector<std::byte> noise = Payload(100);
  send(noise);
  send(std::span(noise).first(11));
  send({});
  send(Payload(6000));
  const auto& counters = b.network->counters();
  EXPECT_TRUE(ReceiveUntil({{&b}}, [&] {
    return counters.dropped_bad_icrc + counters.dropped_malformed == 4;
  }));
  EXPECT_EQ(counters.dropped_bad_icrc, 1u);
  EXPECT_TRUE(b.sink.arrived.empty());
}

// To fetch what is lent would delay what comes from there.
TEST_F(WireTest, NothingIsLentWithinTheHostWhilePacketsComeFromAnother) {
  there_.lends = Lends::kToAll;
  Process a(here_, Localhost(1));
  Process b(there_, Localhost(2));
  b.network->set_wants_wire(true);
  const Process c(there_, Localhost(2));
  const Path within{.source = Localhost(2), .destination = Localhost(2)};
  const Instant now = Clock::Monotonic().Now();
  const auto receive = [&b, now](size_t count) {
    while (b.sink.arrived.size() < count) b.network->Receive(now, b.sink);
  };
  SendTo(*c.network, within, QpnOf(b.network->slot(), 17), 1, 1);
  c.network->Flush();
  receive(1);
  const auto lent = [&] {
    return c.network->Bursts(within, QpnOf(b.network->slot(), 17)).lent;
  };
  EXPECT_GT(lent(), 0u);
  SendTo(*a.network, path_, QpnOf(b.network->slot(), 18), 2, 1);
  a.network->Flush();
  receive(2);
  b.network->Receive(now, b.sink);
  EXPECT_EQ(lent(), 0u);
  b.network->Receive(now + Company::kStay, b.sink);
  EXPECT_GT(lent(), 0u);
}

TEST_F(WireTest, TheHolderHandsOnWhatIsForOthers) {
  Process a(here_, Localhost(1));
  Process holder(there_, Localhost(2));
  Process b(there_, Localhost(2));
  holder.network->set_wants_wire(true);
  b.network->set_wants_wire(true);
  ASSERT_TRUE(holder.network->holds_wire());
  ASSERT_FALSE(b.network->holds_wire());
  EXPECT_TRUE(ReceiveUntil({{&holder, &b}}, [&] {
    SendTo(*a.network, path_, QpnOf(b.network->slot()), 1, 1000);
    a.network->Flush();
    return !b.sink.arrived.empty();
  }));
  EXPECT_TRUE(IsIntact(b.sink.arrived[0], 1000));
  EXPECT_EQ(b.sink.arrived[0].path, path_);
  EXPECT_GT(holder.network->counters().handed_on, 0u);
  EXPECT_TRUE(holder.sink.arrived.empty());
}

// Needs root, to become somebody else.
TEST_F(WireTest, AnotherUserMayHandOnWhatIsFromTheWire) {
  if (getuid() != 0) GTEST_SKIP() << "has to be root to become another user";
  Child receiver([&] {
    if (setresuid(12345, 12345, 12345) != 0) _exit(2);
    there_.first_slot = 300;
    Process process(there_, Localhost(2));
    (void)ReceiveUntil({{&process}},
                       [&] { return !process.sink.arrived.empty(); });
    _exit(!process.sink.arrived.empty() && process.sink.arrived[0].path == path_
              ? 0
              : 1);
  });
  Child holder([&] {
    if (setresuid(12346, 12346, 12346) != 0) _exit(2);
    there_.first_slot = 400;
    Process process(there_, Localhost(2));
    process.network->set_wants_wire(true);
    (void)ReceiveUntil({{&process}}, [] { return false; });
  });
  Child sender([&] {
    Process process(here_, Localhost(1));
    (void)ReceiveUntil({{&process}}, [&] {
      SendTo(*process.network, path_, QpnOf(300), 1, 1000);
      process.network->Flush();
      return false;
    });
  });
  EXPECT_EQ(receiver.Wait(), 0);
}

TEST_F(WireTest, AnotherTakesOverWhenTheHolderIsGone) {
  Process a(here_, Localhost(1));
  auto holder = std::make_unique<Process>(there_, Localhost(2));
  holder->network->set_wants_wire(true);
  Process b(there_, Localhost(2));
  EXPECT_FALSE(b.network->NextDeadline().has_value());
  b.network->set_wants_wire(true);
  EXPECT_TRUE(b.network->NextDeadline().has_value());
  holder.reset();
  EXPECT_TRUE(ReceiveUntil({{&b}}, [&] { return b.network->holds_wire(); }));
  EXPECT_FALSE(b.network->NextDeadline().has_value());
  EXPECT_TRUE(ReceiveUntil({{&b}}, [&] {
    SendTo(*a.network, path_, QpnOf(b.network->slot()), 1, 1000);
    a.network->Flush();
    return !b.sink.arrived.empty();
  }));
}

TEST_F(WireTest, ARequestFromTheWireReachesWhoClaimedTheService) {
  constexpr uint64_t kService = 0x1061234;
  Process a(here_, Localhost(1));
  Process holder(there_, Localhost(2));
  Process b(there_, Localhost(2));
  holder.network->set_wants_wire(true);
  ASSERT_TRUE(b.network->ClaimService({.id = kService}).ok());
  const CmReq req = Request(CommId{5}, kService);
  SendMad(*a.network, path_, req);
  a.network->Flush();
  ASSERT_TRUE(
      ReceiveUntil({{&holder, &b}}, [&] { return !b.sink.arrived.empty(); }));
  EXPECT_EQ(MessageOf(b.sink.arrived[0]), CmMessage(req));

  SendMad(*a.network, path_, Request(CommId{6}, kService + 1));
  a.network->Flush();
  EXPECT_TRUE(ReceiveUntil({{&holder, &b}},
                           [&] { return !holder.sink.arrived.empty(); }));
}

TEST_F(WireTest, WhatTheWirePretendsToBringFromUsIsDropped) {
  Process b(there_, Localhost(2));
  // A host of another name that says it is this one.
  Process liar(here_, Localhost(1));
  b.network->SetLocalGids({Localhost(1), Localhost(2)});
  b.network->set_wants_wire(true);
  EXPECT_TRUE(ReceiveUntil({{&b}}, [&] {
    SendTo(*liar.network, path_, QpnOf(b.network->slot()), 1, 8);
    liar.network->Flush();
    return b.network->counters().dropped_bad_address > 0;
  }));
  EXPECT_TRUE(b.sink.arrived.empty());
}

TEST_F(WireTest, AQueueThatFilledUpIsSaidToHaveRoomOnceItWasSent) {
  Process a(here_, Localhost(1));
  for (size_t room = a.network->Room(path_, Qpn{1 << 20}); room > 0;
       room = a.network->Room(path_, Qpn{1 << 20})) {
    SendTo(*a.network, path_, Qpn{1 << 20}, 1, 8);
  }
  EXPECT_TRUE(a.network->Rest());
  a.network->Flush();
  EXPECT_FALSE(a.network->Rest());
  EXPECT_GT(a.network->Room(path_, Qpn{1 << 20}), 0u);
  EXPECT_TRUE(a.network->Rest());
}

TEST_F(WireTest, WhatTheKernelWillNotSendIsDropped) {
  Process a(here_, Localhost(1));
  Path from_elsewhere = path_;
  from_elsewhere.source =
      Gid{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
  SendTo(*a.network, from_elsewhere, Qpn{1 << 20}, 1, 8);
  a.network->Flush();
  EXPECT_EQ(a.network->counters().dropped_send_failed, 1u);
}

}  // namespace
}  // namespace nd::soft
