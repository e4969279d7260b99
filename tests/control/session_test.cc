#include "control/session.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace nd::control {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

std::string MessageOf(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

struct LinkField {
  const char* name;
  uint64_t LinkLayout::*value;
  uint64_t min;
  uint64_t max;
};

LinkLayout SomeLink() {
  return {.send_depth = 16,
          .receive_depth = 256,
          .max_rd_atomic = 16,
          .max_dest_rd_atomic = 16,
          .path_mtu = 1024};
}

class LinkLayoutTest : public ::testing::TestWithParam<LinkField> {
 protected:
  absl::Status CheckWith(uint64_t value) {
    SessionLayout session;
    LinkLayout link = SomeLink();
    if (GetParam().value == &LinkLayout::ring_size) {
      session.eager_mode = EagerMode::kRing;
    }
    link.*GetParam().value = value;
    return CheckLinkLayout(link, session);
  }
};

TEST_P(LinkLayoutTest, FieldIsTakenAtTheEdgesOfItsRangeOnly) {
  const auto& [name, member, min, max] = GetParam();
  const std::string field = std::string("link_layout.") + name;
  EXPECT_TRUE(CheckWith(min).ok()) << CheckWith(min);
  EXPECT_TRUE(CheckWith(max).ok()) << CheckWith(max);
  EXPECT_EQ(MessageOf(CheckWith(max + 1)),
            field + ": " + std::to_string(max + 1) + " is above " +
                std::to_string(max));
  if (min == 0) return;
  EXPECT_EQ(MessageOf(CheckWith(min - 1)),
            field + ": " + std::to_string(min - 1) + " is below " +
                std::to_string(min));
}

INSTANTIATE_TEST_SUITE_P(
    Each, LinkLayoutTest,
    ::testing::Values(
        LinkField{"send_depth", &LinkLayout::send_depth, 1, 1 << 20},
        LinkField{"receive_depth", &LinkLayout::receive_depth, 256, 1 << 20},
        LinkField{"ring_size", &LinkLayout::ring_size, 256 * 8192,
                  uint64_t{1} << 32},
        LinkField{"max_rd_atomic", &LinkLayout::max_rd_atomic, 0, 255},
        LinkField{"max_dest_rd_atomic", &LinkLayout::max_dest_rd_atomic, 0,
                  255}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(LinkLayout, PathMtuIsOneOfFive) {
  LinkLayout link = SomeLink();
  for (const uint64_t mtu : {256, 512, 1024, 2048, 4096}) {
    link.path_mtu = mtu;
    EXPECT_TRUE(CheckLinkLayout(link, {}).ok());
  }
  for (const uint64_t mtu : {0, 255, 1500, 8192}) {
    link.path_mtu = mtu;
    EXPECT_EQ(MessageOf(CheckLinkLayout(link, {})),
              "link_layout.path_mtu: " + std::to_string(mtu) +
                  " is none of 256, 512, 1024, 2048, 4096");
  }
}

TEST(LinkLayout, RingIsForRingModeOnly) {
  LinkLayout link = SomeLink();
  link.ring_size = 8192;
  EXPECT_EQ(MessageOf(CheckLinkLayout(link, {})),
            "link_layout.ring_size: 8192, but the session's eager_mode is "
            "SEND");
}

TEST(LinkLayout, RingEndsWithinTheAddressSpace) {
  LinkLayout link = SomeLink();
  SessionLayout session;
  session.eager_mode = EagerMode::kRing;
  link.ring_size = session.slots * session.slot_size;
  link.ring_address = kMax - link.ring_size;
  EXPECT_TRUE(CheckLinkLayout(link, session).ok());
  ++link.ring_address;
  EXPECT_NE(MessageOf(CheckLinkLayout(link, session)).find("beyond 2^64"),
            std::string::npos);
}

Region SomeRegion() {
  return {.address = 0x1000, .size = 64, .access = {.read = true}};
}

TEST(Region, NameHas1To255Bytes) {
  EXPECT_TRUE(CheckRegion("k", SomeRegion()).ok());
  EXPECT_TRUE(CheckRegion(std::string(255, 'k'), SomeRegion()).ok());
  EXPECT_EQ(MessageOf(CheckRegion("", SomeRegion())), "name: 0 is below 1");
  EXPECT_EQ(MessageOf(CheckRegion(std::string(256, 'k'), SomeRegion())),
            "name: 256 is above 255");
}

TEST(Region, HasBytesWithinTheAddressSpace) {
  Region region = SomeRegion();
  region.size = 0;
  EXPECT_EQ(MessageOf(CheckRegion("k", region)), "region.size: 0 is below 1");
  region.address = 1;
  region.size = kMax - 1;
  EXPECT_TRUE(CheckRegion("k", region).ok());
  region.size = kMax;
  EXPECT_NE(MessageOf(CheckRegion("k", region)).find("region.address"),
            std::string::npos);
}

TEST(Region, LetsThePeerDoSomething) {
  Region region = SomeRegion();
  region.access = {};
  EXPECT_EQ(MessageOf(CheckRegion("k", region)),
            "region.access: neither read, write nor atomic");
  region.access = {.write = true};
  EXPECT_TRUE(CheckRegion("k", region).ok());
}

TEST(Region, WithAtomicAccessIsAligned) {
  Region region = SomeRegion();
  region.address = 0x1004;
  EXPECT_TRUE(CheckRegion("k", region).ok());
  region.access.atomic = true;
  EXPECT_EQ(MessageOf(CheckRegion("k", region)),
            "region.address: 4100 is not a multiple of 8, which atomic access "
            "needs");
  region.address = 0x1008;
  EXPECT_TRUE(CheckRegion("k", region).ok());
}

TEST(SessionName, IsAlwaysAsLong) {
  EXPECT_EQ(SessionName(0x1d), "session 000000000000001d");
}

}  // namespace
}  // namespace nd::control
