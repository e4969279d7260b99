#include "control/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace nd::control {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

Token SomeToken(uint64_t seed) {
  SeededRandom random(seed);
  return Token::Generate(random);
}

constexpr Instant kNow{seconds(1000)};

class AdmissionTest : public ::testing::Test {
 protected:
  Admission::Decision Ask(const Token& token, uint32_t index,
                          Instant now = kNow) {
    return admission_.Decide(
        ConnectHello{.token = token, .index = index}.Encode(), now);
  }

  Admission admission_{{.token_lifetime = seconds(30), .max_invitations = 2}};
  const Token token_ = SomeToken(1);
};

TEST_F(AdmissionTest, GuestIsLetInOnceForEachIndex) {
  const Admission::Id id = *admission_.Invite(token_, 2, kNow);
  EXPECT_EQ(Ask(token_, 1), Admission::Decision(Admission::Admitted{id, 1}));
  EXPECT_EQ(Ask(token_, 0), Admission::Decision(Admission::Admitted{id, 0}));
  EXPECT_EQ(Ask(token_, 0), Admission::Decision(RejectReason::kUsedToken));
}

TEST_F(AdmissionTest, IndexBeyondTheAgreedIsRefused) {
  ASSERT_TRUE(admission_.Invite(token_, 2, kNow).ok());
  EXPECT_EQ(Ask(token_, 2), Admission::Decision(RejectReason::kBadIndex));
}

TEST_F(AdmissionTest, StrangersAreRefused) {
  ASSERT_TRUE(admission_.Invite(token_, 2, kNow).ok());
  EXPECT_EQ(Ask(SomeToken(2), 0),
            Admission::Decision(RejectReason::kUnknownToken));
}

TEST_F(AdmissionTest, ZeroTokenIsAStranger) {
  ASSERT_TRUE(admission_.Invite(token_, 2, kNow).ok());
  EXPECT_EQ(Ask(Token(), 0), Admission::Decision(RejectReason::kUnknownToken));
}

TEST_F(AdmissionTest, OtherPrivateDataIsRefused) {
  EXPECT_EQ(admission_.Decide({}, kNow),
            Admission::Decision(RejectReason::kNoHello));
}

TEST_F(AdmissionTest, EachGuestHasHisOwnInvitation) {
  const Admission::Id first = *admission_.Invite(token_, 1, kNow);
  const Admission::Id second = *admission_.Invite(SomeToken(2), 1, kNow);
  EXPECT_NE(first, second);
  EXPECT_EQ(Ask(SomeToken(2), 0),
            Admission::Decision(Admission::Admitted{second, 0}));
  EXPECT_EQ(Ask(token_, 0), Admission::Decision(Admission::Admitted{first, 0}));
}

TEST_F(AdmissionTest, InvitationExpires) {
  ASSERT_TRUE(admission_.Invite(token_, 1, kNow).ok());
  EXPECT_EQ(Ask(token_, 0, kNow + seconds(30)),
            Admission::Decision(RejectReason::kUnknownToken));
}

TEST_F(AdmissionTest, EachUseRenewsTheInvitation) {
  const Admission::Id id = *admission_.Invite(token_, 3, kNow);
  ASSERT_EQ(Ask(token_, 0, kNow + seconds(29)),
            Admission::Decision(Admission::Admitted{id, 0}));
  EXPECT_EQ(Ask(token_, 1, kNow + seconds(58)),
            Admission::Decision(Admission::Admitted{id, 1}));
  EXPECT_EQ(Ask(token_, 2, kNow + seconds(88)),
            Admission::Decision(RejectReason::kUnknownToken));
}

TEST_F(AdmissionTest, RefusedRequestsDoNotRenewIt) {
  ASSERT_TRUE(admission_.Invite(token_, 1, kNow).ok());
  ASSERT_EQ(Ask(token_, 5, kNow + seconds(29)),
            Admission::Decision(RejectReason::kBadIndex));
  EXPECT_EQ(Ask(token_, 0, kNow + seconds(30)),
            Admission::Decision(RejectReason::kUnknownToken));
}

TEST_F(AdmissionTest, WithdrawnInvitationIsUnknown) {
  const Admission::Id id = *admission_.Invite(token_, 1, kNow);
  admission_.Withdraw(id);
  EXPECT_EQ(Ask(token_, 0), Admission::Decision(RejectReason::kUnknownToken));
}

TEST_F(AdmissionTest, InvitationsAreLimited) {
  const Admission::Id id = *admission_.Invite(token_, 1, kNow);
  ASSERT_TRUE(admission_.Invite(SomeToken(2), 1, kNow).ok());
  const absl::StatusOr<Admission::Id> third =
      admission_.Invite(SomeToken(3), 1, kNow);
  EXPECT_EQ(third.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(third.status().message()), HasSubstr("2"));
  admission_.Withdraw(id);
  EXPECT_TRUE(admission_.Invite(SomeToken(3), 1, kNow).ok());
}

class LinkAdmissionTest : public AdmissionTest {
 protected:
  using Decision = Admission::Decision;
  using AdmittedLink = Admission::AdmittedLink;

  absl::Status Invite(uint64_t token, uint64_t session,
                      const std::vector<LinkId>& links, Instant now = kNow) {
    return admission_.InviteLinks(SomeToken(token), session, links, now);
  }
  Decision AskLink(uint64_t token, uint64_t session, LinkId link,
                   Instant now = kNow) {
    return admission_.Decide(
        LinkHello{.token = SomeToken(token), .session = session, .link = link}
            .Encode(),
        now);
  }
};

TEST_F(LinkAdmissionTest, EachLinkIsLetInOnce) {
  ASSERT_TRUE(Invite(1, 5, {{0, 0}, {1, 3}}).ok());
  EXPECT_EQ(AskLink(1, 5, {1, 3}), Decision(AdmittedLink{5, {1, 3}}));
  EXPECT_EQ(AskLink(1, 5, {0, 0}), Decision(AdmittedLink{5, {0, 0}}));
  EXPECT_EQ(AskLink(1, 5, {0, 0}), Decision(RejectReason::kUsedToken));
}

TEST_F(LinkAdmissionTest, LinksAndIncarnationsThatWereNotAgreedAreRefused) {
  ASSERT_TRUE(Invite(1, 5, {{0, 1}}).ok());
  EXPECT_EQ(AskLink(1, 5, {1, 1}), Decision(RejectReason::kBadIndex));
  EXPECT_EQ(AskLink(1, 5, {0, 0}), Decision(RejectReason::kBadIndex));
  EXPECT_EQ(AskLink(1, 5, {0, 2}), Decision(RejectReason::kBadIndex));
}

TEST_F(LinkAdmissionTest, TokenIsGoodForItsSessionOnly) {
  ASSERT_TRUE(Invite(1, 5, {{0, 0}}).ok());
  EXPECT_EQ(AskLink(1, 6, {0, 0}), Decision(RejectReason::kOtherSession));
  EXPECT_EQ(AskLink(2, 5, {0, 0}), Decision(RejectReason::kUnknownToken));
}

TEST_F(LinkAdmissionTest, TokensByIndexAndForLinksAreNotExchangeable) {
  ASSERT_TRUE(Invite(1, 5, {{0, 0}}).ok());
  ASSERT_TRUE(admission_.Invite(SomeToken(2), 1, kNow).ok());
  EXPECT_EQ(Ask(SomeToken(1), 0), Decision(RejectReason::kBadIndex));
  EXPECT_EQ(AskLink(2, 0, {0, 0}), Decision(RejectReason::kOtherSession));
}

TEST_F(LinkAdmissionTest, UnknownVersionIsRefusedAsSuch) {
  ASSERT_TRUE(Invite(1, 5, {{0, 0}}).ok());
  const LinkHello hello{
      .version = 2, .token = SomeToken(1), .session = 5, .link = {0, 0}};
  EXPECT_EQ(admission_.Decide(hello.Encode(), kNow),
            Decision(RejectReason::kUnknownVersion));
}

TEST_F(LinkAdmissionTest, ExpiresAndIsRenewedByUse) {
  ASSERT_TRUE(Invite(1, 5, {{0, 0}, {1, 0}, {2, 0}}).ok());
  EXPECT_EQ(AskLink(1, 5, {0, 0}, kNow + seconds(29)),
            Decision(AdmittedLink{5, {0, 0}}));
  EXPECT_EQ(AskLink(1, 5, {1, 0}, kNow + seconds(58)),
            Decision(AdmittedLink{5, {1, 0}}));
  EXPECT_EQ(AskLink(1, 5, {2, 0}, kNow + seconds(88)),
            Decision(RejectReason::kUnknownToken));
}

TEST_F(LinkAdmissionTest, LaterTokenVoidsTheEarlierOneForItsLinks) {
  ASSERT_TRUE(Invite(1, 5, {{0, 0}, {1, 0}}).ok());
  ASSERT_TRUE(Invite(2, 5, {{0, 1}}).ok());
  EXPECT_EQ(AskLink(1, 5, {0, 0}), Decision(RejectReason::kOldIncarnation));
  EXPECT_EQ(AskLink(1, 5, {1, 0}), Decision(AdmittedLink{5, {1, 0}}));
  EXPECT_EQ(AskLink(2, 5, {0, 1}), Decision(AdmittedLink{5, {0, 1}}));
}

TEST_F(LinkAdmissionTest, LaterTokenOfAnotherSessionVoidsNothing) {
  ASSERT_TRUE(Invite(1, 5, {{0, 0}}).ok());
  ASSERT_TRUE(Invite(2, 6, {{0, 1}}).ok());
  EXPECT_EQ(AskLink(1, 5, {0, 0}), Decision(AdmittedLink{5, {0, 0}}));
}

TEST_F(LinkAdmissionTest, WithdrawnSessionIsLetInByNoToken) {
  ASSERT_TRUE(Invite(1, 5, {{0, 0}}).ok());
  ASSERT_TRUE(Invite(2, 5, {{1, 0}}).ok());
  admission_.WithdrawLinks(5);
  EXPECT_EQ(AskLink(1, 5, {0, 0}), Decision(RejectReason::kUnknownToken));
  EXPECT_EQ(AskLink(2, 5, {1, 0}), Decision(RejectReason::kUnknownToken));
}

TEST_F(LinkAdmissionTest, WhatIsUsedUpMakesRoom) {
  ASSERT_TRUE(Invite(1, 5, {{0, 0}}).ok());
  ASSERT_TRUE(Invite(2, 6, {{0, 0}}).ok());
  EXPECT_EQ(Invite(3, 7, {{0, 0}}).code(),
            absl::StatusCode::kResourceExhausted);
  ASSERT_EQ(AskLink(1, 5, {0, 0}), Decision(AdmittedLink{5, {0, 0}}));
  EXPECT_TRUE(Invite(3, 7, {{0, 0}}).ok());
  EXPECT_EQ(AskLink(2, 6, {0, 0}), Decision(AdmittedLink{6, {0, 0}}));
}

TEST_F(LinkAdmissionTest, WhatHasExpiredMakesRoom) {
  ASSERT_TRUE(Invite(1, 5, {{0, 0}}).ok());
  ASSERT_TRUE(Invite(2, 6, {{0, 0}}, kNow + seconds(1)).ok());
  EXPECT_FALSE(Invite(3, 7, {{0, 0}}, kNow + seconds(29)).ok());
  EXPECT_TRUE(Invite(3, 7, {{0, 0}}, kNow + seconds(30)).ok());
}

TEST_F(LinkAdmissionTest, InvitationsByIndexMakeNoRoomByThemselves) {
  ASSERT_TRUE(admission_.Invite(SomeToken(1), 1, kNow).ok());
  ASSERT_TRUE(admission_.Invite(SomeToken(2), 1, kNow).ok());
  EXPECT_FALSE(Invite(3, 7, {{0, 0}}, kNow + seconds(60)).ok());
}

TEST_F(LinkAdmissionTest, ClosedDoorRefusesLinksToo) {
  ASSERT_TRUE(Invite(1, 5, {{0, 0}}).ok());
  admission_.Close();
  EXPECT_EQ(AskLink(1, 5, {0, 0}), Decision(RejectReason::kShuttingDown));
  EXPECT_TRUE(absl::IsUnavailable(Invite(2, 6, {{0, 0}})));
}

TEST_F(AdmissionTest, ClosedDoorRefusesEverybody) {
  ASSERT_TRUE(admission_.Invite(token_, 1, kNow).ok());
  admission_.Close();
  EXPECT_EQ(Ask(token_, 0), Admission::Decision(RejectReason::kShuttingDown));
  EXPECT_EQ(admission_.Invite(SomeToken(2), 1, kNow).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace nd::control
