#include "soft/device/gid_table.h"

#include <gtest/gtest.h>

#include "soft/device/device_world.h"

namespace nd::soft {
namespace {

GidEntry Entry(uint8_t last) {
  return {.gid = WorldGid(last), .interface_index = 2, .interface = "eth0"};
}

TEST(GidTable, WhatStaysKeepsItsPlaceAndWhatGoesLeavesItEmpty) {
  const HostAddresses table{.gids = {Entry(1), Entry(2), Entry(3)}};
  const HostAddresses updated = Updated(table, {.gids = {Entry(3), Entry(1)}});
  EXPECT_EQ(updated.gids,
            (std::vector<GidEntry>{Entry(1), GidEntry(), Entry(3)}));
  EXPECT_EQ(updated.addresses(), (std::vector<Gid>{WorldGid(1), WorldGid(3)}));
}

TEST(GidTable, NewAddressesComeIntoEmptyPlacesAndBehind) {
  const HostAddresses table{.gids = {Entry(1), GidEntry(), Entry(3)}};
  const HostAddresses updated =
      Updated(table, {.gids = {Entry(5), Entry(4), Entry(3), Entry(1)}});
  EXPECT_EQ(updated.gids,
            (std::vector<GidEntry>{Entry(1), Entry(5), Entry(3), Entry(4)}));
}

class AddressesTest : public testing::Test {
 protected:
  AddressesTest() {
    HostAddresses host = *world.client.device->host();
    host.gids.push_back(Entry(7));
    world.client.device->SetAddresses(host);
    host.gids.erase(host.gids.begin());
    world.client.device->SetAddresses(host);
  }

  ibv_ah_attr To(uint8_t index) const {
    ibv_ah_attr attr{};
    attr.is_global = 1;
    attr.port_num = 1;
    attr.grh.sgid_index = index;
    std::ranges::copy(WorldGid(2), attr.grh.dgid.raw);
    return attr;
  }

  DeviceWorld world;
};

TEST_F(AddressesTest, EachChangeOfTheTableIsToldOnce) {
  EXPECT_EQ(world.client.Events(),
            (std::vector<ibv_event_type>(2, IBV_EVENT_GID_CHANGE)));
  world.client.device->SetAddresses({.gids = {Entry(7)}});
  EXPECT_TRUE(world.client.Events().empty());
}

TEST_F(AddressesTest, PathsBeginAtNewAddressesAndNotAtThoseThatAreGone) {
  EXPECT_EQ(world.client.device->GidIndex(WorldGid(7)), 1);
  ASSERT_TRUE(world.client.device->PathOf(To(1)));
  EXPECT_EQ(world.client.device->PathOf(To(1))->source, WorldGid(7));
  EXPECT_FALSE(world.client.device->IsLocal(world.client.gid));
  EXPECT_FALSE(world.client.device->PathOf(To(0)));
  EXPECT_FALSE(world.client.device->IsLocal(Gid{}));
}

}  // namespace
}  // namespace nd::soft
