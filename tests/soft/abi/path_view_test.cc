#include "soft/abi/path_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace nd::soft {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;

using Entry = PathView::Entry;
using Kind = PathNode::Kind;
using LastLink = PathView::LastLink;

PathFacts Facts() {
  PathFacts facts;
  facts.name = "nd0";
  facts.uverbs_name = "uverbs0";
  facts.node_guid = 0x0011'2233'4455'6677;
  facts.firmware_version = "0.1";
  facts.netdev = "eth0";
  facts.gids = {
      {.raw = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0xff, 0xfe, 0, 0, 1},
       .type = "RoCE v2",
       .netdev = "eth0"},
      {},
      {.raw = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3},
       .type = "RoCE v2",
       .netdev = "eth0"}};
  return facts;
}

// Of a file; "no file" where there is none.
std::string Content(const PathView& view, std::string_view path) {
  const auto place = view.Find(path, LastLink::kFollow);
  if (!place || !place->node || place->node->kind != Kind::kFile) {
    return "no file";
  }
  return place->node->content;
}

class PathViewTest : public ::testing::Test {
 protected:
  const PathView view_{Facts()};
};

TEST_F(PathViewTest, SaysWhatTheDeviceIs) {
  const std::string device = "/sys/class/infiniband/nd0/";
  EXPECT_EQ(Content(view_, device + "node_type"), "1: CA\n");
  EXPECT_EQ(Content(view_, device + "node_guid"), "0011:2233:4455:6677\n");
  EXPECT_EQ(Content(view_, device + "fw_ver"), "0.1\n");
  const std::string verbs = "/sys/class/infiniband_verbs/";
  EXPECT_EQ(Content(view_, verbs + "abi_version"), "6\n");
  EXPECT_EQ(Content(view_, verbs + "uverbs0/ibdev"), "nd0\n");
  EXPECT_EQ(Content(view_, "/sys/class/misc/rdma_cm/abi_version"), "4\n");
}

TEST_F(PathViewTest, SaysWhatThePortIs) {
  const std::string port = "/sys/class/infiniband/nd0/ports/1/";
  EXPECT_EQ(Content(view_, port + "state"), "4: ACTIVE\n");
  EXPECT_EQ(Content(view_, port + "phys_state"), "5: LinkUp\n");
  EXPECT_EQ(Content(view_, port + "link_layer"), "Ethernet\n");
  EXPECT_EQ(Content(view_, port + "lid"), "0x0\n");
  EXPECT_EQ(Content(view_, port + "rate"), "100 Gb/sec (4X EDR)\n");
  EXPECT_EQ(Content(view_, port + "cap_mask"), "0x00010000\n");
  EXPECT_EQ(Content(view_, port + "pkeys/0"), "0xffff\n");
}

TEST_F(PathViewTest, APortThatIsDownSaysSo) {
  PathFacts facts = Facts();
  facts.port_is_active = false;
  const PathView view(facts);
  EXPECT_EQ(Content(view, "/sys/class/infiniband/nd0/ports/1/state"),
            "1: DOWN\n");
}

TEST_F(PathViewTest, GidsHaveATypeAndANetdevWhereTheyAreUsed) {
  const std::string port = "/sys/class/infiniband/nd0/ports/1/";
  EXPECT_EQ(Content(view_, port + "gids/0"),
            "fe80:0000:0000:0000:0200:00ff:fe00:0001\n");
  EXPECT_EQ(Content(view_, port + "gids/1"),
            "0000:0000:0000:0000:0000:0000:0000:0000\n");
  EXPECT_EQ(Content(view_, port + "gids/2"),
            "0000:0000:0000:0000:0000:ffff:0a01:0203\n");
  EXPECT_EQ(Content(view_, port + "gid_attrs/types/2"), "RoCE v2\n");
  EXPECT_EQ(Content(view_, port + "gid_attrs/ndevs/2"), "eth0\n");
  EXPECT_EQ(Content(view_, port + "gid_attrs/types/1"), "no file");
}

TEST_F(PathViewTest, ListsDirectories) {
  EXPECT_THAT(view_.List("/sys/class/infiniband"),
              ElementsAre(Entry{"nd0", Kind::kDirectory}));
  EXPECT_THAT(view_.List("/sys/class/infiniband/nd0"),
              IsSupersetOf({Entry{"device", Kind::kDirectory},
                            Entry{"node_guid", Kind::kFile},
                            Entry{"ports", Kind::kDirectory}}));
  EXPECT_THAT(view_.List("/dev/infiniband"),
              ElementsAre(Entry{"rdma_cm", Kind::kDevice},
                          Entry{"uverbs0", Kind::kDevice}));
  EXPECT_THAT(view_.List("/sys/class/infiniband/nd0/device/net"),
              ElementsAre(Entry{"eth0", Kind::kLink}));
}

TEST_F(PathViewTest, ADeviceWithoutAddressesHasEmptyTables) {
  PathFacts facts = Facts();
  facts.gids.clear();
  facts.netdev.clear();
  const PathView view(facts);
  const std::string device = "/sys/class/infiniband/nd0";
  EXPECT_TRUE(view.Find(device + "/ports/1/gids", LastLink::kKeep));
  EXPECT_THAT(view.List(device + "/ports/1/gids"), IsEmpty());
  EXPECT_TRUE(view.Find(device + "/device/net", LastLink::kKeep));
}

TEST_F(PathViewTest, FollowsLinksWithinTheTree) {
  const auto place =
      view_.Find("/sys/class/infiniband_verbs/uverbs0/device/infiniband/nd0/",
                 LastLink::kFollow);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->path, "/sys/class/infiniband/nd0");
}

TEST_F(PathViewTest, KeepsTheLastLinkWhenAsked) {
  const auto place =
      view_.Find("/sys/class/infiniband/nd0/device/net/eth0", LastLink::kKeep);
  ASSERT_TRUE(place && place->node);
  EXPECT_EQ(*place->node, (PathNode{Kind::kLink, "/sys/class/net/eth0"}));
}

TEST_F(PathViewTest, TheNetdevLeadsOutToTheKernels) {
  const auto place = view_.Find(
      "/sys/class/infiniband/nd0/device/net/eth0/address", LastLink::kFollow);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->path, "/sys/class/net/eth0/address");
  EXPECT_FALSE(place->node);
}

TEST_F(PathViewTest, PathsNeedNotBeTidy) {
  EXPECT_EQ(Content(view_, "/sys/class/infiniband//nd0/./ports/../node_type"),
            "1: CA\n");
}

TEST_F(PathViewTest, KnowsNothingElse) {
  for (const char* path :
       {"/sys/class/infiniband/mlx5_0", "/sys/class/infiniband/nd0/nothing",
        "/sys/class/net", "/dev/null", "/", ""}) {
    EXPECT_FALSE(view_.Find(path, LastLink::kFollow)) << path;
  }
}

TEST_F(PathViewTest, AllPathsHaveAKnownPrefix) {
  for (const char* path :
       {"/sys/class/infiniband_verbs", "/sys/class/misc/rdma_cm/abi_version",
        "/sys/class/infiniband/nd0", kRdmaCmPath}) {
    EXPECT_TRUE(view_.Find(path, LastLink::kKeep)) << path;
    EXPECT_TRUE(std::ranges::any_of(kPathViewPrefixes, [&](const char* prefix) {
      return std::string_view(path).starts_with(prefix);
    })) << path;
  }
}

}  // namespace
}  // namespace nd::soft
