#include "ndping/harness/findings.h"

#include <gtest/gtest.h>

namespace nd::ndping {
namespace {

const absl::Status kFlushed = absl::AbortedError("qp 0: flushed");
const absl::Status kLost = absl::UnavailableError("qp 0: disconnected");
const absl::Status kRemoved = absl::UnavailableError("rxe0 was removed");

class FindingsTest : public ::testing::Test {
 protected:
  Findings findings_{"server S"};
};

TEST_F(FindingsTest, NothingIsFoundAtFirst) {
  EXPECT_FALSE(findings_.any());
  EXPECT_FALSE(findings_.final());
  EXPECT_FALSE(findings_.Local().has_value());
}

TEST_F(FindingsTest, DataFailureAloneIsTheCause) {
  findings_.DataFailed(kFlushed);
  EXPECT_EQ(findings_.Cause(), kFlushed);
  EXPECT_FALSE(findings_.final());
}

TEST_F(FindingsTest, LostConnectionExplainsFailedRequests) {
  findings_.DataFailed(kFlushed);
  findings_.ConnectionLost(kLost);
  EXPECT_EQ(findings_.Cause(), kLost);
}

TEST_F(FindingsTest, FirstWordOfASourceCounts) {
  findings_.ConnectionLost(kRemoved);
  findings_.ConnectionLost(kLost);
  EXPECT_EQ(findings_.Cause(), kRemoved);
}

TEST_F(FindingsTest, VanishedPeerExplainsAllElse) {
  findings_.DataFailed(kFlushed);
  findings_.ConnectionLost(kLost);
  findings_.PeerVanished("Socket closed");
  EXPECT_TRUE(findings_.final());
  EXPECT_EQ(findings_.Cause(),
            absl::UnavailableError("server S vanished: Socket closed"));
}

TEST_F(FindingsTest, PeersWordIsMarkedAsItsWord) {
  findings_.PeerSaid(kRemoved);
  EXPECT_EQ(findings_.Cause(),
            absl::UnavailableError("server S: rxe0 was removed"));
  EXPECT_FALSE(findings_.Local().has_value());
  EXPECT_FALSE(findings_.both());
}

TEST_F(FindingsTest, BothSidesAreTold) {
  findings_.DataFailed(kFlushed);
  findings_.PeerSaid(kRemoved);
  EXPECT_TRUE(findings_.both());
  EXPECT_EQ(
      findings_.Cause(),
      absl::AbortedError("qp 0: flushed; server S says: rxe0 was removed"));
  EXPECT_EQ(findings_.Local(), kFlushed);
}

TEST_F(FindingsTest, WhatBreaksBecauseThePeerEndedIsNoFinding) {
  findings_.PeerEnded(kRemoved);
  findings_.ConnectionLost(kLost);
  findings_.DataFailed(kFlushed);
  EXPECT_TRUE(findings_.final());
  EXPECT_EQ(findings_.Cause(),
            absl::UnavailableError("server S: rxe0 was removed"));
}

TEST_F(FindingsTest, PeerThatDoesNotAnswerIsNamed) {
  findings_.ConnectionLost(kLost);
  findings_.PeerMute();
  EXPECT_EQ(
      findings_.Cause(),
      absl::UnavailableError("qp 0: disconnected; server S does not answer"));
}

TEST_F(FindingsTest, OwnVerdictIsFinal) {
  findings_.Decide(absl::DeadlineExceededError("server S is silent"));
  findings_.PeerVanished("");
  findings_.PeerSaid(kRemoved);
  EXPECT_EQ(findings_.Cause(),
            absl::DeadlineExceededError("server S is silent"));
}

TEST_F(FindingsTest, VerdictAfterThePeerVanishedIsNone) {
  findings_.PeerVanished("");
  findings_.Decide(absl::DeadlineExceededError("server S is silent"));
  EXPECT_EQ(findings_.Cause(), absl::UnavailableError("server S vanished"));
}

}  // namespace
}  // namespace nd::ndping
