#include "ndping/local/devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ndping/host_model.h"

namespace nd::ndping {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Devices, AreATableOfPortsAndGids) {
  DeviceDescription device = RxeDevice();
  device.ports[0].gids.push_back(Ipv4Gid(2, {10, 98, 1, 1}, "veth0"));
  EXPECT_EQ(
      FormatDevices({device}, /*verbose=*/false),
      "DEVICE  PORT  STATE        LINK LAYER  MTU   MAX MTU  GID  TYPE     "
      "NETDEV  ADDRESS\n"
      "rxe0    1     PORT_ACTIVE  Ethernet    4096  4096     1    RoCE v2  "
      "veth0   10.98.0.1\n"
      "                                                      2    RoCE v2  "
      "veth0   10.98.1.1\n");
}

TEST(Devices, ShowEveryLimitWhenVerbose) {
  EXPECT_THAT(FormatDevices({RxeDevice()}, /*verbose=*/false),
              Not(HasSubstr("max_qp")));
  const std::string text = FormatDevices({RxeDevice()}, /*verbose=*/true);
  EXPECT_THAT(text,
              HasSubstr("node_guid                  0098:00ff:fe98:0001"));
  EXPECT_THAT(text, HasSubstr("max_qp                     1024\n"));
  EXPECT_THAT(text, HasSubstr("device_cap_flags           0x0\n"));
}

TEST(Devices, ThatCannotBeOpenedSayWhy) {
  DeviceDescription device = RxeDevice();
  device.status = absl::PermissionDeniedError("ibv_open_device: not yours");
  EXPECT_THAT(FormatDevices({device}, /*verbose=*/true),
              HasSubstr("rxe0: ibv_open_device: not yours\n"));
  EXPECT_EQ(ToJson(std::vector{device})[0]["error"],
            "ibv_open_device: not yours");
}

TEST(Devices, OfAHostThatHasNonePointToTheDoctor) {
  EXPECT_THAT(FormatDevices({}, false), HasSubstr("ndping doctor"));
  EXPECT_EQ(ToJson(std::vector<DeviceDescription>()).dump(), "[]");
}

TEST(Devices, AreJsonWithAllLimits) {
  const auto json = ToJson(std::vector{RxeDevice()});
  EXPECT_EQ(json[0]["name"], "rxe0");
  EXPECT_EQ(json[0]["limits"]["max_qp"], 1024);
  EXPECT_EQ(json[0]["limits"]["max_mr_size"], ~uint64_t{0});
  EXPECT_EQ(json[0]["ports"][0]["active_mtu"], 4096);
  EXPECT_EQ(json[0]["ports"][0]["gids"][0]["address"], "10.98.0.1");
  EXPECT_EQ(json[0]["ports"][0]["gids"][0]["type"], "RoCE v2");
}

}  // namespace
}  // namespace nd::ndping
