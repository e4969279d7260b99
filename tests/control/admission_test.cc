#include "control/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

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

TEST_F(AdmissionTest, ClosedDoorRefusesEverybody) {
  ASSERT_TRUE(admission_.Invite(token_, 1, kNow).ok());
  admission_.Close();
  EXPECT_EQ(Ask(token_, 0), Admission::Decision(RejectReason::kShuttingDown));
  EXPECT_EQ(admission_.Invite(SomeToken(2), 1, kNow).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace nd::control
