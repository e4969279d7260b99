// What a session counts: each number by a peer that is the test, and between
// two sessions.
#include "transport/session/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <vector>

#include "transport/session/lone_session.h"
#include "transport/session/sim_world.h"

namespace nd::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint32_t kWindow = 4096;
constexpr uint32_t kPeersStream =
    StreamId{.number = 1, .by_client = true}.Encode();

// A session with a stream of its own, and a peer that gives what it needs.
struct Sending {
  explicit Sending(MessageClass message_class = MessageClass::kLatency,
                   Duration reconnect = {})
      : session(false, reconnect),
        link(message_class == MessageClass::kLatency ? 0 : 1) {
    auto opened = session.core().OpenStream(message_class, "s");
    EXPECT_TRUE(opened.ok());
    stream = *opened;
    session.Pump();
  }
  ~Sending() {
    EXPECT_FALSE(session.ended().has_value()) << *session.ended();
    session.core().Fail(absl::CancelledError("the end"));
    session.Pump();
  }

  SendOperation& Send(size_t size) {
    auto& operation = *sends.emplace_back(std::make_unique<SendOperation>());
    operation.set_piece({.bytes = std::span(bytes).first(size)});
    stream->Send(operation);
    session.Pump();
    return operation;
  }
  void GiveCredits(uint32_t more) {
    credits += more;
    session.Give(link, {.type = FrameType::kCredit, .credits = credits});
  }
  // How far the stream may go.
  void GiveWindow(uint32_t window) {
    session.Give(link, {.type = FrameType::kWindow,
                        .message_class = stream->message_class(),
                        .stream = stream->id(),
                        .credits = credits,
                        .window = window});
  }
  SessionStatistics Statistics() {
    return session.core().Statistics(session.now());
  }
  Stalls StreamStalls() { return stream->Statistics(session.now()).stalls; }

  LoneSession session;
  const uint32_t link;  // of the stream's class
  uint32_t credits = 8;
  Stream* stream = nullptr;
  std::vector<std::byte> bytes = std::vector<std::byte>(100'000);
  std::vector<std::unique_ptr<SendOperation>> sends;
};

void ExpectStall(const Stall& stall, uint64_t count, Duration time) {
  EXPECT_EQ(stall.count, count);
  EXPECT_EQ(stall.time, time);
}

TEST(Statistics, WithoutAReceiveOfThePeersAClassWaitsForCredit) {
  Sending sending;  // the Open has taken one of 8, and one is kept
  for (int i = 0; i < 6; ++i) sending.Send(8);
  ExpectStall(sending.Statistics().latency.stalls.credit, 0, {});
  sending.Send(8);
  sending.session.Wait(milliseconds(5));
  sending.Send(8);
  ExpectStall(sending.Statistics().latency.stalls.credit, 1, milliseconds(5));
  sending.GiveCredits(7);
  sending.session.Wait(milliseconds(2));
  const SessionStatistics statistics = sending.Statistics();
  ExpectStall(statistics.latency.stalls.credit, 1, milliseconds(5));
  ExpectStall(statistics.latency.stalls.depth, 0, {});
  ExpectStall(statistics.bulk.stalls.credit, 0, {});
  EXPECT_EQ(statistics.connections[0].credit_stalls, 1u);
  EXPECT_EQ(statistics.connections[1].credit_stalls, 0u);
  // Two messages in one packet.
  EXPECT_EQ(statistics.connections[0].packets_sent, 8u);
  EXPECT_EQ(statistics.connections[0].frames_sent, 9u);
  EXPECT_EQ(statistics.connections[0].credits, 15u - 8u);
  EXPECT_EQ(statistics.connections[0].under_way, 8u);
}

TEST(Statistics, WithAllRequestsUnderWayAClassWaitsForDepth) {
  Sending sending;  // whose links have a depth of 16
  for (int i = 0; i < 15; ++i) {
    sending.GiveCredits(1);
    sending.Send(0);
  }
  ExpectStall(sending.Statistics().latency.stalls.depth, 0, {});
  sending.Send(0);
  sending.session.Wait(milliseconds(3));
  sending.session.Complete(0);
  const SessionStatistics statistics = sending.Statistics();
  ExpectStall(statistics.latency.stalls.depth, 1, milliseconds(3));
  ExpectStall(statistics.latency.stalls.credit, 0, {});
  EXPECT_EQ(statistics.connections[0].depth_stalls, 1u);
  EXPECT_EQ(statistics.latency.sent.messages, 15u);
}

TEST(Statistics, AReaderThatDoesNotReadMakesItsStreamWaitForTheWindow) {
  Sending sending;
  for (int i = 0; i < 3; ++i) sending.Send(900);
  EXPECT_EQ(sending.stream->Statistics(sending.session.now()).window,
            kWindow - 3 * 1156u);
  ExpectStall(sending.StreamStalls().window, 0, {});
  sending.Send(900);
  sending.session.Wait(milliseconds(4));
  sending.Send(900);
  ExpectStall(sending.StreamStalls().window, 1, milliseconds(4));
  sending.session.Wait(milliseconds(3));
  sending.GiveWindow(kWindow + 1156);
  // The one behind it waits now.
  ExpectStall(sending.StreamStalls().window, 2, milliseconds(7));
  sending.GiveWindow(kWindow + 2 * 1156);
  sending.session.Wait(milliseconds(9));
  ExpectStall(sending.StreamStalls().window, 2, milliseconds(7));
  ExpectStall(sending.Statistics().latency.stalls.window, 2, milliseconds(7));
  ExpectStall(sending.Statistics().latency.stalls.credit, 0, {});
}

TEST(Statistics, AStallBeginsWhenTheApplicationCallsNotAtTheLastTurn) {
  Sending sending;
  for (int i = 0; i < 3; ++i) sending.Send(900);
  sending.session.Sleep(seconds(10));
  sending.Send(900);
  ExpectStall(sending.StreamStalls().window, 1, {});
  sending.session.Sleep(seconds(5));
  sending.stream->Cancel(*sending.sends.back());
  ExpectStall(sending.StreamStalls().window, 1, seconds(5));
}

TEST(Statistics, MoreLongMessagesThanMayBeAskedForWaitForATransfer) {
  Sending sending(MessageClass::kBulk);
  for (uint32_t i = 0; i < 8; ++i) {
    ++sending.credits;
    sending.Send(1000);
    sending.GiveWindow(kWindow + 256 * (i + 1));
    sending.session.Complete(sending.link);
  }
  ExpectStall(sending.StreamStalls().transfers, 0, {});
  const SendOperation& last = sending.Send(1000);
  sending.session.Wait(milliseconds(2));
  ExpectStall(sending.StreamStalls().transfers, 1, milliseconds(2));
  for (size_t i = 0; i < 4; ++i) sending.stream->Cancel(*sending.sends[i]);
  sending.session.Wait(milliseconds(2));
  const SessionStatistics statistics = sending.Statistics();
  ExpectStall(statistics.bulk.stalls.transfers, 1, milliseconds(2));
  EXPECT_TRUE(last.pending());
}

// The peer's stream, with a long message that two receives take in turn.
TEST(Statistics, ALongMessageThatTheBudgetHasNoRoomForWaitsForMemory) {
  constexpr uint64_t kSize = 800'000;  // of 1 MiB
  LoneSession session;
  const FrameHeader request{
      .type = FrameType::kRequest, .stream = kPeersStream, .window = kWindow};
  session.Give(
      0, {.type = FrameType::kOpen, .stream = kPeersStream, .window = kWindow});
  Stream* const stream = session.core().AcceptStream();
  ReceiveOperation first, second;
  stream->Receive(first);
  stream->Receive(second);
  session.GivePayload(0, request, Request{.transfer = 1, .size = kSize});
  session.GivePayload(0, request, Request{.transfer = 2, .size = kSize});
  ASSERT_TRUE(session.GiveImmediate(
      1, WrittenImmediate{.slot = 0, .transfer = 1}.Encode()));
  ASSERT_TRUE(first.done());
  session.Wait(milliseconds(3));
  ExpectStall(stream->Statistics(session.now()).stalls.memory, 1,
              milliseconds(3));
  session.Sleep(milliseconds(1));
  first.message().Drop();
  session.Wait(milliseconds(6));
  ExpectStall(stream->Statistics(session.now()).stalls.memory, 1,
              milliseconds(4));
  ExpectStall(session.core().Statistics(session.now()).latency.stalls.memory, 1,
              milliseconds(4));
  EXPECT_EQ(stream->Statistics(session.now()).received.bytes, kSize);
  session.core().Fail(absl::CancelledError("the end"));
  session.Pump();
}

TEST(Statistics, WithoutALinkAClassWaitsForAConnection) {
  Sending sending(MessageClass::kLatency, seconds(1));
  sending.session.Complete(0);
  sending.session.Lose(0);
  sending.session.Lose(1);
  ExpectStall(sending.Statistics().latency.stalls.connection, 0, {});
  sending.Send(8);
  sending.session.Wait(milliseconds(4));
  sending.session.Connect(0);
  sending.session.Wait(milliseconds(1));
  const SessionStatistics statistics = sending.Statistics();
  ExpectStall(statistics.latency.stalls.connection, 1, milliseconds(4));
  EXPECT_TRUE(statistics.connections[0].up);
  EXPECT_EQ(statistics.connections[0].begun, 2u);
  EXPECT_EQ(statistics.connections[0].made, 2u);
  EXPECT_EQ(statistics.connections[0].lost, 1u);
  EXPECT_FALSE(statistics.connections[1].up);
  EXPECT_EQ(statistics.connections[1].begun, 1u);
  EXPECT_EQ(statistics.connections[1].lost, 1u);
}

TEST(Statistics, ASetUpThatFailsIsBegunAndNotMade) {
  Sending sending(MessageClass::kLatency, seconds(1));
  sending.session.Lose(1);
  sending.session.Connect(1, /*open=*/false);
  sending.session.Lose(1);
  const ConnectionStatistics its = sending.Statistics().connections[1];
  EXPECT_EQ(its.begun, 2u);
  EXPECT_EQ(its.made, 1u);
  EXPECT_EQ(its.lost, 1u);
}

TEST(Statistics, FramesThatALinkLostAreCountedWhenTheyAreSentAgain) {
  Sending sending;
  sending.Send(8);
  sending.Send(8);
  sending.session.Lose(0);
  // The Open and a message have arrived.
  sending.session.GivePayload(
      1, {.type = FrameType::kGone, .credits = sending.credits},
      Gone{.link = 0, .received = 2});
  const SessionStatistics statistics = sending.Statistics();
  EXPECT_EQ(statistics.latency.resent_frames, 1u);
  EXPECT_EQ(statistics.bulk.resent_frames, 0u);
  EXPECT_EQ(statistics.connections[0].resent_frames, 1u);
  EXPECT_EQ(sending.stream->Statistics(sending.session.now()).resent_frames,
            1u);
  EXPECT_EQ(statistics.latency.sent.messages, 1u);
}

TEST(Statistics, ALongMessageWhoseWriteWasLostIsRewritten) {
  Sending sending(MessageClass::kBulk);
  sending.Send(2000);
  sending.session.Complete(1);
  const auto request = Request::Parse(sending.session.sent().back().payload);
  ASSERT_TRUE(request.has_value());
  const uint64_t packets = sending.Statistics().connections[1].packets_sent;
  sending.session.GivePayload(1,
                              {.type = FrameType::kGrant,
                               .message_class = MessageClass::kBulk,
                               .stream = sending.stream->id(),
                               .credits = sending.credits,
                               .window = kWindow},
                              Grant{.transfer = request->transfer,
                                    .address = 1,
                                    .rkey = 1,
                                    .size = 2000});
  const ConnectionStatistics its = sending.Statistics().connections[1];
  EXPECT_EQ(its.writes, 1u);
  EXPECT_EQ(its.bytes_written, 2000u);
  EXPECT_EQ(its.packets_sent, packets);
  sending.session.Lose(1);
  sending.session.GivePayload(0, {.type = FrameType::kGone},
                              Gone{.link = 1, .received = 2});
  EXPECT_EQ(sending.Statistics().bulk.rewritten_messages, 1u);
  EXPECT_EQ(
      sending.stream->Statistics(sending.session.now()).rewritten_messages, 1u);
}

TEST(Statistics, ASendTakesFromItsTurnToTheOneThatHearsOfItsEnd) {
  ReceiveOperation receive;
  Sending sending;
  sending.session.Sleep(seconds(10));  // of the application's
  const SendOperation& send = sending.Send(8);
  sending.session.Wait(milliseconds(1));
  sending.stream->Receive(receive);
  sending.session.Pump();
  sending.session.Wait(milliseconds(3));
  const SessionStatistics before = sending.Statistics();
  EXPECT_EQ(before.oldest_send, milliseconds(4));
  EXPECT_EQ(before.oldest_receive, milliseconds(3));
  EXPECT_EQ(before.latency.send_latency.count, 0u);
  sending.session.Sleep(milliseconds(2));
  sending.session.Complete(0);
  ASSERT_TRUE(send.done());
  const SessionStatistics after = sending.Statistics();
  EXPECT_EQ(after.oldest_send, Duration::zero());
  EXPECT_EQ(after.oldest_receive, milliseconds(5));
  const Latencies& took = after.latency.send_latency;
  EXPECT_EQ(took.count, 1u);
  EXPECT_EQ(took.min, milliseconds(6));
  EXPECT_EQ(took.max, milliseconds(6));
  EXPECT_EQ(took.p50, milliseconds(6));
  ASSERT_EQ(took.buckets.size(), 1u);
  EXPECT_LE(took.buckets[0].low, milliseconds(6));
  EXPECT_GE(took.buckets[0].high, milliseconds(6));
  EXPECT_EQ(after.bulk.send_latency.count, 0u);
}

TEST(Statistics, TheOldestSendMayStillWaitOrBeLong) {
  Sending sending;
  sending.Send(2000);
  sending.session.Wait(milliseconds(1));
  for (int i = 0; i < 4; ++i) sending.Send(900);  // the last finds no window
  sending.session.Wait(milliseconds(1));
  sending.session.Complete(0);
  EXPECT_EQ(sending.Statistics().oldest_send, milliseconds(2));
  sending.stream->Cancel(*sending.sends.front());
  sending.session.Complete(0);
  sending.session.Wait(milliseconds(1));
  EXPECT_EQ(sending.Statistics().oldest_send, milliseconds(2));
  EXPECT_EQ(sending.stream->Statistics(sending.session.now()).oldest_send,
            milliseconds(2));
}

TEST(Statistics, WhatAStreamCountedStaysWithItsClass) {
  Sending sending;
  for (int i = 0; i < 4; ++i) sending.Send(900);
  sending.session.Wait(milliseconds(4));
  sending.session.Complete(0);
  sending.stream->Close();
  sending.session.Pump();
  sending.session.Complete(0);
  ASSERT_EQ(sending.session.core().streams(), 0u);
  const ClassStatistics its = sending.Statistics().latency;
  ExpectStall(its.stalls.window, 1, milliseconds(4));
  EXPECT_EQ(its.sent.messages, 3u);
  EXPECT_EQ(its.sent.bytes, 2700u);
}

TEST(Statistics, DescribeSaysThemInWords) {
  Sending sending;
  for (int i = 0; i < 4; ++i) sending.Send(900);
  sending.session.Wait(milliseconds(4));
  sending.session.Complete(0);
  const std::string text =
      sending.session.core().Describe(sending.session.now());
  EXPECT_NE(text.find("latency class: sent 3 messages, 2700 bytes"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("window 1 times, 4ms"), std::string::npos) << text;
  EXPECT_NE(text.find("oldest send 4ms"), std::string::npos) << text;
}

// What cancelling takes out of the way.
TEST(Stream, AMessageGoesWhereTheOneBeforeItWasCancelled) {
  Sending sending;
  for (int i = 0; i < 4; ++i) sending.Send(900);
  const SendOperation& small = sending.Send(8);
  sending.stream->Finish();
  sending.stream->Cancel(*sending.sends[3]);
  sending.session.Pump();
  sending.session.Complete(0);
  EXPECT_TRUE(small.done());
  EXPECT_EQ(sending.session.sent().back().header.type, FrameType::kFinish);
}

// A long message waits for memory of the session's, which a receive into memory
// of its own does not need.
TEST(Stream, AReceiveGoesOnWhereTheOneBeforeItWasCancelled) {
  constexpr uint64_t kSize = 800'000;
  LoneSession session;
  const FrameHeader request{
      .type = FrameType::kRequest, .stream = kPeersStream, .window = kWindow};
  session.Give(
      0, {.type = FrameType::kOpen, .stream = kPeersStream, .window = kWindow});
  Stream* const stream = session.core().AcceptStream();
  ReceiveOperation holds, waits, into;
  std::vector<std::byte> memory(kSize);
  into.set_into({.bytes = memory});
  for (ReceiveOperation* const each : {&holds, &waits, &into}) {
    stream->Receive(*each);
  }
  session.GivePayload(0, request, Request{.transfer = 1, .size = kSize});
  session.GivePayload(0, request, Request{.transfer = 2, .size = kSize});
  ASSERT_TRUE(session.GiveImmediate(
      1, WrittenImmediate{.slot = 0, .transfer = 1}.Encode()));
  const auto grants = [&session] {
    return std::ranges::count_if(session.sent(),
                                 [](const LoneSession::Sent& sent) {
                                   return sent.header.type == FrameType::kGrant;
                                 });
  };
  EXPECT_EQ(grants(), 1);
  stream->Cancel(waits);
  session.Pump();
  EXPECT_EQ(grants(), 2);
  ExpectStall(stream->Statistics(session.now()).stalls.memory, 1, {});
  session.core().Fail(absl::CancelledError("the end"));
  session.Pump();
  holds.message().Drop();
  session.Pump();
}

// Two sessions: what one has sent the other has received.
TEST(Statistics, BothEndsCountTheSame) {
  SimOptions options;
  options.layout.slots = 8;
  options.layout.slot_size = 1024;
  options.layout.eager_limit = 992;
  options.layout.stream_window = 8192;
  options.layout.bulk_links = 2;
  SimWorld world(options, 1);
  for (uint32_t i = 0; i < options.layout.links(); ++i) world.Connect(i);
  Stream* const from = *world.core(0).OpenStream(MessageClass::kBulk, "s");
  constexpr size_t kEach = 20;
  std::vector<std::byte> bytes(50'000);
  std::array<SendOperation, 2 * kEach> sends;
  std::array<ReceiveOperation, 2 * kEach> receives;
  uint64_t sum = 0;
  for (size_t i = 0; i < sends.size(); ++i) {
    const size_t size = i % 2 == 0 ? 10 * i : 1000 * i;
    sum += size;
    sends[i].set_piece({.bytes = std::span(bytes).first(size)});
    from->Send(sends[i]);
  }
  Stream* to = nullptr;
  ASSERT_TRUE(world.Run([&] {
    return (to = world.core(1).AcceptStream()) != nullptr;
  })) << world.fault();
  for (ReceiveOperation& each : receives) {
    each.OnDone(
        [](Operation& operation, void*) {
          static_cast<ReceiveOperation&>(operation).message().Drop();
        },
        nullptr);
    to->Receive(each);
  }
  world.Run([] { return false; });
  ASSERT_EQ(world.fault(), "");
  const SessionStatistics a = world.core(0).Statistics(world.now());
  const SessionStatistics b = world.core(1).Statistics(world.now());
  EXPECT_EQ(a.bulk.sent.messages, sends.size());
  EXPECT_EQ(a.bulk.sent.bytes, sum);
  EXPECT_EQ(a.latency.sent.messages, 0u);
  EXPECT_EQ(b.bulk.received.messages, sends.size());
  EXPECT_EQ(b.bulk.received.bytes, sum);
  EXPECT_EQ(a.bulk.send_latency.count, sends.size());
  EXPECT_GT(a.bulk.send_latency.min, Duration::zero());
  const StreamStatistics stream = from->Statistics(world.now());
  EXPECT_EQ(stream.sent.messages, sends.size());
  EXPECT_EQ(stream.sent.bytes, sum);
  EXPECT_EQ(to->Statistics(world.now()).received.bytes, sum);
  uint64_t written = 0;
  for (size_t i = 0; i < options.layout.links(); ++i) {
    const ConnectionStatistics& ours = a.connections[i];
    const ConnectionStatistics& theirs = b.connections[i];
    EXPECT_EQ(ours.frames_sent, theirs.frames_received);
    EXPECT_EQ(ours.frames_received, theirs.frames_sent);
    EXPECT_EQ(ours.bytes_sent, theirs.bytes_received);
    EXPECT_EQ(ours.bytes_received, theirs.bytes_sent);
    EXPECT_EQ(theirs.packets_sent, ours.packets_received);
    EXPECT_EQ(ours.under_way, 0u);
    EXPECT_EQ(ours.made, 1u);
    EXPECT_EQ(ours.lost, 0u);
    written += ours.bytes_written;
  }
  uint64_t large = 0;
  for (size_t i = 1; i < sends.size(); i += 2) {
    large += sends[i].size() > options.layout.eager_limit ? sends[i].size() : 0;
  }
  EXPECT_EQ(written, large);
  from->Close();
  to->Close();
}

}  // namespace
}  // namespace nd::transport
