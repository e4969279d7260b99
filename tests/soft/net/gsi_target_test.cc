#include "soft/net/gsi_target.h"

#include <gtest/gtest.h>

#include <array>

#include "soft/net/bench.h"
#include "soft/net/network.h"
#include "soft/wire/mad.h"

namespace nd::soft {
namespace {

constexpr CommId kIdOfSlot5{5u << kCommIdIndexBits | 77};
constexpr CommId kIdOfSlot6{6u << kCommIdIndexBits | 77};

GsiTarget TargetOf(GsiRouter& router, const CmMessage& message,
                   uint64_t transaction_id) {
  std::array<std::byte, kMadBytes> bytes{};
  WriteCmMad({.transaction_id = transaction_id, .message = message}, bytes);
  return router.TargetOf(bytes);
}

GsiTarget TargetOf(const CmMessage& message) {
  GsiRouter router;
  return TargetOf(router, message, 1);
}

TEST(GsiTarget, RequestsGoToWhoHasTheService) {
  EXPECT_EQ(TargetOf(Request(kIdOfSlot5, 9)),
            GsiTarget(ServiceTarget{.service_id = 9}));
  EXPECT_EQ(TargetOf(CmSidrReq{.request_id = kIdOfSlot5, .service_id = 9}),
            GsiTarget(ServiceTarget{.service_id = 9}));
}

TEST(GsiTarget, AnswersGoToTheSlotOfTheIdTheyAreFor) {
  const GsiTarget slot = SlotTarget{.slot = 5};
  const auto to_slot_5 = [](auto message) {
    message.local_id = kIdOfSlot6;
    message.remote_id = kIdOfSlot5;
    return TargetOf(message);
  };
  EXPECT_EQ(to_slot_5(CmMra()), slot);
  EXPECT_EQ(to_slot_5(CmRej()), slot);
  EXPECT_EQ(to_slot_5(CmRep()), slot);
  EXPECT_EQ(to_slot_5(CmRtu()), slot);
  EXPECT_EQ(to_slot_5(CmDreq()), slot);
  EXPECT_EQ(to_slot_5(CmDrep()), slot);
  EXPECT_EQ(TargetOf(CmSidrRep{.request_id = kIdOfSlot5}), slot);
}

TEST(GsiTarget, WhatIsForNoIdIsForNobody) {
  EXPECT_EQ(TargetOf(CmRej{.local_id = kIdOfSlot5}), GsiTarget(NobodyTarget()));
}

TEST(GsiTarget, WhatTakesARequestBackFollowsIt) {
  GsiRouter router;
  TargetOf(router, Request(kIdOfSlot5, 9), 7);
  const CmRej rej{.local_id = kIdOfSlot5};
  EXPECT_EQ(TargetOf(router, rej, 7),
            GsiTarget(ServiceTarget{.service_id = 9}));
  EXPECT_EQ(TargetOf(router, rej, 8), GsiTarget(NobodyTarget()));
  EXPECT_EQ(TargetOf(router, CmRej{.local_id = kIdOfSlot6}, 7),
            GsiTarget(NobodyTarget()));
}

TEST(GsiTarget, RequestsOfLongAgoAreForgotten) {
  GsiRouter router;
  for (uint64_t i = 0; i <= 1024; ++i) {
    TargetOf(router, Request(kIdOfSlot5, 9), i);
  }
  const CmRej rej{.local_id = kIdOfSlot5};
  EXPECT_EQ(TargetOf(router, rej, 0), GsiTarget(NobodyTarget()));
  EXPECT_EQ(TargetOf(router, rej, 1024),
            GsiTarget(ServiceTarget{.service_id = 9}));
}

TEST(GsiTarget, WhatIsNoMessageIsForNobody) {
  GsiRouter router;
  std::array<std::byte, kMadBytes> bytes{};
  EXPECT_EQ(router.TargetOf(bytes), GsiTarget(NobodyTarget()));
  EXPECT_EQ(router.TargetOf({}), GsiTarget(NobodyTarget()));
}

}  // namespace
}  // namespace nd::soft
