#include "soft/cm/sidr.h"

#include <gtest/gtest.h>

#include <vector>

#include "soft/cm/two_ends.h"

namespace nd::soft {
namespace {

using std::chrono::milliseconds;

class SidrTest : public TwoEnds {
 protected:
  void ListenUdp() {
    listener = server.cm.Listen(
        {.space = PortSpace::kUdp, .local = {.port = kPort}, .backlog = 2});
  }
  void Ask() {
    requester = *client.cm.Resolve({.endpoints = ConnectOptions().endpoints},
                                   now, client.out);
    question = client.Take<CmSidrReq>();
  }
  void HearQuestion() {
    ListenUdp();
    Ask();
    SayToServer(question);
    acceptor = server.TakeEvent().handle;
  }
  void Answer() {
    HearQuestion();
    ASSERT_TRUE(server.cm
                    .AcceptLookUp(acceptor,
                                  {.qpn = kServerQpn, .qkey = Qkey(0x99)}, now,
                                  server.out)
                    .ok());
    answer = server.Take<CmSidrRep>();
  }

  CmSidrReq question;
  CmSidrRep answer;
};

TEST_F(SidrTest, FindsTheQp) {
  Answer();
  SayToClient(answer);
  const CmEvent event = client.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kEstablished);
  EXPECT_EQ(event.handle, requester);
  EXPECT_EQ(event.peer.qpn, kServerQpn);
  EXPECT_EQ(event.peer.qkey, Qkey(0x99));
  EXPECT_FALSE(client.cm.NextDeadline());
}

TEST_F(SidrTest, QuestionTellsWhoAsked) {
  ListenUdp();
  Ask();
  SayToServer(question);
  const CmEvent event = server.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kConnectRequest);
  EXPECT_EQ(event.listener, listener);
  EXPECT_EQ(event.endpoints, ConnectOptions().endpoints);
  EXPECT_EQ(event.private_data.size(), kSidrReqUserBytes);
}

TEST_F(SidrTest, AsksInThePortSpaceOfItsChoice) {
  ASSERT_TRUE(client.cm
                  .Resolve({.space = PortSpace::kIb,
                            .endpoints = ConnectOptions().endpoints},
                           now, client.out)
                  .ok());
  EXPECT_EQ(client.Take<CmSidrReq>().service_id,
            ServiceId(PortSpace::kIb, kPort));
}

TEST_F(SidrTest, NobodyListens) {
  Listen();
  Ask();
  SayToServer(question);
  Deliver(server, client);
  const CmEvent event = client.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kUnreachable);
  EXPECT_EQ(event.sidr_status, 1);
  EXPECT_FALSE(event.timed_out);
}

TEST_F(SidrTest, RejectedQuestion) {
  HearQuestion();
  const std::vector<uint8_t> why(136, 4);
  ASSERT_TRUE(server.cm.Reject(acceptor, why, now, server.out).ok());
  Deliver(server, client);
  const CmEvent event = client.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kUnreachable);
  EXPECT_EQ(event.sidr_status, 2);
  EXPECT_EQ(event.private_data, why);
}

TEST_F(SidrTest, DestroyedQuestionIsRejected) {
  HearQuestion();
  ASSERT_TRUE(server.cm.Destroy(acceptor, now, server.out).ok());
  EXPECT_EQ(server.Take<CmSidrRep>().status, 2);
}

TEST_F(SidrTest, ForgedSourceIsRejected) {
  ListenUdp();
  Ask();
  SayToServer(question, Ipv4(66));
  EXPECT_EQ(server.Take<CmSidrRep>().status, 2);
}

TEST_F(SidrTest, QuestionIsRepeatedUntilUnreachable) {
  Ask();
  for (int repeat = 0; repeat < 15; ++repeat) {
    EXPECT_EQ(WaitForTimer(client), milliseconds(4096));
    EXPECT_EQ(client.Take<CmSidrReq>(), question);
  }
  WaitForTimer(client);
  const CmEvent event = client.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kUnreachable);
  EXPECT_TRUE(event.timed_out);
  EXPECT_FALSE(client.cm.NextDeadline());
}

TEST_F(SidrTest, QuestionAgainIsOneQuestion) {
  HearQuestion();
  SayToServer(question);
  EXPECT_TRUE(server.Silent());
}

TEST_F(SidrTest, QuestionAgainGetsTheSameAnswer) {
  Answer();
  SayToServer(question);
  EXPECT_EQ(server.Take<CmSidrRep>(), answer);
  EXPECT_TRUE(server.Silent());
}

TEST_F(SidrTest, AnswerIsForgottenAfterAWhile) {
  Answer();
  ASSERT_TRUE(server.cm.Destroy(acceptor, now, server.out).ok());
  EXPECT_EQ(server.cm.size(), 1u);
  WaitForTimer(server);
  EXPECT_EQ(server.cm.size(), 0u);
  EXPECT_TRUE(server.Silent());
}

TEST_F(SidrTest, AnswersOnce) {
  Answer();
  EXPECT_EQ(server.cm.AcceptLookUp(acceptor, {}, now, server.out).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(server.cm.Reject(acceptor, {}, now, server.out).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(server.Silent());
}

TEST_F(SidrTest, AnswerOfAnotherIsIgnored) {
  Answer();
  SayToClient(answer, Ipv4(66));
  EXPECT_TRUE(client.Silent());
}

TEST_F(SidrTest, SecondAnswerIsIgnored) {
  Answer();
  SayToClient(answer);
  client.TakeEvent();
  SayToClient(answer);
  EXPECT_TRUE(client.Silent());
}

TEST_F(SidrTest, DestroyedLookUpIsForgotten) {
  Answer();
  ASSERT_TRUE(client.cm.Destroy(requester, now, client.out).ok());
  SayToClient(answer);
  EXPECT_TRUE(client.Silent());
  EXPECT_EQ(client.cm.size(), 0u);
  EXPECT_FALSE(client.cm.NextDeadline());
}

TEST_F(SidrTest, BacklogCountsQuestions) {
  HearQuestion();
  Ask();
  SayToServer(question);
  server.TakeEvent();
  Ask();
  SayToServer(question);
  EXPECT_TRUE(server.Silent());
  server.cm.RequestFetched(acceptor);
  SayToServer(question);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kConnectRequest);
}

TEST_F(SidrTest, QuestionsAreLimitedAsConnectionsAre) {
  End small(2, {.max_connections = 1}, 3);
  small.cm.Listen({.space = PortSpace::kUdp, .local = {.port = kPort}});
  for (int i = 0; i < 3; ++i) {
    Ask();
    small.cm.HandleMad({.source = kClientIp,
                        .destination = kServerIp,
                        .mad = {.message = question}},
                       now, small.out);
  }
  EXPECT_EQ(small.cm.size(), 1u);
  EXPECT_EQ(small.out.events.size(), 1u);
  const auto resolved = small.cm.Resolve(
      {.endpoints = ConnectOptions().endpoints}, now, small.out);
  EXPECT_EQ(resolved.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(SidrTest, QuestionIsDestroyedOnce) {
  HearQuestion();
  ASSERT_TRUE(server.cm.Destroy(acceptor, now, server.out).ok());
  EXPECT_TRUE(absl::IsNotFound(server.cm.Destroy(acceptor, now, server.out)));
}

TEST_F(SidrTest, AnswerToNoQuestionIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(
      server.cm.AcceptLookUp(CmHandle(99), {}, now, server.out)));
}

TEST_F(SidrTest, TooMuchPrivateDataIsRefused) {
  constexpr auto kTooMuch = absl::StatusCode::kInvalidArgument;
  HearQuestion();
  const std::vector<uint8_t> data(181);
  EXPECT_EQ(client.cm.Resolve({.private_data = data}, now, client.out)
                .status()
                .code(),
            kTooMuch);
  EXPECT_EQ(client.cm.size(), 1u);
  const auto answer_data = PrivateDataView(data).first(137);
  EXPECT_EQ(server.cm
                .AcceptLookUp(acceptor, {.private_data = answer_data}, now,
                              server.out)
                .code(),
            kTooMuch);
  EXPECT_EQ(server.cm.Reject(acceptor, answer_data, now, server.out).code(),
            kTooMuch);
}

}  // namespace
}  // namespace nd::soft
