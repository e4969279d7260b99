// What goes before the housekeeping of a session, and what does not.
#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/status/status.h"
#include "transport/session/lone_session.h"

namespace nd::transport {
namespace {

// A session with a stream of its own.
struct Opened {
  explicit Opened(MessageClass message_class = MessageClass::kLatency) {
    auto opened = session.core().OpenStream(message_class, "s");
    EXPECT_TRUE(opened.ok());
    stream = *opened;
    session.Pump();
  }
  ~Opened() {
    session.core().Fail(absl::CancelledError("the end"));
    session.Pump();
  }

  void Send() { stream->Send(sends.emplace_back()); }
  // Until the peer has one receive left, which is not for messages.
  void SendAllThatMayBe() {
    for (uint32_t i = 2; i < session.layout().slots; ++i) {
      Send();
      session.Pump();
    }
  }
  // The peer has posted so many since the start.
  void GiveCredits(uint32_t credits) {
    session.Give(0, {.type = FrameType::kCredit, .credits = credits});
  }
  FrameType last() const { return session.sent().back().header.type; }

  LoneSession session;
  Stream* stream = nullptr;
  std::deque<SendOperation> sends;
};

TEST(SendFirst, AMessageOfTheLatencyClassLeavesBeforeThePump) {
  Opened opened;
  const size_t before = opened.session.sent().size();
  opened.Send();
  opened.session.core().SendFirst();
  ASSERT_EQ(opened.session.sent().size(), before + 1);
  EXPECT_EQ(opened.last(), FrameType::kMessage);
  opened.session.Pump();
  EXPECT_EQ(opened.session.sent().size(), before + 1);
  opened.session.Complete(0);
  EXPECT_TRUE(opened.sends[0].done());
}

TEST(SendFirst, MessagesThatAreReadyTogetherShareAPacket) {
  Opened opened;
  const auto packets = [&opened] {
    const LoneSession& session = opened.session;
    return opened.session.core()
        .Statistics(session.now())
        .connections[0]
        .packets_sent;
  };
  const uint64_t before = packets();
  opened.Send();
  opened.Send();
  opened.session.core().SendFirst();
  EXPECT_EQ(packets(), before + 1);
}

TEST(SendFirst, TheBulkClassWaitsForThePump) {
  Opened opened(MessageClass::kBulk);
  const size_t before = opened.session.sent().size();
  opened.Send();
  opened.session.core().SendFirst();
  EXPECT_EQ(opened.session.sent().size(), before);
  opened.session.Pump();
  EXPECT_EQ(opened.session.sent().size(), before + 1);
}

TEST(SendFirst, TheAnswerToAPingIsBeforeMessages) {
  Opened opened;
  opened.SendAllThatMayBe();
  opened.session.GivePayload(0, {.type = FrameType::kPing}, Probe{7});
  opened.Send();
  opened.session.Pump();
  EXPECT_EQ(opened.last(), FrameType::kMessage);  // of those before
  opened.GiveCredits(9);
  EXPECT_EQ(opened.last(), FrameType::kPong);
  opened.GiveCredits(10);
  EXPECT_EQ(opened.last(), FrameType::kMessage);
}

TEST(SendFirst, TheNewsOfALostLinkIsBeforeMessages) {
  Opened opened;
  opened.SendAllThatMayBe();
  opened.session.Lose(1);
  opened.Send();
  opened.session.Pump();
  EXPECT_EQ(opened.last(), FrameType::kMessage);  // of those before
  opened.GiveCredits(9);
  EXPECT_EQ(opened.last(), FrameType::kGone);
  opened.GiveCredits(10);
  EXPECT_EQ(opened.last(), FrameType::kMessage);
}

TEST(Carriers, AClassWaitsForALinkOfItsOwnThatIsYetToBeMade) {
  LoneSession session(false, {}, /*connected=*/false);
  session.Connect(0);
  ASSERT_TRUE(session.core().OpenStream(MessageClass::kBulk, "b").ok());
  session.Pump();
  EXPECT_TRUE(session.sent().empty());
  session.Connect(1, /*open=*/false);
  EXPECT_TRUE(session.sent().empty());
  session.core().OpenLink(1, session.now());
  session.Pump();
  ASSERT_EQ(session.sent().size(), 1u);
  EXPECT_EQ(session.sent()[0].link, 1u);
  session.core().Fail(absl::CancelledError("the end"));
  session.Pump();
}

TEST(Carriers, AClassWhoseLinksFailedGoesByAnothersLink) {
  LoneSession session(false, {}, /*connected=*/false);
  session.Connect(0);
  ASSERT_TRUE(session.core().OpenStream(MessageClass::kBulk, "b").ok());
  session.Connect(1, /*open=*/false);
  EXPECT_TRUE(session.sent().empty());
  session.Lose(1);
  ASSERT_FALSE(session.sent().empty());
  EXPECT_EQ(session.sent()[0].header.type, FrameType::kOpen);
  EXPECT_EQ(session.sent()[0].link, 0u);
  session.core().Fail(absl::CancelledError("the end"));
  session.Pump();
}

}  // namespace
}  // namespace nd::transport
