// Every check of the responder, with hand-made packets. The answers are those
// of the rules; where the kernel's rdma_rxe differs, the rules win.
#include "soft/rc/responder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "soft/rc/bench.h"

namespace nd::soft {
namespace {

constexpr const char* kSilence = "";

class ResponderTest : public testing::Test {
 protected:
  ResponderTest() {
    attributes_ = {.access = kAllAccess,
                   .mtu_bytes = kMtu,
                   .destination = kThere,
                   .receive_psn = kBasePsn,
                   .max_dest_rd_atomic = 2,
                   .min_rnr_timer = 14};
    responder_.Start();
  }

  // The answers to a packet, in words.
  std::string After(const Packet& packet) {
    responder_.OnPacket(packet);
    return Sent();
  }
  std::string AfterWithAckReq(const Packet& packet) {
    return After(WithAckReq(packet));
  }
  std::string Sent() {
    responder_.Transmit(outbox_);
    return outbox_.Take();
  }

  Packet Write(Opcode opcode, uint32_t psn, size_t bytes, uint32_t length) {
    return WriteRequest(opcode, psn, bytes,
                        {.address = kAddress, .rkey = kKey, .length = length});
  }

  QpAttributes attributes_;
  BenchMemory memory_;
  BenchReceives receives_;
  BenchCompletions completions_;
  BenchOutbox outbox_;
  Responder responder_{attributes_, QpPorts{.memory = memory_,
                                            .receives = receives_,
                                            .completions = completions_}};
};

// ---- PSN

TEST_F(ResponderTest, AcknowledgesWhereAckReqAsksForItAndNowhereElse) {
  receives_.Post(1, 10);
  receives_.Post(2, 10);
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 0, 4)), kSilence);
  EXPECT_EQ(AfterWithAckReq(Message(Opcode::kRcSendOnly, 1, 5)), "ACK+1 msn 2");
  EXPECT_EQ(completions_.Take(), "recv 1 ok 4, recv 2 ok 5");
}

TEST_F(ResponderTest, AcknowledgementsThatWaitAreJoined) {
  receives_.Post(1, 10);
  receives_.Post(2, 10);
  responder_.OnPacket(WithAckReq(Message(Opcode::kRcSendOnly, 0)));
  responder_.OnPacket(WithAckReq(Message(Opcode::kRcSendOnly, 1)));
  EXPECT_EQ(Sent(), "ACK+1 msn 2");
}

TEST_F(ResponderTest, PsnAheadIsRefusedOnceUntilTheMissingOneCame) {
  receives_.Post(1, 10);
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 1)), "NAK 0+0 msn 0");
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 2)), kSilence);
  EXPECT_EQ(AfterWithAckReq(Message(Opcode::kRcSendOnly, 0)), "ACK+0 msn 1");
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 2)), "NAK 0+1 msn 1");
  EXPECT_EQ(completions_.Take(), "recv 1 ok 0");
}

TEST_F(ResponderTest, ReadsAndAtomicsAheadAreRefusedToo) {
  EXPECT_EQ(After(ReadRequest(1, kAddress, 4)), "NAK 0+0 msn 0");
  EXPECT_EQ(After(FetchAdd(1, kAddress, 1)), kSilence);
  EXPECT_EQ(memory_.bytes[0], std::byte{0});
}

TEST_F(ResponderTest, NextGapIsToldOnceTheMissingReadCame) {
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 1)), "NAK 0+0 msn 0");
  EXPECT_EQ(After(ReadRequest(0, kAddress, 4)), "READ ONLY+0 msn 1 len 4");
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 5)), "NAK 0+1 msn 1");
}

TEST_F(ResponderTest, GapIsToldAnewAfterAStart) {
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 1)), "NAK 0+0 msn 0");
  responder_.Start();
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 1)), "NAK 0+0 msn 0");
}

TEST_F(ResponderTest, HalfOfThePsnsAreBehindAndHalfAhead) {
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, -(1u << 23))), "ACK-1 msn 0");
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, (1u << 23) - 1)),
            "NAK 0+0 msn 0");
}

TEST_F(ResponderTest, DuplicateSendIsAckedAgainNotDeliveredAgain) {
  receives_.Post(1, 10);
  receives_.Post(2, 10);
  receives_.Post(3, 10);
  After(Message(Opcode::kRcSendOnly, 0));
  After(Message(Opcode::kRcSendOnly, 1));
  completions_.Take();
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 0)), "ACK+1 msn 2");
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(ResponderTest, DuplicateWriteIsAckedAgainNotReapplied) {
  After(Write(Opcode::kRcWriteOnly, 0, 8, 8));
  std::ranges::fill(memory_.bytes, std::byte{0xee});
  EXPECT_EQ(After(Write(Opcode::kRcWriteOnly, 0, 8, 8)), "ACK+0 msn 1");
  EXPECT_EQ(memory_.bytes[1], std::byte{0xee});
}

// A peer might take an acknowledgement with the PSN of a READ for its answer.
TEST_F(ResponderTest, DuplicateWriteBeforeAReadIsNotAckedWithTheReadsPsn) {
  After(Write(Opcode::kRcWriteOnly, 0, 8, 8));
  After(ReadRequest(1, kAddress, 4));
  EXPECT_EQ(After(Write(Opcode::kRcWriteOnly, 0, 8, 8)), "ACK+0 msn 2");
}

// ---- Opcode sequence

TEST_F(ResponderTest, MiddleOrLastWithoutFirstIsInvalid) {
  receives_.Post(1, 1000);
  EXPECT_EQ(After(Message(Opcode::kRcSendMiddle, 0, kMtu)), "NAK 1+0 msn 0");
  EXPECT_TRUE(responder_.failed());
  EXPECT_EQ(completions_.Take(), "event 2");
}

TEST_F(ResponderTest, WriteLastWithoutFirstIsInvalid) {
  EXPECT_EQ(After(Message(Opcode::kRcWriteLast, 0, 4)), "NAK 1+0 msn 0");
}

TEST_F(ResponderTest, NewMessageInsideAnOpenOneIsInvalid) {
  receives_.Post(1, 1000);
  After(Message(Opcode::kRcSendFirst, 0, kMtu));
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 1, 4)), "NAK 1+1 msn 0");
  EXPECT_EQ(completions_.Take(), "recv 1 status 9");
}

TEST_F(ResponderTest, MessageThatGoesOnAsAnotherKindIsInvalid) {
  receives_.Post(1, 1000);
  After(Message(Opcode::kRcSendFirst, 0, kMtu));
  EXPECT_EQ(After(Message(Opcode::kRcWriteLast, 1, 4)), "NAK 1+1 msn 0");
}

TEST_F(ResponderTest, WriteThatGoesOnAsASendIsInvalid) {
  receives_.Post(1, 1000);
  After(Write(Opcode::kRcWriteFirst, 0, kMtu, kMtu + 4));
  EXPECT_EQ(After(Message(Opcode::kRcSendLast, 1, 4)), "NAK 1+1 msn 0");
  EXPECT_EQ(completions_.Take(), "event 2");
}

TEST_F(ResponderTest, ReadInsideAMessageIsInvalid) {
  receives_.Post(1, 1000);
  After(Message(Opcode::kRcSendFirst, 0, kMtu));
  EXPECT_EQ(After(ReadRequest(1, kAddress, 4)), "NAK 1+1 msn 0");
}

TEST_F(ResponderTest, AtomicInsideAMessageIsInvalid) {
  After(Write(Opcode::kRcWriteFirst, 0, kMtu, 1000));
  EXPECT_EQ(After(FetchAdd(1, kAddress, 1)), "NAK 1+1 msn 0");
}

// ---- Permission of the queue pair

TEST_F(ResponderTest, WriteThatTheQueuePairForbidsIsInvalid) {
  attributes_.access = kAllAccess & ~IBV_ACCESS_REMOTE_WRITE;
  EXPECT_EQ(After(Write(Opcode::kRcWriteOnly, 0, 4, 4)), "NAK 1+0 msn 0");
}

TEST_F(ResponderTest, ReadThatTheQueuePairForbidsIsInvalid) {
  attributes_.access = kAllAccess & ~IBV_ACCESS_REMOTE_READ;
  EXPECT_EQ(After(ReadRequest(0, kAddress, 4)), "NAK 1+0 msn 0");
}

TEST_F(ResponderTest, AtomicThatTheQueuePairForbidsIsInvalid) {
  attributes_.access = kAllAccess & ~IBV_ACCESS_REMOTE_ATOMIC;
  EXPECT_EQ(After(FetchAdd(0, kAddress, 1)), "NAK 1+0 msn 0");
}

TEST_F(ResponderTest, SendNeedsNoPermission) {
  attributes_.access = 0;
  receives_.Post(1, 10);
  EXPECT_EQ(AfterWithAckReq(Message(Opcode::kRcSendOnly, 0)), "ACK+0 msn 1");
}

// ---- Lengths

TEST_F(ResponderTest, FirstShorterThanTheMtuIsInvalid) {
  receives_.Post(1, 1000);
  EXPECT_EQ(After(Message(Opcode::kRcSendFirst, 0, kMtu - 4)), "NAK 1+0 msn 0");
}

TEST_F(ResponderTest, MiddleShorterThanTheMtuIsInvalid) {
  receives_.Post(1, 1000);
  After(Message(Opcode::kRcSendFirst, 0, kMtu));
  EXPECT_EQ(After(Message(Opcode::kRcSendMiddle, 1, 4)), "NAK 1+1 msn 0");
}

TEST_F(ResponderTest, OnlyLongerThanTheMtuIsInvalid) {
  receives_.Post(1, 1000);
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 0, kMtu + 4)), "NAK 1+0 msn 0");
}

TEST_F(ResponderTest, EmptyLastIsInvalid) {
  receives_.Post(1, 1000);
  After(Message(Opcode::kRcSendFirst, 0, kMtu));
  EXPECT_EQ(After(Message(Opcode::kRcSendLast, 1, 0)), "NAK 1+1 msn 0");
}

TEST_F(ResponderTest, WriteThatBringsLessThanAnnouncedIsInvalid) {
  EXPECT_EQ(After(Write(Opcode::kRcWriteOnly, 0, 100, 200)), "NAK 1+0 msn 0");
  EXPECT_EQ(memory_.bytes[1], std::byte{0});
}

TEST_F(ResponderTest, WriteThatBringsMoreThanAnnouncedIsInvalid) {
  After(Write(Opcode::kRcWriteFirst, 0, kMtu, kMtu + 10));
  EXPECT_EQ(After(Message(Opcode::kRcWriteLast, 1, 11)), "NAK 1+1 msn 0");
}

TEST_F(ResponderTest, WriteFirstWithAllThatWasAnnouncedIsInvalid) {
  EXPECT_EQ(After(Write(Opcode::kRcWriteFirst, 0, kMtu, kMtu)),
            "NAK 1+0 msn 0");
}

TEST_F(ResponderTest, WriteOverTheLongestMessageIsInvalid) {
  EXPECT_EQ(After(Write(Opcode::kRcWriteFirst, 0, kMtu, 0x80000001)),
            "NAK 1+0 msn 0");
}

TEST_F(ResponderTest, SendOverTheLongestMessageIsInvalid) {
  attributes_.mtu_bytes = 1 << 24;
  std::vector<std::byte> bytes(attributes_.mtu_bytes);
  const std::vector<Segment> segments(kMaxMessageBytes / bytes.size() + 1,
                                      Segment(bytes));
  receives_.Post(1, segments);
  const std::vector<std::byte> payload(bytes.size());
  Packet packet = Message(Opcode::kRcSendFirst, 0);
  packet.payload = payload;
  for (uint64_t sent = 0; sent < kMaxMessageBytes; sent += payload.size()) {
    EXPECT_EQ(After(packet), kSilence);
    packet.bth.opcode = Opcode::kRcSendMiddle;
    ++packet.bth.psn;
  }
  EXPECT_EQ(After(packet), "NAK 1+128 msn 0");
  EXPECT_EQ(completions_.Take(), "recv 1 status 9");
}

TEST_F(ResponderTest, ReadOverTheLongestMessageIsInvalid) {
  EXPECT_EQ(After(ReadRequest(0, kAddress, 0x80000001)), "NAK 1+0 msn 0");
}

// ---- Receives

TEST_F(ResponderTest, SendWithoutReceiveIsNotReadyAndWhatFollowsIsSilence) {
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 0, 4)), "RNR 14+0 msn 0");
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 1, 4)), kSilence);
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 0, 4)), "RNR 14+0 msn 0");
  receives_.Post(1, 10);
  EXPECT_EQ(AfterWithAckReq(Message(Opcode::kRcSendOnly, 0, 4)), "ACK+0 msn 1");
  EXPECT_EQ(completions_.Take(), "recv 1 ok 4");
}

TEST_F(ResponderTest, WriteWithImmediateWithoutReceivePlacesNothing) {
  EXPECT_EQ(After(Write(Opcode::kRcWriteOnlyImm, 0, 8, 8)), "RNR 14+0 msn 0");
  EXPECT_EQ(memory_.bytes[1], std::byte{0});
}

TEST_F(ResponderTest, WriteWithImmediateUsesAReceiveWithItsLastPacket) {
  EXPECT_EQ(After(Write(Opcode::kRcWriteFirst, 0, kMtu, kMtu + 4)), kSilence);
  EXPECT_EQ(After(Message(Opcode::kRcWriteLastImm, 1, 4)), "RNR 14+1 msn 0");
  EXPECT_EQ(memory_.bytes[kMtu + 1], std::byte{0});
  receives_.Post(1, 0);
  EXPECT_EQ(AfterWithAckReq(Message(Opcode::kRcWriteLastImm, 1, 4)),
            "ACK+1 msn 1");
  EXPECT_EQ(completions_.Take(), "recv 1 ok 260");
}

TEST_F(ResponderTest, SendOverTheReceiveIsInvalidAndALocalLengthError) {
  receives_.Post(1, 3);
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 0, 4)), "NAK 1+0 msn 0");
  EXPECT_EQ(completions_.Take(), "recv 1 status 1");
}

TEST_F(ResponderTest, SendOverTheReceiveIsFoundWhereItGoesOver) {
  receives_.Post(1, kMtu + 3);
  EXPECT_EQ(After(Message(Opcode::kRcSendFirst, 0, kMtu)), kSilence);
  EXPECT_EQ(After(Message(Opcode::kRcSendLast, 1, 4)), "NAK 1+1 msn 0");
  EXPECT_EQ(completions_.Take(), "recv 1 status 1");
}

TEST_F(ResponderTest, ReceiveWithABadKeyIsAnOperationalError) {
  receives_.Post(1, 10, IBV_WC_LOC_PROT_ERR);
  EXPECT_EQ(After(Message(Opcode::kRcSendOnly, 0, 4)), "NAK 3+0 msn 0");
  EXPECT_EQ(completions_.Take(), "recv 1 status 4");
}

// ---- Memory

TEST_F(ResponderTest, WriteUnderAWrongKeyIsAnAccessError) {
  memory_.key = Rkey(0x2200);
  EXPECT_EQ(After(Write(Opcode::kRcWriteOnly, 0, 4, 4)), "NAK 2+0 msn 0");
  EXPECT_EQ(completions_.Take(), "event 3");
}

TEST_F(ResponderTest, WriteIsCheckedWholeBeforeItsFirstPacketIsPlaced) {
  EXPECT_EQ(After(Write(Opcode::kRcWriteFirst, 0, kMtu, 8193)),
            "NAK 2+0 msn 0");
  EXPECT_EQ(memory_.bytes[1], std::byte{0});
}

TEST_F(ResponderTest, WriteWhoseMemoryGoesAwayIsAnAccessError) {
  After(Write(Opcode::kRcWriteFirst, 0, kMtu, kMtu + 4));
  memory_.registered = false;
  EXPECT_EQ(After(Message(Opcode::kRcWriteLast, 1, 4)), "NAK 2+1 msn 0");
}

TEST_F(ResponderTest, MemoryWithoutAccessIsAnAccessError) {
  memory_.access = IBV_ACCESS_REMOTE_READ;
  EXPECT_EQ(After(Write(Opcode::kRcWriteOnly, 0, 4, 4)), "NAK 2+0 msn 0");
}

TEST_F(ResponderTest, ReadOutOfRangeIsAnAccessError) {
  EXPECT_EQ(After(ReadRequest(0, kAddress + 8190, 4)), "NAK 2+0 msn 0");
}

TEST_F(ResponderTest, AtomicOutOfRangeIsAnAccessError) {
  EXPECT_EQ(After(FetchAdd(0, kAddress + 8192, 1)), "NAK 2+0 msn 0");
}

TEST_F(ResponderTest, RangesOfNoBytesAreNotChecked) {
  memory_.registered = false;
  EXPECT_EQ(AfterWithAckReq(Write(Opcode::kRcWriteOnly, 0, 0, 0)),
            "ACK+0 msn 1");
  EXPECT_EQ(After(ReadRequest(1, 0, 0)), "READ ONLY+1 msn 2 len 0");
}

TEST_F(ResponderTest, WriteIsPlacedPacketBehindPacket) {
  const auto data = Pattern(kMtu);
  After(Write(Opcode::kRcWriteFirst, 0, kMtu, 2 * kMtu + 4));
  After(Message(Opcode::kRcWriteMiddle, 1, kMtu));
  EXPECT_EQ(AfterWithAckReq(Message(Opcode::kRcWriteLast, 2, 4)),
            "ACK+2 msn 1");
  EXPECT_TRUE(std::equal(data.begin(), data.end(), memory_.bytes.begin()));
  EXPECT_TRUE(
      std::equal(data.begin(), data.end(), memory_.bytes.begin() + kMtu));
  EXPECT_EQ(memory_.bytes[2 * kMtu + 3], data[3]);
  EXPECT_EQ(memory_.bytes[2 * kMtu + 4], std::byte{0});
}

TEST_F(ResponderTest, SendIsPlacedPacketBehindPacket) {
  const auto data = Pattern(kMtu);
  const auto& bytes = receives_.Post(1, kMtu + 4);
  After(Message(Opcode::kRcSendFirst, 0, kMtu));
  After(Message(Opcode::kRcSendLast, 1, 3));
  EXPECT_TRUE(std::equal(data.begin(), data.end(), bytes.begin()));
  EXPECT_EQ(bytes[kMtu + 2], data[2]);
  EXPECT_EQ(bytes[kMtu + 3], std::byte{0});
}

// ---- Completions

TEST_F(ResponderTest, ReceiveTellsImmediateAndSolicited) {
  receives_.Post(7, 10);
  Packet packet = Message(Opcode::kRcSendOnlyImm, 0, 4);
  packet.imm_dt.value = 0xabcd;
  packet.bth.solicited = true;
  After(packet);
  EXPECT_EQ(completions_.all.back(),
            (WorkCompletion{.wr_id = 7,
                            .opcode = IBV_WC_RECV,
                            .byte_len = 4,
                            .ending = Ending::kImmediate,
                            .immediate = 0xabcd,
                            .solicited = true}));
}

TEST_F(ResponderTest, WriteWithImmediateTellsItsWholeLength) {
  receives_.Post(7, 0);
  Packet packet = Write(Opcode::kRcWriteOnlyImm, 0, 4, 4);
  packet.imm_dt.value = 5;
  After(packet);
  EXPECT_EQ(completions_.all.back(),
            (WorkCompletion{.wr_id = 7,
                            .opcode = IBV_WC_RECV_RDMA_WITH_IMM,
                            .byte_len = 4,
                            .ending = Ending::kImmediate,
                            .immediate = 5}));
}

TEST_F(ResponderTest, SendWithInvalidateTakesTheKeyAway) {
  receives_.Post(7, 10);
  Packet packet = Message(Opcode::kRcSendOnlyInv, 0, 4);
  packet.ieth.rkey = kKey;
  After(packet);
  EXPECT_FALSE(memory_.registered);
  EXPECT_EQ(completions_.all.back(),
            (WorkCompletion{.wr_id = 7,
                            .opcode = IBV_WC_RECV,
                            .byte_len = 4,
                            .ending = Ending::kInvalidate,
                            .invalidated = kKey}));
}

TEST_F(ResponderTest, SendThatInvalidatesAWrongKeyIsAnAccessError) {
  receives_.Post(7, 10);
  Packet packet = Message(Opcode::kRcSendOnlyInv, 0, 4);
  packet.ieth.rkey = Rkey(0x99);
  EXPECT_EQ(After(packet), "NAK 2+0 msn 0");
  EXPECT_EQ(completions_.Take(), "recv 7 status 8");
}

// ---- READs

TEST_F(ResponderTest, ReadIsAnsweredInPacketsOfTheMtu) {
  std::ranges::copy(Pattern(8192), memory_.bytes.begin());
  EXPECT_EQ(After(ReadRequest(0, kAddress + 1, 2 * kMtu + 3)),
            "READ FIRST+0 msn 1 len 256; READ MIDDLE+1 len 256; "
            "READ LAST+2 msn 1 len 3");
  EXPECT_EQ(outbox_.payloads[2][2], memory_.bytes[1 + 2 * kMtu + 2]);
  EXPECT_EQ(outbox_.lasts, std::vector<bool>(3, true));
  receives_.Post(1, 10);
  EXPECT_EQ(AfterWithAckReq(Message(Opcode::kRcSendOnly, 3)), "ACK+3 msn 2");
}

TEST_F(ResponderTest, ReadFlowsAtTheOutboxsPaceAndWhatIsBehindItWaits) {
  receives_.Post(1, 10);
  outbox_.limit = 0;
  After(ReadRequest(0, kAddress, 2 * kMtu));
  AfterWithAckReq(Message(Opcode::kRcSendOnly, 2));
  outbox_.limit = 1;
  EXPECT_EQ(Sent(), "READ FIRST+0 msn 1 len 256");
  outbox_.limit = 2;
  EXPECT_EQ(Sent(), "READ LAST+1 msn 1 len 256; ACK+2 msn 2");
}

TEST_F(ResponderTest, DuplicateReadIsExecutedAgain) {
  After(ReadRequest(0, kAddress, 4));
  memory_.bytes[0] = std::byte{9};
  EXPECT_EQ(After(ReadRequest(0, kAddress, 4)), "READ ONLY+0 msn 1 len 4");
  EXPECT_EQ(outbox_.payloads.back()[0], std::byte{9});
}

TEST_F(ResponderTest, TailOfAReadIsANewReadEvenAfterALaterTail) {
  After(ReadRequest(0, kAddress, 2 * kMtu + 3));
  EXPECT_EQ(After(ReadRequest(2, kAddress + 2 * kMtu, 3)),
            "READ ONLY+2 msn 1 len 3");
  EXPECT_EQ(After(ReadRequest(1, kAddress + kMtu, kMtu + 3)),
            "READ FIRST+1 msn 1 len 256; READ LAST+2 msn 1 len 3");
}

TEST_F(ResponderTest, DuplicateReadOfSomethingElseIsDropped) {
  After(ReadRequest(0, kAddress, 2 * kMtu));
  Packet other_key = ReadRequest(0, kAddress, 2 * kMtu);
  other_key.reth.rkey = Rkey(1);
  EXPECT_EQ(After(other_key), kSilence);
  EXPECT_EQ(After(ReadRequest(0, kAddress, 3 * kMtu)), kSilence);
  EXPECT_EQ(After(ReadRequest(1, kAddress, kMtu)), kSilence);
}

TEST_F(ResponderTest, DuplicateReadWhereNoReadWasIsDropped) {
  receives_.Post(1, 10);
  After(Message(Opcode::kRcSendOnly, 0));
  EXPECT_EQ(After(ReadRequest(0, kAddress, 4)), kSilence);
}

TEST_F(ResponderTest, DuplicateOfAReadThatStillWaitsIsOneAnswer) {
  outbox_.limit = 1;
  After(ReadRequest(0, kAddress, 3 * kMtu));
  After(ReadRequest(1, kAddress + kMtu, 2 * kMtu));
  outbox_.limit = 9;
  EXPECT_EQ(Sent(), "READ MIDDLE+1 len 256; READ LAST+2 msn 1 len 256");
}

TEST_F(ResponderTest, DuplicateOfAReadUnderWayTakesItsPlace) {
  outbox_.limit = 2;
  After(ReadRequest(0, kAddress, 3 * kMtu));
  After(ReadRequest(1, kAddress + kMtu, 2 * kMtu));
  outbox_.limit = 9;
  EXPECT_EQ(Sent(), "READ FIRST+1 msn 1 len 256; READ LAST+2 msn 1 len 256");
}

TEST_F(ResponderTest, DuplicatesOfTwoReadsAreTwoAnswers) {
  After(ReadRequest(0, kAddress, 4));
  After(ReadRequest(1, kAddress, 4));
  responder_.OnPacket(ReadRequest(0, kAddress, 4));
  responder_.OnPacket(ReadRequest(1, kAddress, 4));
  EXPECT_EQ(Sent(), "READ ONLY+0 msn 1 len 4; READ ONLY+1 msn 2 len 4");
}

// A peer that lost the first answer drops the second.
TEST_F(ResponderTest, DuplicateReadIsAnsweredBeforeWhatCameAfterIt) {
  outbox_.limit = 3;
  EXPECT_EQ(After(ReadRequest(0, kAddress, 2 * kMtu)),
            "READ FIRST+0 msn 1 len 256; READ LAST+1 msn 1 len 256");
  EXPECT_EQ(After(ReadRequest(2, kAddress, 3 * kMtu)),
            "READ FIRST+2 msn 2 len 256");
  responder_.OnPacket(WithAckReq(Write(Opcode::kRcWriteOnly, 5, 0, 0)));
  responder_.OnPacket(ReadRequest(1, kAddress + kMtu, kMtu));
  outbox_.limit = 9;
  EXPECT_EQ(Sent(),
            "READ ONLY+1 msn 1 len 256; READ FIRST+2 msn 2 len 256; "
            "READ MIDDLE+3 len 256; READ LAST+4 msn 2 len 256; ACK+5 msn 3");
}

TEST_F(ResponderTest, DuplicateAtomicIsAnsweredBeforeWhatCameAfterIt) {
  After(FetchAdd(0, kAddress, 1));
  responder_.OnPacket(WithAckReq(Write(Opcode::kRcWriteOnly, 1, 0, 0)));
  responder_.OnPacket(FetchAdd(0, kAddress, 1));
  EXPECT_EQ(Sent(), "ATOMIC+0 msn 1 original 0; ACK+1 msn 2");
}

// A READ that is not kept any more is not answered again.
TEST_F(ResponderTest, AcknowledgementsAroundAForgottenReadBecomeOne) {
  AfterWithAckReq(Write(Opcode::kRcWriteOnly, 0, 0, 0));
  After(ReadRequest(1, kAddress, 4));
  responder_.OnPacket(Write(Opcode::kRcWriteOnly, 0, 0, 0));
  responder_.OnPacket(ReadRequest(1, kAddress, 4));
  responder_.OnPacket(WithAckReq(Write(Opcode::kRcWriteOnly, 2, 0, 0)));
  responder_.OnPacket(ReadRequest(3, kAddress, 4));
  responder_.OnPacket(ReadRequest(4, kAddress, 4));
  EXPECT_EQ(Sent(),
            "ACK+2 msn 3; READ ONLY+3 msn 4 len 4; READ ONLY+4 msn 5 len 4");
}

TEST_F(ResponderTest, DuplicateDoesNotTakeTheNaksPlace) {
  responder_.OnPacket(Message(Opcode::kRcSendOnly, 0));
  responder_.OnPacket(Message(Opcode::kRcSendOnly, -1));
  EXPECT_EQ(Sent(), "RNR 14+0 msn 0");
}

TEST_F(ResponderTest, MoreReadsThanAgreedAreInvalid) {
  outbox_.limit = 0;
  After(ReadRequest(0, kAddress, 4));
  After(ReadRequest(1, kAddress, 4));
  After(ReadRequest(2, kAddress, 4));
  outbox_.limit = 9;
  EXPECT_EQ(Sent(),
            "READ ONLY+0 msn 1 len 4; READ ONLY+1 msn 2 len 4; NAK 1+2 msn 2");
}

// It has no place among them; its answer goes with what it would repeat.
TEST_F(ResponderTest, RepeatedReadThatWaitsIsNoneOfTheReadsAgreed) {
  After(ReadRequest(0, kAddress, 4));
  outbox_.limit = 0;
  After(ReadRequest(0, kAddress, 4));
  After(ReadRequest(1, kAddress, 4));
  After(ReadRequest(2, kAddress, 4));
  outbox_.limit = 9;
  EXPECT_EQ(Sent(), "READ ONLY+1 msn 2 len 4; READ ONLY+2 msn 3 len 4");
}

TEST_F(ResponderTest, ReadWhereNoneIsAgreedIsInvalid) {
  attributes_.max_dest_rd_atomic = 0;
  responder_.Start();
  EXPECT_EQ(After(ReadRequest(0, kAddress, 4)), "NAK 1+0 msn 0");
}

TEST_F(ResponderTest, OnlyAsManyAsAgreedAreRemembered) {
  After(ReadRequest(0, kAddress, 4));
  After(ReadRequest(1, kAddress, 4));
  After(ReadRequest(2, kAddress, 4));
  After(ReadRequest(3, kAddress, 4));
  After(ReadRequest(4, kAddress, 4));
  EXPECT_EQ(After(ReadRequest(2, kAddress, 4)), kSilence);
  EXPECT_EQ(After(ReadRequest(3, kAddress, 4)), "READ ONLY+3 msn 4 len 4");
  EXPECT_EQ(After(ReadRequest(4, kAddress, 4)), "READ ONLY+4 msn 5 len 4");
}

TEST_F(ResponderTest, ReadWhoseMemoryGoesAwayIsAnAccessError) {
  outbox_.limit = 1;
  EXPECT_EQ(After(ReadRequest(0, kAddress, 2 * kMtu)),
            "READ FIRST+0 msn 1 len 256");
  memory_.registered = false;
  outbox_.limit = 9;
  EXPECT_EQ(Sent(), "NAK 2+1 msn 1");
  EXPECT_TRUE(responder_.failed());
}

TEST_F(ResponderTest, DuplicateReadWhoseMemoryIsGoneIsRefusedAndNoError) {
  After(ReadRequest(0, kAddress, 4));
  memory_.registered = false;
  EXPECT_EQ(After(ReadRequest(0, kAddress, 4)), "NAK 2+0 msn 1");
  EXPECT_FALSE(responder_.failed());
}

// ---- Atomics

TEST_F(ResponderTest, FetchAddAddsAndAnswersWhatWasThere) {
  memory_.bytes[8] = std::byte{41};
  EXPECT_EQ(After(FetchAdd(0, kAddress + 8, 1)), "ATOMIC+0 msn 1 original 41");
  EXPECT_EQ(memory_.bytes[8], std::byte{42});
}

TEST_F(ResponderTest, CompareSwapSwapsOnlyWhatItExpects) {
  memory_.bytes[8] = std::byte{42};
  EXPECT_EQ(After(CompareSwap(0, kAddress + 8, 42, 77)),
            "ATOMIC+0 msn 1 original 42");
  EXPECT_EQ(After(CompareSwap(1, kAddress + 8, 42, 99)),
            "ATOMIC+1 msn 2 original 77");
  EXPECT_EQ(memory_.bytes[8], std::byte{77});
}

TEST_F(ResponderTest, DuplicateAtomicIsReplayedNotExecuted) {
  memory_.bytes[8] = std::byte{41};
  After(FetchAdd(0, kAddress + 8, 1));
  After(FetchAdd(1, kAddress + 8, 1));
  EXPECT_EQ(After(FetchAdd(0, kAddress + 8, 1)), "ATOMIC+0 msn 1 original 41");
  EXPECT_EQ(memory_.bytes[8], std::byte{43});
}

TEST_F(ResponderTest, DuplicateAtomicOfAnotherKindIsDropped) {
  After(FetchAdd(0, kAddress + 8, 1));
  EXPECT_EQ(After(CompareSwap(0, kAddress + 8, 1, 5)), kSilence);
}

TEST_F(ResponderTest, ReadAtThePsnOfAnAtomicIsDropped) {
  After(FetchAdd(0, kAddress, 1));
  Packet read = ReadRequest(0, 0, 0);
  read.reth = {};
  EXPECT_EQ(After(read), kSilence);
}

TEST_F(ResponderTest, DuplicateAtomicOlderThanAgreedIsDropped) {
  After(FetchAdd(0, kAddress + 8, 1));
  After(FetchAdd(1, kAddress + 8, 1));
  After(FetchAdd(2, kAddress + 8, 1));
  EXPECT_EQ(After(FetchAdd(0, kAddress + 8, 1)), kSilence);
}

TEST_F(ResponderTest, MisalignedAtomicIsInvalid) {
  EXPECT_EQ(After(FetchAdd(0, kAddress + 4, 1)), "NAK 1+0 msn 0");
}

// The memory may be aligned where the address is not.
TEST_F(ResponderTest, AtomicAtAMisalignedAddressIsInvalid) {
  memory_.skew = 4;
  EXPECT_EQ(After(FetchAdd(0, kAddress + 4, 1)), "NAK 1+0 msn 0");
}

// The address may be aligned where the memory behind it is not.
TEST_F(ResponderTest, AtomicOnMisalignedMemoryIsInvalid) {
  memory_.skew = 4;
  EXPECT_EQ(After(FetchAdd(0, kAddress, 1)), "NAK 1+0 msn 0");
}

// ---- Packets that come as one

TEST_F(ResponderTest, PacketsThatCameTogetherAreExecutedAndAckedTogether) {
  EXPECT_EQ(After(Burst(3, Write(Opcode::kRcWriteFirst, 0, 3 * kMtu, 1000))),
            kSilence);
  EXPECT_EQ(AfterWithAckReq(Write(Opcode::kRcWriteLast, 3, 1000 - 3 * kMtu, 0)),
            "ACK+3 msn 1");
  receives_.Post(1, 1000);
  EXPECT_EQ(
      AfterWithAckReq(Burst(2, Message(Opcode::kRcSendOnly, 4, 2 * kMtu - 3))),
      "ACK+5 msn 2");
  EXPECT_EQ(completions_.Take(), "recv 1 ok 509");
}

TEST_F(ResponderTest, PacketsTogetherHaveTheLengthsThatEachWouldHave) {
  EXPECT_EQ(After(Burst(2, Write(Opcode::kRcWriteFirst, 0, 2 * kMtu - 1, 999))),
            "NAK 1+0 msn 0");
  responder_.Start();
  EXPECT_EQ(After(Burst(2, Write(Opcode::kRcWriteOnly, 0, kMtu, kMtu))),
            "NAK 1+0 msn 0");
  responder_.Start();
  EXPECT_EQ(After(Burst(
                2, Write(Opcode::kRcWriteOnly, 0, 2 * kMtu + 1, 2 * kMtu + 1))),
            "NAK 1+0 msn 0");
}

TEST_F(ResponderTest, PacketsTogetherOfWhichSomeAreKnownAreRepetitions) {
  After(Write(Opcode::kRcWriteFirst, 0, kMtu, 1000));
  EXPECT_EQ(After(Burst(3, Write(Opcode::kRcWriteFirst, 0, 3 * kMtu, 1000))),
            "ACK+0 msn 0");
}

TEST_F(ResponderTest, AnswerOfAReadGoesTogetherAsTheOutboxTakesIt) {
  outbox_.burst = 2 * kMtu;
  EXPECT_EQ(After(ReadRequest(0, kAddress, 5 * kMtu)),
            "READ FIRST+0 x2 msn 1 len 512; READ MIDDLE+2 x2 len 512; "
            "READ LAST+4 msn 1 len 256");
}

// ---- Payload that is far

TEST_F(ResponderTest, PayloadThatIsFarIsFetchedToWhereItBelongs) {
  std::vector<std::byte> bytes(2 * kMtu + 100);
  const std::array<Segment, 2> segments = {Segment(bytes).first(300),
                                           Segment(bytes).subspan(300)};
  receives_.Post(1, segments);
  const Packet near =
      Burst(2, WithAckReq(Message(Opcode::kRcSendOnly, 0, 2 * kMtu)));
  EXPECT_EQ(After(WithFar(near, BenchFar(near))), "ACK+1 msn 1");
  EXPECT_EQ(completions_.Take(), "recv 1 ok 512");
  EXPECT_TRUE(
      std::ranges::equal(std::span(bytes).first(2 * kMtu), Pattern(2 * kMtu)));
  const Packet write =
      Burst(2, Write(Opcode::kRcWriteOnly, 2, 2 * kMtu, 2 * kMtu));
  EXPECT_EQ(After(WithAckReq(WithFar(write, BenchFar(write)))), "ACK+3 msn 2");
  EXPECT_TRUE(std::ranges::equal(std::span(memory_.bytes).first(2 * kMtu),
                                 Pattern(2 * kMtu)));
}

TEST_F(ResponderTest, PayloadThatIsNotToBeHadIsAskedForOnceMore) {
  receives_.Post(1, 2 * kMtu);
  const Packet send =
      Burst(2, WithAckReq(Message(Opcode::kRcSendOnly, 0, 2 * kMtu)));
  BenchFar far(send);
  far.lent = false;
  EXPECT_EQ(After(WithFar(send, far)), "NAK 0+0 msn 0");
  EXPECT_EQ(completions_.Take(), "");
  far.lent = true;
  EXPECT_EQ(After(WithFar(send, far)), "ACK+1 msn 1");
  EXPECT_EQ(completions_.Take(), "recv 1 ok 512");

  const Packet write =
      WithAckReq(Burst(2, Write(Opcode::kRcWriteOnly, 2, 2 * kMtu, 2 * kMtu)));
  BenchFar of_write(write);
  of_write.lent = false;
  EXPECT_EQ(After(WithFar(write, of_write)), "NAK 0+2 msn 1");
  EXPECT_EQ(After(write), "ACK+3 msn 2");
}

TEST_F(ResponderTest, PayloadOfARepetitionIsNotFetched) {
  receives_.Post(1, 2 * kMtu);
  const Packet send =
      Burst(2, WithAckReq(Message(Opcode::kRcSendOnly, 0, 2 * kMtu)));
  const BenchFar far(send);
  After(WithFar(send, far));
  EXPECT_EQ(After(WithFar(send, far)), "ACK+1 msn 1");
  EXPECT_EQ(far.asked, 1);
}

TEST_F(ResponderTest, PayloadThatIsFarAndTooLongIsRefused) {
  receives_.Post(1, kMtu);
  const Packet send = Burst(2, Message(Opcode::kRcSendOnly, 0, 2 * kMtu));
  const BenchFar far(send);
  EXPECT_EQ(After(WithFar(send, far)), "NAK 1+0 msn 0");
  EXPECT_EQ(far.asked, 0);
}

TEST_F(ResponderTest, AnswerOfAReadGoesTogetherAsItCanBeLent) {
  outbox_.burst = 2 * kMtu;
  outbox_.lent_burst = 4 * kMtu;
  EXPECT_EQ(After(ReadRequest(0, kAddress, 5 * kMtu)),
            "READ FIRST+0 x4 msn 1 len 1024; READ LAST+4 msn 1 len 256");
}

TEST_F(ResponderTest, KnowsTheKeysOfTheLastReads) {
  const auto read = [this] {
    return responder_.HasRead([](Rkey rkey) { return rkey == kKey; });
  };
  EXPECT_FALSE(read());
  After(Write(Opcode::kRcWriteOnly, 0, kMtu, kMtu));
  EXPECT_FALSE(read());
  After(ReadRequest(1, kAddress, kMtu));
  EXPECT_TRUE(read());
  EXPECT_FALSE(responder_.HasRead([](Rkey rkey) { return rkey != kKey; }));
}

}  // namespace
}  // namespace nd::soft
