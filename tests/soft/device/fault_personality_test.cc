// Devices that the soft device can be taken for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "soft/device/device_world.h"
#include "soft/device/personality.h"

namespace nd::soft {
namespace {

using testing::HasSubstr;

TEST(Personality, UnknownNameSaysWhichThereAre) {
  const auto limits = PersonalityLimits("mlx6");
  ASSERT_TRUE(absl::IsInvalidArgument(limits.status()));
  EXPECT_THAT(std::string(limits.status().message()),
              HasSubstr("'mlx6': no such device; there are minimal"));
}

TEST(Personality, WithoutANameTheDeviceIsItself) {
  EXPECT_EQ(PersonalityLimits("")->max_sges, Limits{}.max_sges);
  EXPECT_EQ(PersonalityLimits("")->max_cqes, Limits{}.max_cqes);
}

TEST(Personality, EachHasItsLimits) {
  EXPECT_EQ(PersonalityLimits("minimal")->max_inline, 0u);
  EXPECT_EQ(PersonalityLimits("rxe")->max_inline, 512u);
  EXPECT_EQ(PersonalityLimits("mlx5")->max_sges, 30u);
  EXPECT_EQ(PersonalityLimits("minimal")->max_groups, 0u);
  EXPECT_EQ(PersonalityLimits("rxe")->max_group_qps, 56u);
}

TEST(Personality, WhatItLacksIsNotServed) {
  FakeClock clock;
  SeededRandom random(1);
  Device device({.limits = *PersonalityLimits("minimal"),
                 .host = {.gids = {{.gid = WorldGid(1), .interface = "eth0"}},
                          .guid = 1}},
                std::make_unique<WireEnd>(1), clock, random);
  const auto srq = device.CreateSrq({.pd = *device.AllocatePd()});
  EXPECT_TRUE(absl::IsUnimplemented(srq.status()));
  EXPECT_FALSE(device.CreateCq(1024, nullptr, nullptr).ok());
  EXPECT_TRUE(device.CreateCq(1023, nullptr, nullptr).ok());
}

}  // namespace
}  // namespace nd::soft
