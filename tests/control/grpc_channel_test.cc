#include "control/grpc_channel.h"

#include <gtest/gtest.h>

namespace nd::control {
namespace {

TEST(ParsePeer, ReadsIpv4) {
  EXPECT_EQ(ParsePeer("ipv4:10.98.0.1:40001")->ToString(), "10.98.0.1:40001");
}

TEST(ParsePeer, ReadsIpv6WithAndWithoutEscapes) {
  EXPECT_EQ(ParsePeer("ipv6:%5Bfd98::1%5D:40001")->ToString(),
            "[fd98::1]:40001");
  EXPECT_EQ(ParsePeer("ipv6:[fd98::1]:40001")->ToString(), "[fd98::1]:40001");
}

TEST(ParsePeer, OthersAreErrors) {
  EXPECT_FALSE(ParsePeer("unix:/some/socket").ok());
  EXPECT_FALSE(ParsePeer("ipv4:10.98.0.1").ok());
  EXPECT_FALSE(ParsePeer("ipv4:10.98.0.1:70000").ok());
  EXPECT_FALSE(ParsePeer("").ok());
}

TEST(Keepalive, NoticesADeadHostWithinFiveSeconds) {
  EXPECT_LT(kKeepaliveInterval + kKeepaliveTimeout, std::chrono::seconds(5));
}

}  // namespace
}  // namespace nd::control
