// Streams of the peer's, accepted as operations; and links that come back.
#include <gtest/gtest.h>

#include <chrono>
#include <string_view>

#include "absl/status/status.h"
#include "transport/session/lone_session.h"

namespace nd::transport {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kName = "stream";

// The peer opens stream `number`.
void Open(LoneSession& session, uint32_t number) {
  const auto* const name = reinterpret_cast<const std::byte*>(kName.data());
  ASSERT_TRUE(
      session.Give(0,
                   {.type = FrameType::kOpen,
                    .stream = StreamId{.number = number,
                                       .message_class = MessageClass::kLatency,
                                       .by_client = true}
                                  .Encode(),
                    .window = 4096},
                   {name, kName.size()}));
}

uint32_t NumberOf(const Stream& stream) {
  return StreamId::Of(stream.id()).number;
}

TEST(Accept, TakesAStreamThatWaits) {
  LoneSession session;
  Open(session, 1);
  AcceptOperation accept;
  session.core().Accept(accept);
  session.Pump();
  ASSERT_TRUE(accept.done());
  ASSERT_TRUE(accept.status().ok()) << accept.status();
  Stream* const stream = OperationAccess::TakeAccepted(accept);
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(stream->name(), kName);
  EXPECT_EQ(session.core().AcceptStream(), nullptr);
}

TEST(Accept, ServesThoseThatWaitInTheirOrder) {
  LoneSession session;
  AcceptOperation first, second, third;
  session.core().Accept(first);
  session.core().Accept(second);
  session.core().Accept(third);
  session.Pump();
  EXPECT_FALSE(first.done());
  Open(session, 1);
  EXPECT_TRUE(first.done());
  EXPECT_FALSE(second.done());
  Open(session, 2);
  ASSERT_TRUE(second.done());
  EXPECT_FALSE(third.done());
  EXPECT_EQ(NumberOf(*OperationAccess::TakeAccepted(first)), 1u);
  EXPECT_EQ(NumberOf(*OperationAccess::TakeAccepted(second)), 2u);
  EXPECT_EQ(session.core().AcceptStream(), nullptr);
  session.core().CancelAccept(third);
  session.Pump();
}

TEST(Accept, EndsAtItsDeadline) {
  LoneSession session;
  AcceptOperation accept;
  accept.set_deadline(session.now() + milliseconds(5));
  session.core().Accept(accept);
  session.Pump();
  EXPECT_EQ(session.core().NextDeadline(), session.now() + milliseconds(5));
  session.Wait(milliseconds(4));
  EXPECT_FALSE(accept.done());
  session.Wait(milliseconds(1));
  ASSERT_TRUE(accept.done());
  EXPECT_EQ(accept.status().code(), absl::StatusCode::kDeadlineExceeded);
  // The next stream is not its.
  Open(session, 1);
  EXPECT_EQ(OperationAccess::TakeAccepted(accept), nullptr);
  EXPECT_NE(session.core().AcceptStream(), nullptr);
}

TEST(Accept, IsCancelled) {
  LoneSession session;
  AcceptOperation cancelled, other;
  session.core().Accept(cancelled);
  session.core().Accept(other);
  session.core().CancelAccept(cancelled);
  session.Pump();
  ASSERT_TRUE(cancelled.done());
  EXPECT_EQ(cancelled.status().code(), absl::StatusCode::kCancelled);
  Open(session, 1);
  ASSERT_TRUE(other.done());
  EXPECT_TRUE(other.status().ok());
  // Too late: no effect.
  session.core().CancelAccept(other);
  session.Pump();
  EXPECT_TRUE(other.status().ok());
  EXPECT_NE(OperationAccess::TakeAccepted(other), nullptr);
}

TEST(Accept, EndsWithItsSession) {
  LoneSession session;
  AcceptOperation waiting, late;
  session.core().Accept(waiting);
  session.core().Fail(absl::AbortedError("why"));
  session.Pump();
  ASSERT_TRUE(waiting.done());
  EXPECT_EQ(waiting.status().code(), absl::StatusCode::kAborted);
  session.core().Accept(late);
  session.Pump();
  ASSERT_TRUE(late.done());
  EXPECT_EQ(late.status().code(), absl::StatusCode::kAborted);
}

TEST(SetUp, AConnectionThatWasNeverOpenEndsNothing) {
  LoneSession session(false, {}, false);
  session.Connect(0, false);
  session.Lose(0);
  EXPECT_TRUE(session.finished(0));
  EXPECT_FALSE(session.ended());
  session.Connect(0);
  Open(session, 1);
  EXPECT_NE(session.core().AcceptStream(), nullptr);
}

TEST(Reconnect, WithoutTimeForItASessionEndsWithItsLastLinkHoweverThoseDrain) {
  LoneSession session;
  session.drains = false;
  session.Lose(0);
  EXPECT_TRUE(session.core().open());
  session.Lose(1);
  EXPECT_FALSE(session.core().open());
  EXPECT_FALSE(session.ended());
  EXPECT_EQ(session.core().NextDeadline(), Instant::max());
  session.drains = true;
  session.Pump();
  EXPECT_TRUE(session.ended());
}

TEST(Reconnect, ALinkThatIsMadeAnewMeanwhileKeepsTheSession) {
  LoneSession session;
  session.Lose(0);
  session.Connect(0, false);
  session.Lose(1);
  EXPECT_TRUE(session.core().open());
}

// A connection's set-up may take long.
TEST(Reconnect, NothingIsDueWhileTheOnlyLinkIsSetUp) {
  LoneSession session(false, milliseconds(100));
  session.Lose(0);
  session.Lose(1);
  EXPECT_EQ(session.core().NextDeadline(), session.now() + milliseconds(100));
  session.Connect(0, false);
  session.Wait(milliseconds(200));
  EXPECT_FALSE(session.ended().has_value());
  EXPECT_EQ(session.core().NextDeadline(), Instant::max());
  session.Lose(0);
  EXPECT_TRUE(session.ended().has_value());
}

}  // namespace
}  // namespace nd::transport
