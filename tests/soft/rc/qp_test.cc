#include "soft/rc/qp.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "soft/rc/bench.h"

namespace nd::soft {
namespace {

constexpr QpState kStates[] = {QpState::kReset, QpState::kInit, QpState::kRtr,
                               QpState::kRts,   QpState::kSqd,  QpState::kSqe,
                               QpState::kErr};

class QpTest : public testing::Test {
 protected:
  explicit QpTest(Transport transport = Transport::kRc)
      : qp_({.transport = transport, .number = kHere, .send_depth = 4},
            {.memory = memory_,
             .receives = receives_,
             .completions = completions_}) {
    attributes_ = {.access = kAllAccess,
                   .mtu_bytes = kMtu,
                   .qkey = Qkey(0x1234),
                   .destination = kThere,
                   .receive_psn = kBasePsn,
                   .max_dest_rd_atomic = 1,
                   .send_psn = kBasePsn,
                   .max_rd_atomic = 1,
                   .retry_cnt = 0,
                   .ack_timeout = 8};
  }

  bool Move(QpState to) { return qp_.Modify(to, attributes_); }
  void MoveTo(QpState to) {
    for (const QpState state :
         {QpState::kInit, QpState::kRtr, QpState::kRts, QpState::kSqd}) {
      ASSERT_TRUE(Move(state));
      if (state == to) return;
    }
  }
  PostResult Post(uint64_t wr_id, ibv_wc_status fault = IBV_WC_SUCCESS) {
    return qp_.Post({.wr_id = wr_id, .signaled = true, .fault = fault});
  }
  std::string After(const Packet& packet) {
    qp_.OnPacket(packet, now_);
    return Sent();
  }
  std::string Sent() {
    qp_.Transmit(now_, outbox_);
    return outbox_.Take();
  }

  QpAttributes attributes_;
  BenchMemory memory_;
  BenchReceives receives_;
  BenchCompletions completions_;
  BenchOutbox outbox_;
  Instant now_{};
  Qp qp_;
};

class UcTest : public QpTest {
 protected:
  UcTest() : QpTest(Transport::kUc) { MoveTo(QpState::kRts); }
};

class UdTest : public QpTest {
 protected:
  UdTest() : QpTest(Transport::kUd) { MoveTo(QpState::kRts); }

  Packet Datagram(size_t bytes, Qkey qkey = Qkey(0x1234)) {
    Packet packet = Message(Opcode::kUdSendOnly, 77, bytes);
    packet.deth = {.qkey = qkey, .source = Qpn(5)};
    return packet;
  }
};

// ---- States

TEST(QpStates, MoveAsTheChartHasIt) {
  std::string allowed;
  for (const QpState from : kStates) {
    for (const QpState to : kStates) {
      allowed += MayMove(Transport::kRc, from, to) ? 'x' : '.';
    }
    allowed += ' ';
  }
  //          RESET   INIT    RTR     RTS     SQD     SQE     ERR
  EXPECT_EQ(allowed,
            "xx....x xxx...x x..x..x x..xx.x x..xx.x x.....x x.....x ");
  EXPECT_TRUE(MayMove(Transport::kUd, QpState::kSqe, QpState::kRts));
}

TEST_F(QpTest, StepThatIsNotAllowedChangesNothing) {
  EXPECT_FALSE(Move(QpState::kRts));
  EXPECT_EQ(qp_.state(), QpState::kReset);
}

TEST_F(QpTest, SendsAreRefusedBeforeRts) {
  MoveTo(QpState::kRtr);
  EXPECT_EQ(Post(1), PostResult::kWrongState);
  ASSERT_TRUE(Move(QpState::kRts));
  EXPECT_EQ(Post(1), PostResult::kPosted);
}

TEST_F(QpTest, FullSendQueueRefuses) {
  MoveTo(QpState::kRts);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Post(1), PostResult::kPosted);
  EXPECT_EQ(Post(1), PostResult::kFull);
}

TEST_F(QpTest, RequestsAreServedFromRtrOnAndTheFirstIsTold) {
  receives_.Post(1, 10);
  receives_.Post(2, 10);
  EXPECT_EQ(After(WithAckReq(Message(Opcode::kRcSendOnly, 0))), "");
  MoveTo(QpState::kRtr);
  EXPECT_EQ(After(WithAckReq(Message(Opcode::kRcSendOnly, 0))), "ACK+0 msn 1");
  After(Message(Opcode::kRcSendOnly, 1));
  EXPECT_EQ(completions_.Take(), "event 4, recv 1 ok 0, recv 2 ok 0");
}

TEST_F(QpTest, AnswerBeforeRtsIsNoFirstPacket) {
  MoveTo(QpState::kRtr);
  After(Acknowledge(0));
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(QpTest, FirstPacketIsToldAgainAfterReset) {
  receives_.Post(1, 10);
  receives_.Post(2, 10);
  for (const char* const told :
       {"event 4, recv 1 ok 0", "event 4, recv 2 ok 0"}) {
    ASSERT_TRUE(Move(QpState::kReset));
    MoveTo(QpState::kRtr);
    After(Message(Opcode::kRcSendOnly, 0));
    EXPECT_EQ(completions_.Take(), told);
  }
}

TEST_F(QpTest, WhatIsForAnotherIsDropped) {
  MoveTo(QpState::kRts);
  Packet other_transport = Message(Opcode::kUcSendOnly, 0);
  EXPECT_EQ(After(other_transport), "");
  Packet other_qp = Message(Opcode::kRcSendOnly, 0);
  other_qp.bth.destination = kThere;
  EXPECT_EQ(After(other_qp), "");
}

TEST_F(QpTest, PartitionKeysMustMatchAndOneBeAFullMember) {
  MoveTo(QpState::kRts);
  Packet packet = Message(Opcode::kRcSendOnly, 1);
  for (const uint16_t pkey : {0x8001, 0x1234, 0x0000}) {
    packet.bth.pkey = pkey;
    EXPECT_EQ(After(packet), "") << pkey;
  }
  packet.bth.pkey = 0x7fff;
  EXPECT_EQ(After(packet), "NAK 0+0 msn 0");
  attributes_.pkey = 0x8000;  // of no partition
  ASSERT_TRUE(Move(QpState::kRts));
  packet = Message(Opcode::kRcSendOnly, 0);
  packet.bth.pkey = 0x8000;
  EXPECT_EQ(After(packet), "");
  attributes_.pkey = 0x7fff;
  ASSERT_TRUE(Move(QpState::kRts));
  receives_.Post(1, 10);
  packet = WithAckReq(Message(Opcode::kRcSendOnly, 0));
  packet.bth.pkey = 0x7fff;
  EXPECT_EQ(After(packet), "");
}

TEST_F(QpTest, ErrorFlushesSendsThenReceives) {
  MoveTo(QpState::kRts);
  receives_.Post(5, 10);
  receives_.Post(6, 10);
  Post(1);
  Post(2);
  ASSERT_TRUE(Move(QpState::kErr));
  EXPECT_EQ(completions_.Take(),
            "send 1 status 5, send 2 status 5, recv 5 status 5, "
            "recv 6 status 5");
}

TEST_F(QpTest, ReceiveInProgressIsFlushedFirst) {
  MoveTo(QpState::kRts);
  receives_.Post(5, 1000);
  receives_.Post(6, 10);
  After(Message(Opcode::kRcSendFirst, 0, kMtu));
  ASSERT_TRUE(Move(QpState::kErr));
  EXPECT_EQ(completions_.Take(), "recv 5 status 5, recv 6 status 5");
}

TEST_F(QpTest, SharedReceivesAreNotFlushedAndTheLastIsTold) {
  receives_.is_shared = true;
  MoveTo(QpState::kRts);
  receives_.Post(5, 10);
  ASSERT_TRUE(Move(QpState::kErr));
  EXPECT_EQ(completions_.Take(), "event 16");
  ASSERT_TRUE(Move(QpState::kErr));
  EXPECT_EQ(completions_.Take(), "");
  EXPECT_TRUE(receives_.Take().has_value());
}

TEST_F(QpTest, LastSharedReceiveOfAFailedQueuePairIsToldOnce) {
  receives_.is_shared = true;
  MoveTo(QpState::kRts);
  Post(1, IBV_WC_LOC_PROT_ERR);
  Sent();
  Sent();
  EXPECT_EQ(completions_.Take(), "send 1 status 4, event 16");
}

TEST_F(QpTest, NothingIsDueOrSentInError) {
  MoveTo(QpState::kRts);
  Post(1);
  EXPECT_EQ(Sent(), "SEND ONLY+0 len 0 A");
  ASSERT_TRUE(qp_.NextDeadline());
  ASSERT_TRUE(Move(QpState::kErr));
  EXPECT_EQ(qp_.NextDeadline(), std::nullopt);
  now_ += std::chrono::seconds(1);
  qp_.OnTimer(now_);
  EXPECT_EQ(Sent(), "");
  EXPECT_EQ(completions_.Take(), "send 1 status 5");
}

TEST_F(QpTest, WorkPostedInErrorIsFlushed) {
  ASSERT_TRUE(Move(QpState::kErr));
  EXPECT_EQ(Post(1), PostResult::kPosted);
  receives_.Post(5, 10);
  qp_.OnReceivePosted();
  EXPECT_EQ(completions_.Take(), "send 1 status 5, recv 5 status 5");
}

TEST_F(QpTest, FatalNakLeavesAfterTheQueuePairIsInError) {
  MoveTo(QpState::kRts);
  Post(1);
  receives_.Post(5, 10);
  outbox_.limit = 0;
  After(Message(Opcode::kRcSendLast, 0, 4));
  EXPECT_EQ(qp_.state(), QpState::kErr);
  EXPECT_EQ(completions_.Take(), "event 2, send 1 status 5, recv 5 status 5");
  outbox_.limit = 9;
  EXPECT_EQ(Sent(), "NAK 1+0 msn 0");
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 0)), "");
}

TEST_F(QpTest, WhatThePeerDidWrongIsForgottenWithReset) {
  MoveTo(QpState::kRts);
  After(Message(Opcode::kRcSendLast, 0, 4));
  ASSERT_TRUE(Move(QpState::kReset));
  MoveTo(QpState::kRts);
  EXPECT_EQ(qp_.state(), QpState::kRts);
}

TEST_F(QpTest, ErrorThatWasAskedForEndsAnswersToo) {
  MoveTo(QpState::kRts);
  outbox_.limit = 0;
  After(ReadRequest(0, kAddress, 4));
  ASSERT_TRUE(Move(QpState::kErr));
  outbox_.limit = 9;
  EXPECT_EQ(Sent(), "");
}

TEST_F(QpTest, FailedSendTakesItToError) {
  MoveTo(QpState::kRts);
  Post(1);
  Post(2);
  Sent();
  receives_.Post(5, 10);
  now_ += AckTime(8);
  EXPECT_EQ(qp_.NextDeadline(), now_);
  qp_.OnTimer(now_);
  EXPECT_EQ(completions_.Take(),
            "send 1 status 12, send 2 status 5, recv 5 status 5");
  EXPECT_EQ(qp_.state(), QpState::kErr);
  EXPECT_EQ(qp_.NextDeadline(), std::nullopt);
}

TEST_F(QpTest, ResetForgetsWithoutAWord) {
  MoveTo(QpState::kRts);
  receives_.Post(5, 1000);
  Post(1);
  Sent();
  After(Message(Opcode::kRcSendFirst, 0, kMtu));
  ASSERT_TRUE(Move(QpState::kReset));
  EXPECT_EQ(completions_.Take(), "");
  MoveTo(QpState::kRts);
  receives_.Post(6, 10);
  EXPECT_EQ(After(WithAckReq(Message(Opcode::kRcSendOnly, 0, 4))),
            "ACK+0 msn 1");
  EXPECT_EQ(completions_.Take(), "recv 6 ok 4");
  Post(2);
  EXPECT_EQ(Sent(), "SEND ONLY+0 len 0 A");
}

TEST_F(QpTest, LongReadAndLongSendShareTheOutbox) {
  MoveTo(QpState::kRts);
  std::vector<std::byte> bytes = Pattern(4 * kMtu);
  const Segment segment = bytes;
  ASSERT_EQ(qp_.Post({.wr_id = 1, .segments = {&segment, 1}}),
            PostResult::kPosted);
  qp_.OnPacket(ReadRequest(0, kAddress, 4 * kMtu), now_);
  std::string sent;
  for (int i = 0; i < 4; ++i) {
    outbox_.limit = 1;
    sent += Sent() + ", ";
  }
  EXPECT_EQ(sent,
            "SEND FIRST+0 len 256, READ FIRST+0 msn 1 len 256, "
            "SEND MIDDLE+1 len 256, READ MIDDLE+1 len 256, ");
}

TEST_F(QpTest, DrainedSendQueueIsToldOnce) {
  MoveTo(QpState::kRts);
  Post(1);
  Sent();
  ASSERT_TRUE(Move(QpState::kSqd));
  EXPECT_EQ(completions_.Take(), "");
  After(Acknowledge(0));
  Sent();
  EXPECT_EQ(completions_.Take(), "send 1 ok, event 5");
  EXPECT_EQ(Post(2), PostResult::kPosted);
  EXPECT_EQ(Sent(), "");
  ASSERT_TRUE(Move(QpState::kRts));
  EXPECT_EQ(Sent(), "SEND ONLY+1 len 0 A");
}

TEST_F(QpTest, DrainedIsToldAgainTheNextTime) {
  MoveTo(QpState::kSqd);
  ASSERT_TRUE(Move(QpState::kSqd));
  ASSERT_TRUE(Move(QpState::kRts));
  ASSERT_TRUE(Move(QpState::kSqd));
  EXPECT_EQ(completions_.Take(), "event 5, event 5");
}

TEST_F(QpTest, OnlyTheNextPermittedMessageBegins) {
  const Reth reth{.address = kAddress, .rkey = kKey, .length = kMtu + 1};
  const auto first = [&reth](uint32_t psn) {
    return WriteRequest(Opcode::kRcWriteFirst, psn, kMtu, reth);
  };
  EXPECT_FALSE(qp_.BeginsPayload(first(0)));
  MoveTo(QpState::kRts);
  EXPECT_TRUE(qp_.BeginsPayload(first(0)));
  EXPECT_FALSE(qp_.BeginsPayload(first(1)));
  EXPECT_TRUE(qp_.BeginsPayload(Message(Opcode::kRcSendFirst, 0, kMtu)));
  EXPECT_FALSE(qp_.BeginsPayload(Message(Opcode::kRcSendFirst, 1, kMtu)));
  After(first(0));
  EXPECT_FALSE(qp_.BeginsPayload(first(0)));
  EXPECT_FALSE(qp_.BeginsPayload(first(1)));
  EXPECT_FALSE(
      qp_.BeginsPayload(WriteRequest(Opcode::kRcWriteLast, 1, 1, reth)));
  After(WriteRequest(Opcode::kRcWriteLast, 1, 1, reth));
  EXPECT_TRUE(qp_.BeginsPayload(first(2)));
  attributes_.access = IBV_ACCESS_REMOTE_READ;
  ASSERT_TRUE(Move(QpState::kRts));
  EXPECT_FALSE(qp_.BeginsPayload(first(2)));
  EXPECT_TRUE(qp_.BeginsPayload(Message(Opcode::kRcSendOnly, 2, 4)));
}

TEST_F(QpTest, AReceiveThatIsTakenAheadServesTheSend) {
  auto& bytes = receives_.Post(1, kMtu + 4);
  receives_.Post(2, 4);
  MoveTo(QpState::kRts);
  const Packet first = Message(Opcode::kRcSendFirst, 0, kMtu);
  EXPECT_EQ(qp_.PlaceOf(first, 0).length, 0u);
  ASSERT_TRUE(qp_.TakeReceive(first));
  const Slice place = qp_.PlaceOf(first, 0);
  EXPECT_EQ(place.length, kMtu);
  EXPECT_EQ(place.segments.front().data(), bytes.data());
  EXPECT_EQ(qp_.PlaceOf(first, 4).offset, 4u);
  EXPECT_EQ(qp_.PlaceOf(first, 5).length, 0u);
  After(first);
  After(Message(Opcode::kRcSendLast, 1, 4));
  After(Message(Opcode::kRcSendOnly, 2, 4));
  EXPECT_EQ(completions_.Take(),
            "recv 1 ok " + std::to_string(kMtu + 4) + ", recv 2 ok 4");
}

TEST_F(QpTest, NoReceiveIsTakenAheadForWhatIsRefused) {
  MoveTo(QpState::kRts);
  EXPECT_FALSE(qp_.TakeReceive(Message(Opcode::kRcSendOnly, 0, 4)));
  receives_.Post(1, 4);
  EXPECT_FALSE(qp_.TakeReceive(Message(Opcode::kRcSendFirst, 0, kMtu - 1)));
  EXPECT_FALSE(qp_.TakeReceive(Message(Opcode::kRcSendLast, 0, 4)));
  ASSERT_TRUE(qp_.TakeReceive(Message(Opcode::kRcSendOnly, 0, 4)));
  ASSERT_TRUE(Move(QpState::kErr));
  EXPECT_EQ(completions_.Take(), "recv 1 status 5");
}

TEST_F(QpTest, AnAnswerBelongsWhereItsReadIs) {
  attributes_.max_rd_atomic = 2;
  MoveTo(QpState::kRts);
  std::vector<std::byte> bytes(2 * kMtu);
  const Segment segment(bytes);
  const auto read = [&](uint64_t wr_id) {
    return qp_.Post({.wr_id = wr_id,
                     .operation = Operation::kRead,
                     .signaled = true,
                     .segments = {&segment, 1}});
  };
  ASSERT_EQ(read(1), PostResult::kPosted);
  ASSERT_EQ(read(2), PostResult::kPosted);
  const Packet first = ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu);
  const Packet last = ReadResponse(Opcode::kRcReadResponseLast, 1, kMtu);
  EXPECT_FALSE(qp_.BeginsPayload(first));  // nothing was asked
  EXPECT_EQ(qp_.PlaceOf(first, 0).length, 0u);
  Sent();
  EXPECT_TRUE(qp_.BeginsPayload(first));
  EXPECT_FALSE(qp_.BeginsPayload(last));
  EXPECT_EQ(qp_.PlaceOf(last, 0).offset, kMtu);
  EXPECT_EQ(qp_.PlaceOf(last, 0).length, kMtu);
  // The second READ waits for the first.
  const Packet next = ReadResponse(Opcode::kRcReadResponseFirst, 2, kMtu);
  EXPECT_FALSE(qp_.BeginsPayload(next));
  EXPECT_EQ(qp_.PlaceOf(next, 0).length, 0u);
  After(first);
  After(last);
  EXPECT_TRUE(qp_.BeginsPayload(next));
  EXPECT_FALSE(qp_.BeginsPayload(first));  // answered already
}

// ---- UC

TEST_F(UcTest, AnyFirstPacketBeginsAWrite) {
  Packet first = Message(Opcode::kUcWriteOnly, 7, 4);
  EXPECT_TRUE(qp_.BeginsPayload(first));
  first.bth.opcode = Opcode::kUcWriteLast;
  EXPECT_FALSE(qp_.BeginsPayload(first));
}

TEST_F(UcTest, WorkCompletesWithItsLastPacket) {
  std::vector<std::byte> bytes = Pattern(kMtu + 1);
  const Segment segment = bytes;
  SendWork work{.wr_id = 1, .signaled = true, .segments = {&segment, 1}};
  outbox_.limit = 1;
  ASSERT_EQ(qp_.Post(work), PostResult::kPosted);
  EXPECT_EQ(Sent(), "SEND FIRST+0 len 256");
  EXPECT_EQ(completions_.Take(), "");
  outbox_.limit = 9;
  EXPECT_EQ(Sent(), "SEND LAST+1 len 1");
  EXPECT_EQ(completions_.Take(), "send 1 ok");
  EXPECT_EQ(qp_.NextDeadline(), std::nullopt);
}

TEST_F(UcTest, ReadIsAnOperationError) {
  ASSERT_EQ(qp_.Post({.wr_id = 1, .operation = Operation::kRead}),
            PostResult::kPosted);
  Sent();
  EXPECT_EQ(completions_.Take(), "send 1 status 2");
}

TEST_F(UcTest, FailedSendStopsSendsOnly) {
  receives_.Post(5, 10);
  Post(1, IBV_WC_LOC_PROT_ERR);
  Post(2);
  Sent();
  EXPECT_EQ(completions_.Take(), "send 1 status 4, send 2 status 5");
  EXPECT_EQ(qp_.state(), QpState::kSqe);
  After(Message(Opcode::kUcSendOnly, 0));
  EXPECT_EQ(completions_.Take(), "recv 5 ok 0");
  Post(3);
  EXPECT_EQ(completions_.Take(), "send 3 status 5");
  ASSERT_TRUE(Move(QpState::kRts));
  Post(4);
  Sent();
  EXPECT_EQ(completions_.Take(), "send 4 ok");
}

TEST_F(UcTest, PacketsThatCameTogetherAreNotTaken) {
  receives_.Post(1, 2 * kMtu);
  After(Burst(2, Message(Opcode::kUcSendOnly, 0, 2 * kMtu)));
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(UcTest, MessageIsDeliveredWithoutAWord) {
  receives_.Post(5, 1000);
  EXPECT_EQ(After(Message(Opcode::kUcSendFirst, 0, kMtu)), "");
  EXPECT_EQ(After(WithAckReq(Message(Opcode::kUcSendLast, 1, 4))), "");
  EXPECT_EQ(completions_.Take(), "recv 5 ok 260");
}

TEST_F(UcTest, GapDropsTheMessageAndItsReceiveServesTheNext) {
  receives_.Post(5, 1000);
  After(Message(Opcode::kUcSendFirst, 0, kMtu));
  After(Message(Opcode::kUcSendLast, 2, 4));
  EXPECT_EQ(completions_.Take(), "");
  After(Message(Opcode::kUcSendOnly, 3, 8));
  EXPECT_EQ(completions_.Take(), "recv 5 ok 8");
}

TEST_F(UcTest, PlainWriteUsesNoReceiveThatADroppedMessageHad) {
  receives_.Post(5, 1000);
  After(Message(Opcode::kUcSendFirst, 0, kMtu));
  Packet write = Message(Opcode::kUcWriteOnly, 1, 4);
  write.reth = {.address = kAddress, .rkey = kKey, .length = 4};
  After(write);
  EXPECT_EQ(completions_.Take(), "");
  After(Message(Opcode::kUcSendOnly, 2, 4));
  EXPECT_EQ(completions_.Take(), "recv 5 ok 4");
}

TEST_F(UcTest, ReceiveInProgressIsFlushedFirst) {
  receives_.Post(5, 1000);
  receives_.Post(6, 1000);
  After(Message(Opcode::kUcSendFirst, 0, kMtu));
  ASSERT_TRUE(Move(QpState::kErr));
  EXPECT_EQ(completions_.Take(), "recv 5 status 5, recv 6 status 5");
}

TEST_F(UcTest, NewMessageEndsAnOpenOne) {
  receives_.Post(5, 1000);
  After(Message(Opcode::kUcSendFirst, 0, kMtu));
  After(Message(Opcode::kUcSendOnly, 1, 8));
  EXPECT_EQ(completions_.Take(), "recv 5 ok 8");
}

TEST_F(UcTest, WhatIsWrongDropsTheMessageAndHarmsNothing) {
  EXPECT_EQ(After(Message(Opcode::kUcSendOnly, 0, 4)), "");
  receives_.Post(5, 4);
  EXPECT_EQ(After(Message(Opcode::kUcSendOnly, 1, 5)), "");
  Packet write = Message(Opcode::kUcWriteOnly, 2, 4);
  write.reth = {.address = kAddress, .rkey = Rkey(1), .length = 4};
  EXPECT_EQ(After(write), "");
  EXPECT_EQ(After(Message(Opcode::kUcSendLast, 3, 4)), "");
  EXPECT_EQ(completions_.Take(), "");
  EXPECT_EQ(qp_.state(), QpState::kRts);
  After(Message(Opcode::kUcSendOnly, 4, 4));
  EXPECT_EQ(completions_.Take(), "recv 5 ok 4");
}

// It would be in the way of all that comes.
TEST_F(UcTest, ReceiveThatCannotBeUsedEndsInError) {
  receives_.Post(5, 10, IBV_WC_LOC_PROT_ERR);
  receives_.Post(6, 10);
  After(Message(Opcode::kUcSendOnly, 0, 4));
  EXPECT_EQ(completions_.Take(), "recv 5 status 4, recv 6 status 5");
  EXPECT_EQ(qp_.state(), QpState::kErr);
}

// ---- UD

TEST_F(UdTest, ReceiveThatCannotBeUsedEndsInError) {
  receives_.Post(5, 10, IBV_WC_LOC_LEN_ERR);
  After(Datagram(4));
  EXPECT_EQ(completions_.Take(), "recv 5 status 1");
  EXPECT_EQ(qp_.state(), QpState::kErr);
  ASSERT_TRUE(Move(QpState::kReset));
  MoveTo(QpState::kRts);
  receives_.Post(6, 10);
  After(Datagram(4));
  EXPECT_EQ(completions_.Take(), "recv 6 ok 4");
}

TEST_F(UdTest, DatagramGoesWhereItsWorkSays) {
  SendWork work{.wr_id = 1, .signaled = true};
  work.address = {.destination = Qpn(9), .qkey = Qkey(7), .route = 42};
  ASSERT_EQ(qp_.Post(work), PostResult::kPosted);
  Sent();
  const Packet& packet = outbox_.packets.back();
  EXPECT_EQ(packet.bth.opcode, Opcode::kUdSendOnly);
  EXPECT_EQ(packet.bth.destination, Qpn(9));
  EXPECT_EQ(packet.deth, (Deth{.qkey = Qkey(7), .source = kHere}));
  EXPECT_EQ(completions_.Take(), "send 1 ok");
}

TEST_F(UdTest, PrivilegedQkeyStandsForTheQueuePairsOwn) {
  SendWork work{.wr_id = 1};
  work.address = {.destination = Qpn(9), .qkey = Qkey(0x80000007)};
  ASSERT_EQ(qp_.Post(work), PostResult::kPosted);
  Sent();
  EXPECT_EQ(outbox_.packets.back().deth.qkey, Qkey(0x1234));
}

TEST_F(UdTest, MessageOverTheMtuIsALengthError) {
  std::vector<std::byte> bytes(kMtu + 1);
  const Segment segment = bytes;
  ASSERT_EQ(qp_.Post({.wr_id = 1, .segments = {&segment, 1}}),
            PostResult::kPosted);
  Sent();
  EXPECT_EQ(completions_.Take(), "send 1 status 1");
}

TEST_F(UdTest, DatagramTellsWhereItComesFrom) {
  receives_.Post(5, 10);
  After(Datagram(4));
  EXPECT_EQ(
      completions_.all.back(),
      (WorkCompletion{
          .wr_id = 5, .opcode = IBV_WC_RECV, .byte_len = 4, .source = Qpn(5)}));
}

TEST_F(UdTest, DatagramToAGroupIsTaken) {
  receives_.Post(5, 10);
  Packet packet = Datagram(4);
  packet.bth.destination = kMulticastQpn;
  After(packet);
  EXPECT_EQ(completions_.Take(), "recv 5 ok 4");
  packet.bth.destination = Qpn(ToUint(kHere) + 1);
  After(packet);
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(UcTest, NothingOfAGroupIsTaken) {
  receives_.Post(5, 10);
  Packet packet = Message(Opcode::kUcSendOnly, 77, 4);
  packet.bth.destination = kMulticastQpn;
  After(packet);
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(UdTest, WrongQkeyIsDropped) {
  receives_.Post(5, 10);
  After(Datagram(4, Qkey(0x4321)));
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(UdTest, DatagramOverTheReceiveIsDroppedAndTheReceiveKept) {
  receives_.Post(5, 3);
  After(Datagram(4));
  EXPECT_EQ(qp_.state(), QpState::kRts);
  EXPECT_EQ(completions_.Take(), "");
  After(Datagram(3));
  EXPECT_EQ(completions_.Take(), "recv 5 ok 3");
}

}  // namespace
}  // namespace nd::soft
