// Regions of the peer's: what is checked, posted, done again and refused.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "transport/session/lone_session.h"

namespace nd::transport {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kBase = 0x10000;
constexpr uint64_t kSize = 64 << 20;

RemoteRegion MakeRegion(RegionAccess access = {
                            .read = true, .write = true, .atomic = true}) {
  auto region = std::make_shared<PeerRegion>();
  region->id = 77;
  region->address = kBase;
  region->size = kSize;
  region->rkey = 0xabc;
  region->access = access;
  return RemoteRegion(std::move(region));
}

Stream& OpenStream(LoneSession& session) {
  return **session.core().OpenStream(MessageClass::kLatency, "s");
}

size_t Notifies(const LoneSession& session) {
  return static_cast<size_t>(
      std::ranges::count_if(session.sent(), [](const LoneSession::Sent& sent) {
        return sent.header.type == FrameType::kNotify;
      }));
}

TEST(Access, ReadsIntoACopyThatComesBackWhenItIsDone) {
  LoneSession session;
  std::array<std::byte, 100> into{};
  AccessOperation read;
  read.set_read(MakeRegion(), 0x30, {into});
  session.core().StartAccess(read);
  session.Pump();
  ASSERT_EQ(session.reads().size(), 1u);
  const LoneSession::Fetched& fetched = session.reads()[0];
  EXPECT_EQ(fetched.from.address, kBase + 0x30);
  EXPECT_EQ(fetched.from.rkey, 0xabcu);
  EXPECT_EQ(fetched.into.length, into.size());
  EXPECT_FALSE(read.done());
  std::memset(fetched.into.data, 0x5a, fetched.into.length);
  session.Complete(fetched.link);
  ASSERT_TRUE(read.done());
  EXPECT_TRUE(read.status().ok()) << read.status();
  for (const std::byte each : into) ASSERT_EQ(each, std::byte{0x5a});
}

TEST(Access, RegisteredMemoryIsUsedWhereItLies) {
  LoneSession session;
  std::array<std::byte, 8> bytes{};
  AccessOperation read;
  read.set_read(MakeRegion(), 0, {bytes, 9, true});
  session.core().StartAccess(read);
  session.Pump();
  ASSERT_EQ(session.reads().size(), 1u);
  EXPECT_EQ(session.reads()[0].into.data, bytes.data());
  EXPECT_EQ(session.reads()[0].into.lkey, 9u);
  session.Complete(session.reads()[0].link);
  EXPECT_TRUE(read.done());
}

TEST(Access, LongRangesAreRegisteredAndGoInChunksByTheBulkClass) {
  LoneSession session;
  std::vector<std::byte> bytes(5 << 20);
  AccessOperation write;
  write.set_write(MakeRegion(), 64, {.bytes = bytes});
  session.core().StartAccess(write);
  session.Pump();
  uint64_t next = kBase + 64;
  for (const LoneSession::Written& each : session.writes()) {
    EXPECT_EQ(each.link, 1u);
    EXPECT_EQ(each.to.address, next);
    EXPECT_FALSE(each.immediate);
    next += each.length;
  }
  EXPECT_EQ(next, kBase + 64 + bytes.size());
  session.Complete(1);
  ASSERT_TRUE(write.done());
  EXPECT_TRUE(write.status().ok());
  EXPECT_EQ(session.core().Statistics(session.now()).accesses.bytes,
            bytes.size());
}

TEST(Access, AtomicsCarryTheirOperandsAndBringTheOldValue) {
  LoneSession session;
  AccessOperation add, swap;
  add.set_fetch_add(MakeRegion(), 8, 5);
  swap.set_compare_swap(MakeRegion(), 16, 6, 7);
  session.core().StartAccess(add);
  session.core().StartAccess(swap);
  session.Pump();
  ASSERT_EQ(session.reads().size(), 2u);
  ASSERT_TRUE(session.reads()[0].atomic);
  EXPECT_FALSE(session.reads()[0].atomic->compare);
  EXPECT_EQ(session.reads()[0].atomic->compare_add, 5u);
  ASSERT_TRUE(session.reads()[1].atomic);
  EXPECT_TRUE(session.reads()[1].atomic->compare);
  EXPECT_EQ(session.reads()[1].atomic->compare_add, 6u);
  EXPECT_EQ(session.reads()[1].atomic->swap, 7u);
  const uint64_t old = 41;
  std::memcpy(session.reads()[0].into.data, &old, sizeof(old));
  session.Complete(0);
  EXPECT_EQ(add.value(), 41u);
}

TEST(Access, WhatTheRegionDoesNotAllowIsNotPosted) {
  LoneSession session;
  const auto end_of = [&](AccessOperation& operation) {
    session.core().StartAccess(operation);
    session.Pump();
    EXPECT_TRUE(operation.done());
    return operation.status().code();
  };
  std::array<std::byte, 16> bytes{};
  AccessOperation operation;
  operation.set_read(MakeRegion(), kSize - 8, {bytes});
  EXPECT_EQ(end_of(operation), absl::StatusCode::kOutOfRange);
  operation.set_read(MakeRegion(), ~uint64_t{0} - 4, {bytes});
  EXPECT_EQ(end_of(operation), absl::StatusCode::kOutOfRange);
  operation.set_write(MakeRegion({}), 0, {.bytes = bytes});
  EXPECT_EQ(end_of(operation), absl::StatusCode::kPermissionDenied);
  operation.set_read(MakeRegion({.read = false, .write = true}), 0, {bytes});
  EXPECT_EQ(end_of(operation), absl::StatusCode::kPermissionDenied);
  operation.set_fetch_add(MakeRegion({}), 0, 1);
  EXPECT_EQ(end_of(operation), absl::StatusCode::kPermissionDenied);
  operation.set_fetch_add(MakeRegion(), 4, 1);
  EXPECT_EQ(end_of(operation), absl::StatusCode::kInvalidArgument);
  operation.set_read({}, 0, {bytes});
  EXPECT_EQ(end_of(operation), absl::StatusCode::kInvalidArgument);
  auto withdrawn = std::make_shared<PeerRegion>();
  withdrawn->size = kSize;
  withdrawn->withdrawn = true;
  operation.set_read(RemoteRegion(withdrawn), 0, {bytes});
  EXPECT_EQ(end_of(operation), absl::StatusCode::kNotFound);
  EXPECT_TRUE(session.reads().empty());
  EXPECT_TRUE(session.writes().empty());
}

TEST(Access, ConnectionsWithoutReadsSaySo) {
  LoneSession session;
  session.read_depth = 0;
  AccessOperation add;
  add.set_fetch_add(MakeRegion(), 0, 1);
  session.core().StartAccess(add);
  session.Pump();
  ASSERT_TRUE(add.done());
  EXPECT_TRUE(absl::IsFailedPrecondition(add.status())) << add.status();
}

TEST(Access, NoMoreReadsAreUnderWayThanTheConnectionTakes) {
  LoneSession session;
  std::array<AccessOperation, 6> reads;
  std::array<std::byte, 8> into{};
  for (AccessOperation& read : reads) {
    read.set_read(MakeRegion(), 0, {into});
    session.core().StartAccess(read);
  }
  session.Pump();
  EXPECT_EQ(session.reads().size(), session.read_depth);
  session.Complete(0);
  EXPECT_EQ(session.reads().size(), reads.size());
  session.Complete(0);
  for (const AccessOperation& read : reads) EXPECT_TRUE(read.done());
}

TEST(Access, WhatIsCancelledBeforeItHasAPlaceEndsAtOnce) {
  LoneSession session;
  std::array<std::byte, 8> into{};
  std::array<AccessOperation, 40> reads;
  for (AccessOperation& read : reads) {
    read.set_read(MakeRegion(), 0, {into});
    session.core().StartAccess(read);
  }
  session.Pump();
  session.core().CancelAccess(reads.back(), absl::CancelledError("enough"));
  session.Pump();
  EXPECT_TRUE(reads.back().done());
  EXPECT_TRUE(absl::IsCancelled(reads.back().status()));
  for (int i = 0; i < 20; ++i) session.Complete(0);
  for (const AccessOperation& read : reads) EXPECT_TRUE(read.done());
}

TEST(Access, TheMemoryOfACancelledReadStaysTheSessionsUntilItIsDone) {
  LoneSession session;
  std::array<std::byte, 8> copied{}, registered{};
  AccessOperation by_copy, in_place;
  by_copy.set_read(MakeRegion(), 0, {copied});
  by_copy.set_deadline(session.now() + milliseconds(5));
  in_place.set_read(MakeRegion(), 0, {registered, 9, true});
  in_place.set_deadline(session.now() + milliseconds(5));
  session.core().StartAccess(by_copy);
  session.core().StartAccess(in_place);
  session.Pump();
  session.Wait(milliseconds(10));
  EXPECT_TRUE(by_copy.done());
  EXPECT_TRUE(absl::IsDeadlineExceeded(by_copy.status()));
  EXPECT_FALSE(in_place.done());
  std::memset(session.reads()[0].into.data, 1, 8);
  session.Complete(0);
  ASSERT_TRUE(in_place.done());
  EXPECT_TRUE(absl::IsDeadlineExceeded(in_place.status()));
  EXPECT_EQ(copied[0], std::byte{0});
}

TEST(Access, ARefusedOneEndsAndTheOthersAreDoneAgain) {
  LoneSession session;
  std::array<std::byte, 8> into{};
  AccessOperation good, bad;
  good.set_read(MakeRegion(), 0, {into});
  bad.set_read(MakeRegion(), 8, {into});
  session.core().StartAccess(good);
  session.core().StartAccess(bad);
  session.Pump();
  session.Refuse(0, absl::InternalError("remote access error"));
  // Settled once the peer says what has come.
  session.GivePayload(1, {.type = FrameType::kGone},
                      Gone{.link = 0, .incarnation = 0, .received = 0});
  ASSERT_TRUE(bad.done());
  EXPECT_TRUE(absl::IsPermissionDenied(bad.status())) << bad.status();
  EXPECT_FALSE(good.done());
  ASSERT_EQ(session.reads().size(), 3u);
  EXPECT_EQ(session.reads()[2].link, 1u);
  EXPECT_EQ(session.reads()[2].from.address, kBase);
  session.Complete(1);
  EXPECT_TRUE(good.done());
  EXPECT_TRUE(good.status().ok());
}

TEST(Access, AnAtomicOfALostConnectionIsNotDoneAgain) {
  LoneSession session;
  AccessOperation add;
  add.set_fetch_add(MakeRegion(), 0, 1);
  session.core().StartAccess(add);
  session.Pump();
  session.Lose(0);
  session.GivePayload(1, {.type = FrameType::kGone},
                      Gone{.link = 0, .incarnation = 0, .received = 0});
  ASSERT_TRUE(add.done());
  EXPECT_TRUE(absl::IsUnknown(add.status())) << add.status();
  EXPECT_EQ(session.reads().size(), 1u);
}

TEST(Access, TheEndOfTheSessionEndsIt) {
  LoneSession session;
  std::array<std::byte, 8> into{};
  std::array<AccessOperation, 40> reads;
  for (AccessOperation& read : reads) {
    read.set_read(MakeRegion(), 0, {into, 9, true});
    session.core().StartAccess(read);
  }
  session.Pump();
  session.core().Fail(absl::AbortedError("over"));
  session.Pump();
  for (const AccessOperation& read : reads) {
    ASSERT_TRUE(read.done());
    EXPECT_TRUE(absl::IsAborted(read.status()));
  }
  AccessOperation late;
  late.set_read(MakeRegion(), 0, {into});
  session.core().StartAccess(late);
  session.Pump();
  EXPECT_TRUE(late.done());
}

TEST(Access, AGoodbyeWaitsForIt) {
  LoneSession session;
  std::array<std::byte, 8> into{};
  AccessOperation read, late;
  read.set_read(MakeRegion(), 0, {into});
  session.core().StartAccess(read);
  session.core().Goodbye();
  session.Pump();
  const auto said = [&] {
    return std::ranges::any_of(session.sent(), [](const auto& sent) {
      return sent.header.type == FrameType::kGoodbye;
    });
  };
  EXPECT_FALSE(said());
  late.set_read(MakeRegion(), 0, {into});
  session.core().StartAccess(late);
  session.Pump();
  EXPECT_TRUE(absl::IsFailedPrecondition(late.status()));
  session.Complete(0);
  EXPECT_TRUE(read.done());
  EXPECT_TRUE(said());
}

TEST(WriteWithImmediate, SendsTheNotificationBehindTheWriteOnItsLink) {
  LoneSession session;
  Stream& stream = OpenStream(session);
  std::vector<std::byte> bytes(3000);
  AccessOperation write;
  write.set_write(MakeRegion(), 0x100, {.bytes = bytes});
  write.set_immediate(42);
  stream.WriteWithImmediate(write);
  session.Pump();
  ASSERT_EQ(session.writes().size(), 1u);
  EXPECT_EQ(session.writes()[0].link, 0u);
  EXPECT_EQ(session.writes()[0].length, bytes.size());
  ASSERT_EQ(Notifies(session), 1u);
  const LoneSession::Sent& sent = session.sent().back();
  EXPECT_EQ(sent.link, 0u);
  EXPECT_EQ(sent.header.stream, stream.id());
  const auto notify = Notify::Parse(sent.payload);
  ASSERT_TRUE(notify);
  EXPECT_EQ(*notify, (Notify{.region = 77,
                             .offset = 0x100,
                             .size = bytes.size(),
                             .immediate = 42}));
  EXPECT_FALSE(write.done());
  session.Complete(0);
  EXPECT_TRUE(write.done());
  EXPECT_TRUE(write.status().ok());
}

TEST(WriteWithImmediate, IsWrittenAgainWhereItsNotificationGoesByAnotherLink) {
  LoneSession session;
  Stream& stream = OpenStream(session);
  std::array<std::byte, 64> bytes{};
  AccessOperation write;
  write.set_write(MakeRegion(), 0, {.bytes = bytes});
  stream.WriteWithImmediate(write);
  session.Pump();
  session.Lose(0);
  // The stream's Open has come, and the write may have; its word has not.
  session.GivePayload(1, {.type = FrameType::kGone},
                      Gone{.link = 0, .incarnation = 0, .received = 0});
  ASSERT_EQ(session.writes().size(), 2u);
  EXPECT_EQ(session.writes()[1].link, 1u);
  EXPECT_EQ(Notifies(session), 2u);
  EXPECT_EQ(session.sent().back().link, 1u);
  session.Complete(1);
  EXPECT_TRUE(write.done());
}

TEST(WriteWithImmediate, WaitsUntilWhatALostLinkCarriedCannotComeAnyMore) {
  LoneSession session;
  Stream& stream = OpenStream(session);
  session.Pump();
  session.Complete(0);
  std::vector<std::byte> bytes(20 << 20);  // more than the link takes at once
  AccessOperation write;
  write.set_write(MakeRegion(), 0, {.bytes = {bytes}, .registered = true});
  stream.WriteWithImmediate(write);
  session.Pump();
  const size_t before = session.writes().size();
  EXPECT_GT(before, 0u);
  EXPECT_EQ(Notifies(session), 0u);
  session.Lose(0);
  session.Wait(milliseconds(1));
  EXPECT_EQ(session.writes().size(), before);
  session.GivePayload(1, {.type = FrameType::kGone},
                      Gone{.link = 0, .incarnation = 0, .received = 1});
  ASSERT_GT(session.writes().size(), before);
  EXPECT_EQ(session.writes()[before].to.address, kBase);
  for (int i = 0; i < 5; ++i) session.Complete(1);
  EXPECT_TRUE(write.done());
  EXPECT_EQ(Notifies(session), 1u);
}

TEST(WriteWithImmediate, ARefusedOneLeavesTheStreamWithoutAHole) {
  LoneSession session;
  Stream& stream = OpenStream(session);
  session.Pump();
  session.Complete(0);
  std::array<std::byte, 64> bytes{};
  AccessOperation write;
  SendOperation behind;
  write.set_write(MakeRegion(), 0, {.bytes = bytes});
  behind.set_piece({.bytes = bytes});
  stream.WriteWithImmediate(write);
  session.Pump();
  stream.Send(behind);
  session.Pump();
  // The requests of the link: Open's packet, the write, its word, the message.
  session.core().OnRefused(0, 1, absl::InternalError("remote access error"));
  session.Lose(0);
  session.GivePayload(1, {.type = FrameType::kGone},
                      Gone{.link = 0, .incarnation = 0, .received = 1});
  ASSERT_TRUE(write.done());
  EXPECT_TRUE(absl::IsPermissionDenied(write.status())) << write.status();
  EXPECT_EQ(session.writes().size(), 1u);
  // In the place of its word comes a frame that says nothing.
  std::vector<FrameType> types;
  for (const LoneSession::Sent& sent : session.sent()) {
    if (sent.link == 1 && IsSequenced(sent.header.type)) {
      types.push_back(sent.header.type);
    }
  }
  EXPECT_EQ(types, (std::vector{FrameType::kWindow, FrameType::kMessage}));
  session.Complete(1);
  EXPECT_TRUE(behind.done());
  EXPECT_TRUE(behind.status().ok());
}

TEST(WriteWithImmediate, OnlyAWriteIsNotified) {
  LoneSession session;
  Stream& stream = OpenStream(session);
  AccessOperation add;
  add.set_fetch_add(MakeRegion(), 0, 1);
  stream.WriteWithImmediate(add);
  session.Pump();
  EXPECT_TRUE(absl::IsInvalidArgument(add.status()));
}

TEST(WriteWithImmediate, ManyThatFailAtOnceEndEachAndTheirStreamGoesOn) {
  LoneSession session;
  Stream& stream = OpenStream(session);
  std::array<std::byte, 3000> bytes{};
  auto state = std::make_shared<PeerRegion>();
  state->size = kSize;
  state->access.write = true;
  std::vector<std::unique_ptr<AccessOperation>> writes;
  for (int i = 0; i < 20000; ++i) {
    auto& write = *writes.emplace_back(std::make_unique<AccessOperation>());
    write.set_write(RemoteRegion(state), 0, {.bytes = bytes});
    stream.WriteWithImmediate(write);
  }
  state->withdrawn = true;
  SendOperation behind;
  behind.set_piece({.bytes = std::span(bytes).first(8)});
  stream.Send(behind);
  for (int i = 0; i < 20; ++i) {
    session.Pump();
    session.Complete(0);
  }
  for (const auto& write : writes) ASSERT_TRUE(write->done());
  EXPECT_TRUE(absl::IsNotFound(writes.back()->status()));
  EXPECT_TRUE(behind.done());
}

TEST(WriteWithImmediate, CancelledBehindAClosedWindowItMakesWayForOthers) {
  LoneSession session;
  Stream& stream = OpenStream(session);
  std::array<std::byte, 900> large{};
  std::array<SendOperation, 3> fill;
  for (SendOperation& each : fill) {
    each.set_piece({.bytes = large});
    stream.Send(each);
  }
  session.Pump();
  // 628 of the window are left: one notified write, not two.
  AccessOperation first, second, third;
  for (AccessOperation* each : {&first, &second, &third}) {
    each->set_write(MakeRegion(), 0, {.bytes = {large.data(), 8}});
    stream.WriteWithImmediate(*each);
  }
  session.Pump();
  session.Complete(0);
  EXPECT_TRUE(first.done());
  EXPECT_TRUE(second.done());
  EXPECT_FALSE(third.done());
  EXPECT_EQ(session.writes().size(), 2u);
  stream.Cancel(third);
  session.Pump();
  EXPECT_TRUE(third.done());
  EXPECT_TRUE(absl::IsCancelled(third.status()));
}

TEST(Notification, ComesInItsPlaceAmongTheMessages) {
  LoneSession session;
  const uint32_t id = StreamId{.number = 1,
                               .message_class = MessageClass::kLatency,
                               .by_client = true}
                          .Encode();
  const FrameHeader header{.stream = id, .window = 4096};
  const auto frame = [&](FrameType type) {
    FrameHeader its = header;
    its.type = type;
    return its;
  };
  std::array<std::byte, 5> bytes{};
  session.Give(0, frame(FrameType::kOpen));
  session.Give(0, frame(FrameType::kMessage), bytes);
  const Notify notify{.region = 3, .offset = 4, .size = 5, .immediate = 6};
  session.GivePayload(0, frame(FrameType::kNotify), notify);
  session.GivePayload(0, frame(FrameType::kNotify), notify);
  session.Give(0, frame(FrameType::kMessage), bytes);
  Stream* const stream = session.core().AcceptStream();
  ASSERT_NE(stream, nullptr);
  std::array<ReceiveOperation, 4> receives;
  std::array<std::byte, 5> into{};
  receives[2].set_into({.bytes = std::span(into).first(1)});
  for (ReceiveOperation& each : receives) stream->Receive(each);
  session.Pump();
  for (ReceiveOperation& each : receives) ASSERT_TRUE(each.done());
  EXPECT_FALSE(receives[0].message().notification());
  for (const size_t i : {1u, 2u}) {
    const auto& got = receives[i].message().notification();
    ASSERT_TRUE(got) << i;
    EXPECT_EQ(got->region, 3u);
    EXPECT_EQ(got->offset, 4u);
    EXPECT_EQ(got->size, 5u);
    EXPECT_EQ(got->immediate, 6u);
    EXPECT_EQ(receives[i].size(), 0u);
  }
  EXPECT_EQ(receives[3].size(), bytes.size());
  for (ReceiveOperation& each : receives) each.message().Drop();
  // All that they cost is given back.
  EXPECT_FALSE(session.ended());
}

}  // namespace
}  // namespace nd::transport
