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

// A stream of the peer's, of which all large messages are asked for and one is
// waited for.
class Granting {
 public:
  Granting(uint64_t size, uint32_t messages) {
    session.Give(kFrameLink, {.type = FrameType::kOpen,
                              .stream = kStream,
                              .window = session.layout().stream_window});
    stream_ = session.core().AcceptStream();
    Receive();
    for (uint32_t i = 0; i < messages; ++i) {
      session.GivePayload(kFrameLink,
                          {.type = FrameType::kRequest,
                           .stream = kStream,
                           .credits = Credits(session),
                           .window = session.layout().stream_window},
                          Request{.transfer = i, .size = size});
      session.Complete(kFrameLink);
    }
  }
  ~Granting() {
    for (ReceiveOperation& each : receives_) {
      if (each.done()) each.message().Drop();
    }
    session.core().Fail(absl::CancelledError("the end"));
    session.Pump();
  }

  // The message comes, and the next one is waited for.
  void Write(size_t number) {
    const auto grant = Grant::Parse(grants()[number].payload);
    session.GiveImmediate(
        kWriteLink, WrittenImmediate{.slot = static_cast<uint16_t>(grant->slot),
                                     .transfer = grant->transfer}
                        .Encode());
    ASSERT_TRUE(receives_.back().done());
    Receive();
  }
  std::vector<LoneSession::Sent> grants() const {
    return FramesOf(session, FrameType::kGrant);
  }

  LoneSession session{/*digest=*/false, /*reconnect=*/{}, /*connected=*/true,
                      /*memory=*/1 << 27};

 private:
  static constexpr uint32_t kStream =
      StreamId{.number = 1, .by_client = true}.Encode();

  void Receive() {
    stream_->Receive(receives_.emplace_back());
    session.Pump();
  }

  Stream* stream_ = nullptr;
  std::deque<ReceiveOperation> receives_;
};

TEST(Grants, AheadGoTogetherOnceHalfOfThemAreUsed) {
  Granting granting(kLarge, 15);
  EXPECT_EQ(granting.grants().size(), 8u);
  for (size_t i = 0; i < 3; ++i) granting.Write(i);
  EXPECT_EQ(granting.grants().size(), 8u);
  granting.Write(3);
  const auto all = granting.grants();
  ASSERT_EQ(all.size(), 12u);
  EXPECT_TRUE(ShareAPacket(std::span(all).subspan(8)));
}

TEST(Grants, AheadAreOfFourMegabytesAndGoTogetherOnceHalfOfThoseAreUsed) {
  Granting granting(1 << 20, 8);
  EXPECT_EQ(granting.grants().size(), 4u);
  granting.Write(0);
  EXPECT_EQ(granting.grants().size(), 4u);
  granting.Write(1);
  const auto all = granting.grants();
  ASSERT_EQ(all.size(), 6u);
  EXPECT_TRUE(ShareAPacket(std::span(all).subspan(4)));
}

TEST(Grants, AheadAreTwoOfMessagesOfAnySize) {
  Granting granting(8 << 20, 4);
  EXPECT_EQ(granting.grants().size(), 2u);
  granting.Write(0);
  EXPECT_EQ(granting.grants().size(), 3u);
}

}  // namespace
}  // namespace nd::transport
