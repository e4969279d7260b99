// How many large messages are asked for and granted ahead, and with what frames
// they share a packet.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iterator>
#include <span>
#include <vector>

#include "transport/session/lone_session.h"

namespace nd::transport {
namespace {

constexpr size_t kLarge = 1000;     // more than goes into a slot
constexpr uint32_t kFrameLink = 0;  // of the latency class
constexpr uint32_t kWriteLink = 1;

std::vector<LoneSession::Sent> FramesOf(const LoneSession& session,
                                        FrameType type) {
  std::vector<LoneSession::Sent> frames;
  std::ranges::copy_if(
      session.sent(), std::back_inserter(frames),
      [type](const auto& each) { return each.header.type == type; });
  return frames;
}

// As many as the peer may have given by now.
uint32_t Credits(const LoneSession& session) {
  return session.layout().slots +
         (session.sent().empty()
              ? 0
              : static_cast<uint32_t>(session.sent().back().serial));
}

bool ShareAPacket(std::span<const LoneSession::Sent> frames) {
  return std::ranges::all_of(frames, [&frames](const auto& each) {
    return each.serial == frames.front().serial;
  });
}

// Streams of our own, on which large messages are sent to a peer with receives
// and windows for all of them.
class Asking {
 public:
  explicit Asking(size_t streams) {
    for (size_t i = 0; i < streams; ++i) {
      streams_.push_back(
          *session.core().OpenStream(MessageClass::kLatency, "s"));
      session.Pump();
    }
  }
  ~Asking() {
    EXPECT_FALSE(session.ended().has_value()) << *session.ended();
    session.core().Fail(absl::CancelledError("the end"));
    session.Pump();
  }

  SendOperation& Send(size_t stream) {
    SendOperation& operation = operations_.emplace_back();
    operation.set_piece({.bytes = bytes_});
    streams_[stream]->Send(operation);
    session.Pump();
    Give(stream, FrameType::kWindow);  // and credits
    session.Complete(kFrameLink);
    return operation;
  }
  // The peer grants what it was asked for by that Request.
  void GiveGrant(size_t stream, size_t request) {
    const auto asked =
        Request::Parse(FramesOf(session, FrameType::kRequest)[request].payload);
    session.GivePayload(kFrameLink, HeaderOf(stream, FrameType::kGrant),
                        Grant{.transfer = asked->transfer,
                              .slot = static_cast<uint32_t>(request),
                              .size = asked->size});
  }
  Stream& stream(size_t index) { return *streams_[index]; }
  size_t requests() const {
    return FramesOf(session, FrameType::kRequest).size();
  }

  LoneSession session;

 private:
  FrameHeader HeaderOf(size_t stream, FrameType type) const {
    const uint32_t id = streams_[stream]->id();
    const auto asked = std::ranges::count_if(
        FramesOf(session, FrameType::kRequest),
        [id](const auto& each) { return each.header.stream == id; });
    return {.type = type,
            .stream = id,
            .credits = Credits(session),
            .window = session.layout().stream_window +
                      kMessageCost * static_cast<uint32_t>(asked)};
  }
  void Give(size_t stream, FrameType type) {
    session.Give(kFrameLink, HeaderOf(stream, type));
  }

  std::vector<Stream*> streams_;
  std::vector<std::byte> bytes_ = std::vector<std::byte>(kLarge);
  std::deque<SendOperation> operations_;
};

TEST(Requests, BeyondEightOfAStreamWaitUntilHalfOfThoseAreGranted) {
  Asking asking(1);
  for (int i = 0; i < 12; ++i) asking.Send(0);
  EXPECT_EQ(asking.requests(), 8u);
  for (size_t i = 0; i < 3; ++i) asking.GiveGrant(0, i);
  EXPECT_EQ(asking.requests(), 8u);
  asking.GiveGrant(0, 3);
  const auto requests = FramesOf(asking.session, FrameType::kRequest);
  ASSERT_EQ(requests.size(), 12u);
  EXPECT_TRUE(ShareAPacket(std::span(requests).subspan(8)));
}

TEST(Requests, ThatAreGivenUpMakeRoomForOthers) {
  Asking asking(1);
  std::vector<SendOperation*> sends;
  for (int i = 0; i < 9; ++i) sends.push_back(&asking.Send(0));
  for (size_t i = 0; i < 4; ++i) asking.stream(0).Cancel(*sends[i]);
  asking.session.Pump();
  EXPECT_EQ(asking.requests(), 9u);
}

TEST(Requests, ThatAreGrantedInVainAreAnsweredOnce) {
  Asking asking(1);
  asking.session.memory().has_no_sources = true;
  const SendOperation& failed = asking.Send(0);
  asking.GiveGrant(0, 0);
  ASSERT_TRUE(failed.done());
  EXPECT_TRUE(absl::IsResourceExhausted(failed.status())) << failed.status();
  asking.session.Complete(kFrameLink);
  for (int i = 0; i < 9; ++i) asking.Send(0);
  EXPECT_EQ(asking.requests(), 1u + 8u);
}

TEST(Requests, OfAReaderThatDoesNotReadLeavePlacesToOtherStreams) {
  Asking asking(4);
  for (size_t stream = 0; stream < 3; ++stream) {
    for (int i = 0; i < 100; ++i) asking.Send(stream);
  }
  EXPECT_EQ(asking.requests(), 24u);
  asking.Send(3);
  EXPECT_EQ(asking.requests(), 25u);
}

TEST(Requests, WaitWhileAsManyMessagesAsMayBeAreUnderWay) {
  Asking asking(1);
  for (size_t i = 0; i < 256; ++i) {
    asking.Send(0);
    asking.GiveGrant(0, i);
  }
  asking.Send(0);
  EXPECT_EQ(asking.requests(), 256u);
  asking.session.Complete(kWriteLink);
  EXPECT_EQ(asking.requests(), 257u);
}

TEST(Grants, AheadGoTogetherOnceHalfOfThemAreUsed) {
  constexpr uint32_t kStream =
      StreamId{.number = 1, .by_client = true}.Encode();
  LoneSession session;
  session.Give(kFrameLink, {.type = FrameType::kOpen,
                            .stream = kStream,
                            .window = session.layout().stream_window});
  Stream* const stream = session.core().AcceptStream();
  std::deque<ReceiveOperation> receives;
  const auto receive = [&] {
    stream->Receive(receives.emplace_back());
    session.Pump();
  };
  const auto grants = [&session] {
    return FramesOf(session, FrameType::kGrant);
  };
  receive();
  for (uint32_t i = 0; i < 15; ++i) {
    session.GivePayload(kFrameLink,
                        {.type = FrameType::kRequest,
                         .stream = kStream,
                         .credits = Credits(session),
                         .window = session.layout().stream_window},
                        Request{.transfer = i, .size = kLarge});
    session.Complete(kFrameLink);
  }
  EXPECT_EQ(grants().size(), 8u);
  const auto write = [&](size_t number) {
    const auto grant = Grant::Parse(grants()[number].payload);
    session.GiveImmediate(
        kWriteLink, WrittenImmediate{.slot = static_cast<uint16_t>(grant->slot),
                                     .transfer = grant->transfer}
                        .Encode());
    ASSERT_TRUE(receives.back().done());
    receive();
  };
  for (size_t i = 0; i < 3; ++i) write(i);
  EXPECT_EQ(grants().size(), 8u);
  write(3);
  const auto all = grants();
  ASSERT_EQ(all.size(), 12u);
  EXPECT_TRUE(ShareAPacket(std::span(all).subspan(8)));
  for (ReceiveOperation& each : receives) {
    if (each.done()) each.message().Drop();
  }
  session.core().Fail(absl::CancelledError("the end"));
  session.Pump();
}

}  // namespace
}  // namespace nd::transport
