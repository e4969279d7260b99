#include "ndping/harness/peer_message.h"

#include <gtest/gtest.h>

#include <vector>

namespace nd::ndping {
namespace {

bool AllAccepted(const std::vector<PeerMessage>& messages) {
  PeerOrder order;
  for (const PeerMessage& message : messages) {
    if (!order.Accept(message)) return false;
  }
  return true;
}

TEST(PeerOrder, FollowsTheChartOfAClient) {
  EXPECT_TRUE(
      AllAccepted({v1::Open(), v1::Layout(), v1::StartPhase(), v1::PhaseDone(),
                   v1::StartPhase(), v1::PhaseDone()}));
}

TEST(PeerOrder, FollowsTheChartOfAServer) {
  EXPECT_TRUE(
      AllAccepted({v1::Opened(), v1::Layout(), v1::PhaseReady(),
                   v1::PhaseDone(), v1::PhaseReport(), v1::PhaseReady()}));
}

TEST(PeerOrder, FailureComesWhenItWants) {
  EXPECT_TRUE(AllAccepted({v1::Failure()}));
  EXPECT_TRUE(AllAccepted({v1::Open(), v1::Failure(), v1::Layout()}));
}

TEST(PeerOrder, AnythingElseIsOutOfOrder) {
  EXPECT_FALSE(AllAccepted({v1::Layout()}));
  EXPECT_FALSE(AllAccepted({v1::StartPhase()}));
  EXPECT_FALSE(AllAccepted({v1::Open(), v1::Open()}));
  EXPECT_FALSE(AllAccepted({v1::Open(), v1::StartPhase()}));
  EXPECT_FALSE(AllAccepted({v1::Open(), v1::Layout(), v1::Layout()}));
  EXPECT_FALSE(AllAccepted({v1::Open(), v1::Layout(), v1::PhaseDone()}));
  EXPECT_FALSE(AllAccepted(
      {v1::Open(), v1::Layout(), v1::StartPhase(), v1::StartPhase()}));
  EXPECT_FALSE(AllAccepted(
      {v1::Opened(), v1::Layout(), v1::PhaseReady(), v1::PhaseReport()}));
  EXPECT_FALSE(AllAccepted({PeerMessage()}));
}

TEST(PeerOrder, ARefusedMessageChangesNothing) {
  PeerOrder order;
  EXPECT_EQ(order.last(), "nothing");
  EXPECT_TRUE(order.Accept(v1::Open()));
  EXPECT_FALSE(order.Accept(v1::PhaseDone()));
  EXPECT_EQ(order.last(), "Open");
  EXPECT_TRUE(order.Accept(v1::Layout()));
}

class OverTheWire : public ::testing::TestWithParam<PeerMessage> {};

TEST_P(OverTheWire, RequestStaysWhatItIs) {
  EXPECT_EQ(FromRequest(ToRequest(GetParam())).index(), GetParam().index());
}
INSTANTIATE_TEST_SUITE_P(Client, OverTheWire,
                         ::testing::Values(v1::Open(), v1::Layout(),
                                           v1::StartPhase(), v1::PhaseDone(),
                                           v1::Failure()));

class OverTheWireBack : public ::testing::TestWithParam<PeerMessage> {};

TEST_P(OverTheWireBack, ResponseStaysWhatItIs) {
  EXPECT_EQ(FromResponse(ToResponse(GetParam())).index(), GetParam().index());
}
INSTANTIATE_TEST_SUITE_P(Server, OverTheWireBack,
                         ::testing::Values(v1::Opened(), v1::Layout(),
                                           v1::PhaseReady(), v1::PhaseDone(),
                                           v1::PhaseReport()));

TEST(PeerMessage, OfANewerVersionIsEmpty) {
  EXPECT_EQ(FromRequest(v1::RunRequest()).index(), 0u);
  EXPECT_EQ(MessageName(PeerMessage()), "an unknown message");
}

}  // namespace
}  // namespace nd::ndping
