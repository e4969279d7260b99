#include "soft/cm/port_table.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace nd::soft {
namespace {

constexpr Gid kAny6 = {};
constexpr Gid kAny4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr Gid kOne = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1};
constexpr Gid kTwo = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2};
constexpr Gid kSix = {0xfd, 1};

constexpr absl::StatusCode kTakenAtAll = absl::StatusCode::kFailedPrecondition;

class PortTableTest : public ::testing::Test {
 protected:
  absl::StatusCode Bind(const PortTable::Binding& binding) {
    return table.Bind(binding, random).status().code();
  }
  bool Binds(const PortTable::Binding& binding) {
    return Bind(binding) == absl::StatusCode::kOk;
  }
  static PortTable::Binding On(const Gid& ip, uint16_t port = 7) {
    return {.local = {.ip = ip, .port = port}};
  }

  SeededRandom random{1};
  PortTable table;
};

TEST_F(PortTableTest, AddressIsInUse) {
  EXPECT_TRUE(Binds(On(kOne)));
  EXPECT_EQ(Bind(On(kOne)), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Binds(On(kTwo)));
  EXPECT_TRUE(Binds(On(kOne, 8)));
}

TEST_F(PortTableTest, WildcardCollidesWithAllOfItsFamily) {
  EXPECT_TRUE(Binds(On(kOne)));
  EXPECT_EQ(Bind(On(kAny4)), kTakenAtAll);
  EXPECT_TRUE(Binds(On(kSix)));
}

TEST_F(PortTableTest, Ipv6WildcardCollidesWithIpv4Too) {
  EXPECT_TRUE(Binds(On(kAny6)));
  EXPECT_EQ(Bind(On(kOne)), kTakenAtAll);
  EXPECT_EQ(Bind(On(kAny4)), kTakenAtAll);
}

TEST_F(PortTableTest, Ipv6OnlyWildcardLeavesIpv4Alone) {
  PortTable::Binding binding = On(kAny6);
  binding.ipv6_only = true;
  EXPECT_TRUE(Binds(binding));
  EXPECT_TRUE(Binds(On(kAny4)));
  EXPECT_EQ(Bind(On(kSix)), kTakenAtAll);
}

// Linux, cma_any_addr.
TEST_F(PortTableTest, LoopbackCollidesAsAWildcardDoes) {
  PortTable::Binding loopback = On(kOne);
  loopback.loopback = true;
  EXPECT_TRUE(Binds(loopback));
  EXPECT_EQ(Bind(On(kTwo)), kTakenAtAll);
  EXPECT_EQ(Bind(On(kSix)), kTakenAtAll);
  PortTable::Binding ipv6_only = On(kSix);
  ipv6_only.ipv6_only = true;
  EXPECT_TRUE(Binds(ipv6_only));
  EXPECT_TRUE(Binds(On(kTwo, 8)));
  loopback.local.port = 8;
  EXPECT_EQ(Bind(loopback), kTakenAtAll);
}

TEST_F(PortTableTest, PortSpacesAreApart) {
  EXPECT_TRUE(Binds(On(kAny6)));
  PortTable::Binding udp = On(kAny6);
  udp.space = PortSpace::kUdp;
  EXPECT_TRUE(Binds(udp));
}

TEST_F(PortTableTest, ReuseWorksOnlyIfBothWantIt) {
  PortTable::Binding reuse = On(kOne);
  reuse.reuse_address = true;
  EXPECT_TRUE(Binds(reuse));
  EXPECT_TRUE(Binds(reuse));
  EXPECT_FALSE(Binds(On(kOne)));
}

TEST_F(PortTableTest, ReusedAddressHasOneListener) {
  PortTable::Binding reuse = On(kOne);
  reuse.reuse_address = true;
  const auto first = table.Bind(reuse, random);
  ASSERT_TRUE(table.Listen(first->claim).ok());
  const auto second = table.Bind(reuse, random);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(table.Listen(second->claim).code(),
            absl::StatusCode::kAlreadyExists);
  table.Release(first->claim);
  EXPECT_TRUE(table.Listen(second->claim).ok());
}

TEST_F(PortTableTest, ReleasedPortIsFree) {
  const auto bound = table.Bind(On(kOne), random);
  table.Release(bound->claim);
  EXPECT_TRUE(Binds(On(kOne)));
  EXPECT_EQ(table.Listen(bound->claim).code(), absl::StatusCode::kNotFound);
  table.Release(bound->claim);
}

TEST_F(PortTableTest, ReleasedEphemeralPortsArePickedAgain) {
  constexpr int kPorts =
      PortTable::kLastEphemeral - PortTable::kFirstEphemeral + 1;
  for (int i = 0; i <= kPorts; ++i) {
    const auto bound = table.Bind(On(kOne, 0), random);
    ASSERT_TRUE(bound.ok());
    table.Release(bound->claim);
  }
}

TEST_F(PortTableTest, PicksEveryEphemeralPortOnce) {
  constexpr int kPorts =
      PortTable::kLastEphemeral - PortTable::kFirstEphemeral + 1;
  std::vector<bool> seen(1 << 16);
  for (int i = 0; i < kPorts; ++i) {
    const auto bound = table.Bind(On(kOne, 0), random);
    ASSERT_TRUE(bound.ok());
    ASSERT_GE(bound->port, PortTable::kFirstEphemeral);
    ASSERT_LE(bound->port, PortTable::kLastEphemeral);
    ASSERT_FALSE(seen[bound->port]);
    seen[bound->port] = true;
  }
  EXPECT_EQ(table.Bind(On(kOne, 0), random).status().code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace nd::soft
