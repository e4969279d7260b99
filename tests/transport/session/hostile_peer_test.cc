// Each state check that docs/wire.md demands: a peer that breaks it ends its
// session, is told why, and nothing more.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "transport/session/lone_session.h"

namespace nd::transport {
namespace {

constexpr uint32_t kStream = StreamId{.number = 1, .by_client = true}.Encode();
constexpr FrameHeader kOpen{
    .type = FrameType::kOpen, .stream = kStream, .window = 4096};
FrameHeader Of(FrameType type) {
  return {.type = type, .stream = kStream, .window = 4096};
}

// The session has ended because of the peer, and has said so.
void ExpectAccused(LoneSession& session, const std::string& why) {
  session.Complete(0);
  session.Complete(1);
  ASSERT_TRUE(session.ended().has_value());
  EXPECT_EQ(session.ended()->code(), absl::StatusCode::kInternal);
  EXPECT_NE(std::string(session.ended()->message()).find(why),
            std::string::npos)
      << *session.ended();
  const auto abort = std::ranges::find_if(session.sent(), [](const auto& sent) {
    return sent.header.type == FrameType::kAbort;
  });
  ASSERT_NE(abort, session.sent().end());
  EXPECT_NE(Reason::Parse(abort->payload)->text.find(why),
            std::string_view::npos);
}

TEST(HostilePeer, AFrameOutOfSequenceEndsTheSession) {
  LoneSession session;
  FrameHeader header = kOpen;
  header.sequence = 5;
  session.Give(0, header);
  ExpectAccused(session, "frame 5 where 0 was due");
}

TEST(HostilePeer, BytesThatAreNoPacketEndTheSession) {
  LoneSession session;
  const std::vector<std::byte> bytes(40, std::byte{0x77});
  session.GivePacket(0, bytes);
  ExpectAccused(session, "version");
}

// A packet of one frame that says nothing but its credits.
std::vector<std::byte> Packet() {
  std::vector<std::byte> room(64);
  PacketWriter writer(room, false);
  EXPECT_TRUE(writer.Append({.type = FrameType::kCredit, .credits = 8}, {}));
  return {writer.written().begin(), writer.written().end()};
}

TEST(Ring, PacketsComeInItsPlacesInTurn) {
  LoneSession session;
  for (uint32_t i = 0; i < 3 * session.layout().slots; ++i) {
    ASSERT_TRUE(session.GiveRing(0, i % session.layout().slots, Packet()));
  }
  EXPECT_FALSE(session.ended());
  EXPECT_EQ(
      session.core().Statistics(session.now()).connections[0].frames_received,
      3u * session.layout().slots);
}

TEST(HostilePeer, APacketInAnotherPlaceOfTheRingEndsTheSession) {
  LoneSession session;
  session.GiveRing(0, 0, Packet());
  session.GiveRing(0, 2, Packet());
  ExpectAccused(session, "in place 2 of the ring, where 1 was due");
}

TEST(HostilePeer, APlaceBeyondTheRingEndsTheSession) {
  LoneSession session;
  session.GiveRing(0, session.layout().slots, Packet());
  ExpectAccused(session, "of the ring, where 0 was due");
}

TEST(HostilePeer, APacketLongerThanAPlaceOfTheRingEndsTheSession) {
  LoneSession session;
  session.GiveRing(0, 0, std::vector<std::byte>(1025));
  ExpectAccused(session, "a packet of 1025 bytes in place 0");
}

TEST(HostilePeer, ARingWhereNoneWasAgreedEndsTheSession) {
  LoneSession session;
  session.GiveImmediate(0, kRingSlot);
  ExpectAccused(session, "an immediate that no grant waits for");
}

TEST(HostilePeer, CreditsBeyondTheSlotsEndTheSession) {
  LoneSession session;
  session.Give(0, {.type = FrameType::kCredit, .credits = 9});
  ExpectAccused(session, "credits");
}

TEST(HostilePeer, CreditsThatGoBackEndTheSession) {
  LoneSession session;
  session.Give(0, {.type = FrameType::kCredit, .credits = 7});
  ExpectAccused(session, "credits");
}

TEST(HostilePeer, AStreamThatWasNeverOpenedEndsTheSession) {
  LoneSession session;
  session.Give(0, Of(FrameType::kMessage));
  ExpectAccused(session, "was never opened");
}

TEST(HostilePeer, OpeningAStreamOfThisSideEndsTheSession) {
  LoneSession session;
  FrameHeader header = kOpen;
  header.stream = StreamId{.number = 1, .by_client = false}.Encode();
  session.Give(0, header);
  ExpectAccused(session, "cannot be opened");
}

TEST(HostilePeer, OpeningStreamsOutOfOrderEndsTheSession) {
  LoneSession session;
  FrameHeader header = kOpen;
  header.stream = StreamId{.number = 2, .by_client = true}.Encode();
  session.Give(0, header);
  ExpectAccused(session, "cannot be opened");
}

TEST(HostilePeer, AStreamOfTheOtherClassEndsTheSession) {
  LoneSession session;
  FrameHeader header = kOpen;
  header.message_class = MessageClass::kBulk;
  session.Give(0, header);
  ExpectAccused(session, "another class");
}

TEST(HostilePeer, MoreStreamsThanAgreedEndTheSession) {
  LoneSession session;
  for (uint32_t i = 1; i <= 5; ++i) {
    FrameHeader header = kOpen;
    header.stream = StreamId{.number = i, .by_client = true}.Encode();
    session.Give(0, header);
    session.Complete(0);
  }
  ExpectAccused(session, "more than 4 streams");
}

TEST(HostilePeer, MessagesBeyondTheWindowEndTheSession) {
  LoneSession session;
  session.Give(0, kOpen);
  const std::vector<std::byte> message(900);
  for (int i = 0; i < 4; ++i) session.Give(0, Of(FrameType::kMessage), message);
  ExpectAccused(session, "beyond the window");
}

TEST(HostilePeer, AMessageBehindTheEndEndsTheSession) {
  LoneSession session;
  session.Give(0, kOpen);
  session.Give(0, Of(FrameType::kFinish));
  session.Give(0, Of(FrameType::kMessage));
  ExpectAccused(session, "behind the end");
}

TEST(HostilePeer, ASecondFinishEndsTheSession) {
  LoneSession session;
  session.Give(0, kOpen);
  session.Give(0, Of(FrameType::kFinish));
  session.Give(0, Of(FrameType::kFinish));
  ExpectAccused(session, "second Finish");
}

TEST(HostilePeer, AWindowThatGoesBackEndsTheSession) {
  LoneSession session;
  session.Give(0, kOpen);
  FrameHeader header = Of(FrameType::kWindow);
  header.window = 4095;
  session.Give(0, header);
  ExpectAccused(session, "a window that goes back");
}

TEST(HostilePeer, AWindowBeyondWhatWasAgreedEndsTheSession) {
  LoneSession session;
  session.Give(0, kOpen);
  FrameHeader header = Of(FrameType::kWindow);
  header.window = 4097;
  session.Give(0, header);
  ExpectAccused(session, "a window");
}

TEST(HostilePeer, ARequestForWhatAFrameCanCarryEndsTheSession) {
  LoneSession session;
  session.Give(0, kOpen);
  session.GivePayload(
      0, Of(FrameType::kRequest),
      Request{.transfer = 1, .size = session.layout().eager_limit});
  ExpectAccused(session, "needless");
}

TEST(HostilePeer, AnImmediateThatNoGrantWaitsForEndsTheSession) {
  for (const uint32_t immediate : {0u, 5u, 0xffffu, 0x80000000u}) {
    LoneSession session;
    session.GiveImmediate(1, immediate);
    ExpectAccused(session, "an immediate that no grant waits for");
  }
}

TEST(HostilePeer, AnImmediateOfAnotherTransferEndsTheSession) {
  LoneSession session;
  session.Give(0, kOpen);
  session.GivePayload(0, Of(FrameType::kRequest),
                      Request{.transfer = 1, .size = 5000});
  ReceiveOperation operation;
  session.core().AcceptStream()->Receive(operation);
  session.Pump();
  const auto granted = std::ranges::find_if(
      session.sent(),
      [](const auto& each) { return each.header.type == FrameType::kGrant; });
  ASSERT_NE(granted, session.sent().end());
  const auto grant = Grant::Parse(granted->payload);
  session.GiveImmediate(
      1, WrittenImmediate{.slot = static_cast<uint16_t>(grant->slot),
                          .transfer = 2}
             .Encode());
  ExpectAccused(session, "an immediate that no grant waits for");
  EXPECT_TRUE(operation.done());
}

TEST(HostilePeer, AWrittenThatNoGrantWaitsForEndsTheSession) {
  LoneSession session;
  session.Give(0, kOpen);
  session.GivePayload(0, Of(FrameType::kWritten), transport::Written{});
  ExpectAccused(session, "a Written that no grant waits for");
}

TEST(HostilePeer, AGrantOfAnotherSizeEndsTheSession) {
  LoneSession session;
  session.Give(0, kOpen);
  std::vector<std::byte> bytes(5000);
  SendOperation operation;
  operation.set_piece({.bytes = bytes});
  session.core().AcceptStream()->Send(operation);
  session.Pump();
  const auto asked = std::ranges::find_if(session.sent(), [](const auto& each) {
    return each.header.type == FrameType::kRequest;
  });
  ASSERT_NE(asked, session.sent().end());
  session.GivePayload(
      0, Of(FrameType::kGrant),
      Grant{.transfer = Request::Parse(asked->payload)->transfer,
            .size = 5001});
  EXPECT_TRUE(session.writes().empty());
  ExpectAccused(session, "a Grant that was not asked for");
  EXPECT_TRUE(operation.done());
}

TEST(HostilePeer, AGoneThatTellsOfMoreThanWasSentEndsTheSession) {
  LoneSession session;
  session.Give(0, kOpen);
  SendOperation operation;
  session.core().AcceptStream()->Send(operation);
  session.Pump();
  session.GivePayload(1, {.type = FrameType::kGone},
                      Gone{.link = 0, .incarnation = 0, .received = 7});
  ASSERT_TRUE(session.ended().has_value());
  EXPECT_NE(std::string(session.ended()->message()).find("packets came by"),
            std::string::npos);
  EXPECT_TRUE(operation.done());
}

TEST(HostilePeer, ADamagedPacketLosesItsLinkAndNothingMore) {
  LoneSession session(/*digest=*/true);
  std::vector<std::byte> room(256);
  PacketWriter writer(room, true);
  ASSERT_TRUE(writer.Append({.type = FrameType::kOpen,
                             .stream = kStream,
                             .credits = 8,
                             .window = 4096},
                            {}));
  const std::vector<std::byte> good(writer.written().begin(),
                                    writer.written().end());
  std::vector<std::byte> bad = good;
  bad[16] ^= std::byte{1};
  session.GivePacket(0, bad);
  EXPECT_FALSE(session.ended().has_value());
  EXPECT_TRUE(session.finished(0));
  const auto gone = std::ranges::find_if(session.sent(), [](const auto& each) {
    return each.header.type == FrameType::kGone;
  });
  ASSERT_NE(gone, session.sent().end());
  EXPECT_EQ(gone->link, 1u);
  EXPECT_EQ(Gone::Parse(gone->payload)->received, 0u);
  // It is sent again, on the other link.
  session.GivePacket(1, good);
  EXPECT_NE(session.core().AcceptStream(), nullptr);
}

TEST(HostilePeer, WhatComesBehindADamagedPacketDoesNotCountAsReceived) {
  LoneSession damaged(/*digest=*/true);
  std::vector<std::byte> room(256);
  PacketWriter writer(room, true);
  ASSERT_TRUE(writer.Append({.type = FrameType::kCredit, .credits = 8}, {}));
  std::vector<std::byte> bad(writer.written().begin(), writer.written().end());
  bad[16] ^= std::byte{1};
  damaged.drains = false;
  damaged.GivePacket(0, bad);
  damaged.GiveImmediate(0, 0x80000000);
  damaged.drains = true;
  damaged.Pump();
  EXPECT_FALSE(damaged.ended().has_value());
  const auto gone = std::ranges::find_if(damaged.sent(), [](const auto& each) {
    return each.header.type == FrameType::kGone;
  });
  ASSERT_NE(gone, damaged.sent().end());
  EXPECT_EQ(Gone::Parse(gone->payload)->received, 0u);
}

TEST(HostilePeer, AMessageAboveTheEagerLimitEndsTheSession) {
  LoneSession session;
  session.Give(0, kOpen);
  session.Give(0, Of(FrameType::kMessage), std::vector<std::byte>(901));
  ExpectAccused(session, "length");
}

TEST(HostilePeer, WhatThePeerSaysInItsAbortIsHowTheSessionEnds) {
  LoneSession session;
  session.GivePayload(0, {.type = FrameType::kAbort},
                      Reason{.code = 8, .text = "no more"});
  ASSERT_TRUE(session.ended().has_value());
  EXPECT_EQ(session.ended()->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(session.ended()->message(),
            "the peer has ended the session: no more");
}

}  // namespace
}  // namespace nd::transport
