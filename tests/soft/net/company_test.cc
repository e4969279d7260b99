#include "soft/net/company.h"

#include <gtest/gtest.h>

namespace nd::soft {
namespace {

constexpr Qpn kOne{1};
constexpr Qpn kOther{2};

TEST(Company, OneQueuePairHasNone) {
  Company company;
  Instant now{};
  for (int i = 0; i < 10; ++i) {
    company.OnPacket(kOne, now);
    EXPECT_FALSE(company.any(now));
    now += Company::kStay / 2;
  }
}

TEST(Company, StaysForAWhileAfterItsLastPacket) {
  Company company;
  Instant now{};
  company.OnPacket(kOne, now);
  company.OnPacket(kOther, now);
  EXPECT_TRUE(company.any(now));
  company.OnPacket(kOne, now);
  now += Company::kStay / 2;
  company.OnPacket(kOther, now);
  company.OnPacket(kOther, now + Company::kStay / 2);
  EXPECT_TRUE(company.any(now + Company::kStay - Duration(1)));
  EXPECT_FALSE(company.any(now + Company::kStay));
}

TEST(ShortMessages, AreForOthersFromTheFirstOneOn) {
  ShortMessages messages;
  const Instant now{};
  EXPECT_FALSE(messages.ForOthers(kOne, now));
  messages.OnMessage(kOther, now);
  EXPECT_TRUE(messages.ForOthers(kOne, now));
  EXPECT_FALSE(messages.ForOthers(kOther, now));
}

TEST(ShortMessages, OnesOwnHideNobodyElses) {
  ShortMessages messages;
  Instant now{};
  messages.OnMessage(kOther, now);
  now += ShortMessages::kStay / 2;
  messages.OnMessage(kOne, now);
  messages.OnMessage(kOne, now);
  EXPECT_TRUE(messages.ForOthers(kOne, now));
  EXPECT_TRUE(messages.ForOthers(kOther, now));
  now += ShortMessages::kStay / 2;
  EXPECT_FALSE(messages.ForOthers(kOne, now));
  EXPECT_TRUE(messages.ForOthers(kOther, now));
}

}  // namespace
}  // namespace nd::soft
