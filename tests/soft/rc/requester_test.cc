// Every check of the requester, with hand-made answers. Where the kernel's
// rdma_rxe answers otherwise than the rules say, it is put up with.
#include "soft/rc/requester.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <string>

#include "absl/strings/str_cat.h"
#include "soft/rc/bench.h"

namespace nd::soft {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr const char* kSilence = "";
constexpr uint8_t kTimeoutCode = 8;  // 1.048576 ms
const Duration kTimeout = AckTime(kTimeoutCode);
constexpr uint8_t kRnrCode = 14;
const Duration kRnrTime = RnrTime(kRnrCode);

class ActionMock final : public LocalAction {
 public:
  ibv_wc_status Run() override {
    ++runs;
    return status;
  }
  int runs = 0;
  ibv_wc_status status = IBV_WC_SUCCESS;
};

class RequesterTest : public testing::Test {
 protected:
  RequesterTest() {
    attributes_ = {.mtu_bytes = kMtu,
                   .destination = kThere,
                   .send_psn = kBasePsn,
                   .max_rd_atomic = 2,
                   .retry_cnt = 2,
                   .rnr_retry = 2,
                   .ack_timeout = kTimeoutCode,
                   .window = 8};
  }

  // Work over `bytes` of memory of its own; wr_ids count from 0.
  SendWork Work(Operation operation, size_t bytes = 4) {
    Buffer& buffer = buffers_.emplace_back();
    buffer.bytes = Pattern(bytes, 1);
    buffer.segment = buffer.bytes;
    return {.wr_id = buffers_.size() - 1,
            .operation = operation,
            .signaled = true,
            .segments = {&buffer.segment, 1},
            .remote_address = kAddress,
            .rkey = kKey};
  }
  const std::vector<std::byte>& BytesOf(uint64_t wr_id) {
    return std::next(buffers_.begin(), static_cast<long>(wr_id))->bytes;
  }

  std::string AfterPost(const SendWork& work) {
    requester_.Post(work);
    return Sent();
  }
  std::string AfterPost(Operation operation, size_t bytes = 4) {
    return AfterPost(Work(operation, bytes));
  }
  // What is sent after an answer of the peer.
  std::string After(const Packet& packet) {
    requester_.OnPacket(packet, now_);
    return Sent();
  }
  // What is sent once so much time has passed.
  std::string AfterWait(Duration time) {
    now_ += time;
    requester_.OnTimer(now_);
    return Sent();
  }
  std::string Sent() {
    requester_.Transmit(now_, outbox_);
    return outbox_.Take();
  }

  Packet Nak(NakCode code, uint32_t psn) {
    return Acknowledge(psn, Syndrome::Nak(code));
  }
  Packet SequenceNak(uint32_t psn) {
    return Nak(NakCode::kPsnSequenceError, psn);
  }
  Packet RnrNak(uint32_t psn) {
    return Acknowledge(psn, Syndrome::RnrNak(kRnrCode));
  }

  struct Buffer {
    std::vector<std::byte> bytes;
    Segment segment;
  };

  QpOptions options_{.number = kHere, .send_depth = 32};
  QpAttributes attributes_;
  std::list<Buffer> buffers_;
  BenchCompletions completions_;
  BenchOutbox outbox_;
  Instant now_{};
  Requester requester_{options_, attributes_, completions_};
};

// ---- Segmentation

TEST_F(RequesterTest, MessageUpToTheMtuIsOnePacket) {
  EXPECT_EQ(AfterPost(Operation::kSend, 0), "SEND ONLY+0 len 0 A");
  EXPECT_EQ(AfterPost(Operation::kSend, kMtu), "SEND ONLY+1 len 256 A");
}

TEST_F(RequesterTest, PacketsOfAMessageGoTogetherAsTheOutboxTakesThem) {
  outbox_.burst = 2 * kMtu + 10;
  EXPECT_EQ(AfterPost(Operation::kWrite, 4 * kMtu + 1),
            "WRITE FIRST+0 x2 len 512; WRITE MIDDLE+2 x2 len 512 A; "
            "WRITE LAST+4 len 1 A");
  EXPECT_EQ(AfterPost(Operation::kSend, 2 * kMtu - 1),
            "SEND ONLY+5 x2 len 511 A");
  EXPECT_EQ(outbox_.payloads[1],
            std::vector(BytesOf(0).begin() + 512, BytesOf(0).begin() + 1024));
}

TEST_F(RequesterTest, PacketsThatGoTogetherFitTheWindow) {
  outbox_.burst = 12 * kMtu;
  EXPECT_EQ(AfterPost(Operation::kSend, 12 * kMtu),
            "SEND FIRST+0 x8 len 2048 A");
  EXPECT_EQ(After(Acknowledge(7)), "SEND LAST+8 x4 len 1024 A");
  After(Acknowledge(11));
  EXPECT_EQ(completions_.Take(), "send 0 ok");
}

TEST_F(RequesterTest, PacketsGoTogetherLaterRatherThanCutShortByTheWindow) {
  outbox_.burst = 5 * kMtu;
  EXPECT_EQ(AfterPost(Operation::kSend, 12 * kMtu),
            "SEND FIRST+0 x5 len 1280 A");
  EXPECT_EQ(After(Acknowledge(4)),
            "SEND MIDDLE+5 x5 len 1280 A; SEND LAST+10 x2 len 512 A");
}

// The rest of the window is as much as half of it: no acknowledgement may be
// on its way.
TEST_F(RequesterTest, PacketsAreCutShortByAWindowThatMayStayAsItIs) {
  outbox_.burst = 3 * kMtu;
  EXPECT_EQ(AfterPost(Operation::kSend, kMtu), "SEND ONLY+0 len 256 A");
  outbox_.burst = 8 * kMtu;
  EXPECT_EQ(AfterPost(Operation::kSend, 12 * kMtu),
            "SEND FIRST+1 x7 len 1792 A");
}

TEST_F(RequesterTest, PayloadInOnePieceGoesTogetherAsItCanBeLent) {
  outbox_.burst = 2 * kMtu;
  outbox_.lent_burst = 4 * kMtu;
  EXPECT_EQ(AfterPost(Operation::kWrite, 4 * kMtu),
            "WRITE ONLY+0 x4 len 1024 A");
  After(Acknowledge(3));
  SendWork in_two = Work(Operation::kWrite, 2 * kMtu);
  const std::array<Segment, 2> segments = {in_two.segments[0],
                                           in_two.segments[0]};
  in_two.segments = segments;
  EXPECT_EQ(AfterPost(in_two),
            "WRITE FIRST+4 x2 len 512; WRITE LAST+6 x2 len 512 A");
}

TEST_F(RequesterTest, TheWindowIsWiderWhilePayloadIsLent) {
  outbox_.burst = kMtu;
  outbox_.lent_burst = 12 * kMtu;
  EXPECT_EQ(AfterPost(Operation::kWrite, 80 * kMtu),
            "WRITE FIRST+0 x12 len 3072 A; WRITE MIDDLE+12 x12 len 3072 A; "
            "WRITE MIDDLE+24 x12 len 3072 A; WRITE MIDDLE+36 x12 len 3072 A; "
            "WRITE MIDDLE+48 x12 len 3072 A");
  // And what fills the narrow one will be acknowledged.
  outbox_.lent_burst = 0;
  EXPECT_EQ(After(Acknowledge(23)), kSilence);
  EXPECT_EQ(After(Acknowledge(58)),
            "WRITE MIDDLE+60 len 256; WRITE MIDDLE+61 len 256; "
            "WRITE MIDDLE+62 len 256; WRITE MIDDLE+63 len 256 A; "
            "WRITE MIDDLE+64 len 256; WRITE MIDDLE+65 len 256; "
            "WRITE MIDDLE+66 len 256");
}

TEST_F(RequesterTest, BesideShortMessagesFewerPacketsAreInFlight) {
  attributes_.window = 64;
  outbox_.burst = outbox_.lent_burst = 4 * kMtu;
  outbox_.beside = true;
  EXPECT_EQ(AfterPost(Operation::kSend, 100 * kMtu),
            "SEND FIRST+0 x4 len 1024; SEND MIDDLE+4 x4 len 1024 A; "
            "SEND MIDDLE+8 x4 len 1024; SEND MIDDLE+12 x4 len 1024 A");
  EXPECT_EQ(After(Acknowledge(7)),
            "SEND MIDDLE+16 x4 len 1024; SEND MIDDLE+20 x4 len 1024 A");
}

TEST_F(RequesterTest, ShortMessagesBesideOthersHaveTheWholeWindow) {
  attributes_.window = 64;
  outbox_.beside = true;
  for (int i = 0; i < 20; ++i) requester_.Post(Work(Operation::kSend));
  Sent();
  EXPECT_EQ(outbox_.packets.size(), 20u);
}

TEST_F(RequesterTest, AWindowThatHasBecomeNarrowerAsksForAcknowledgements) {
  attributes_.window = 44;
  outbox_.burst = 4 * kMtu;
  AfterPost(Operation::kSend, 100 * kMtu);  // asked for with the first 24
  outbox_.beside = true;
  EXPECT_EQ(After(Acknowledge(23)), "SEND MIDDLE+44 x4 len 1024 A");
  EXPECT_EQ(After(Acknowledge(47)),
            "SEND MIDDLE+48 x4 len 1024; SEND MIDDLE+52 x4 len 1024 A; "
            "SEND MIDDLE+56 x4 len 1024; SEND MIDDLE+60 x4 len 1024 A");
}

TEST_F(RequesterTest, AnswerOfAReadThatIsNotToBeHadIsAskedForOnceMore) {
  AfterPost(Operation::kRead, 4 * kMtu);
  const Packet near =
      Burst(4, ReadResponse(Opcode::kRcReadResponseOnly, 0, 4 * kMtu));
  BenchFar far(near);
  far.lent = false;
  EXPECT_EQ(After(WithFar(near, far)), "READ request+0 from 0 len 1024 A");
  EXPECT_EQ(completions_.Take(), "");
  far.lent = true;
  EXPECT_EQ(After(WithFar(near, far)), kSilence);
  EXPECT_EQ(completions_.Take(), "send 0 ok");
  EXPECT_EQ(BytesOf(0), Pattern(4 * kMtu));
}

TEST_F(RequesterTest, AnswerOfAReadInPacketsThatCameTogetherIsTaken) {
  AfterPost(Operation::kRead, 4 * kMtu);
  EXPECT_EQ(
      After(Burst(3, ReadResponse(Opcode::kRcReadResponseFirst, 0, 3 * kMtu))),
      kSilence);
  After(ReadResponse(Opcode::kRcReadResponseLast, 3, kMtu));
  EXPECT_EQ(completions_.Take(), "send 0 ok");
}

TEST_F(RequesterTest, MorePacketsTogetherThanAReadAskedForAreAnError) {
  AfterPost(Operation::kRead, 2 * kMtu);
  After(Burst(3, ReadResponse(Opcode::kRcReadResponseOnly, 0, 2 * kMtu)));
  EXPECT_EQ(completions_.Take(),
            absl::StrCat("send 0 status ", IBV_WC_BAD_RESP_ERR));
}

TEST_F(RequesterTest, PacketsTogetherOfTheWrongLengthAreAnError) {
  AfterPost(Operation::kRead, 2 * kMtu);
  After(Burst(2, ReadResponse(Opcode::kRcReadResponseOnly, 0, kMtu)));
  EXPECT_EQ(completions_.Take(),
            absl::StrCat("send 0 status ", IBV_WC_LOC_LEN_ERR));
}

TEST_F(RequesterTest, LongMessageIsCutAtTheMtu) {
  EXPECT_EQ(AfterPost(Operation::kWrite, 2 * kMtu + 1),
            "WRITE FIRST+0 len 256; WRITE MIDDLE+1 len 256; "
            "WRITE LAST+2 len 1 A");
  EXPECT_EQ(outbox_.packets[0].reth,
            (Reth{.address = kAddress, .rkey = kKey, .length = 2 * kMtu + 1}));
  EXPECT_EQ(outbox_.payloads[2][0], BytesOf(0)[2 * kMtu]);
}

// Without acknowledgements the application may change it once it was sent.
TEST_F(RequesterTest, PayloadLastsWhereItIsToBeAcknowledged) {
  AfterPost(Operation::kWrite);
  EXPECT_EQ(outbox_.lasts, std::vector<bool>{true});
  const QpOptions unreliable{.transport = Transport::kUc, .send_depth = 4};
  Requester requester(unreliable, attributes_, completions_);
  requester.Post(Work(Operation::kWrite));
  BenchOutbox outbox;
  requester.Transmit(now_, outbox);
  EXPECT_EQ(outbox.lasts, std::vector<bool>{false});
}

TEST_F(RequesterTest, PayloadIsGatheredAcrossSegments) {
  std::vector<std::byte> bytes = Pattern(2 * kMtu);
  const std::array<Segment, 3> segments = {
      std::span(bytes).first(100), Segment(), std::span(bytes).subspan(100)};
  SendWork work = Work(Operation::kSend);
  work.segments = segments;
  AfterPost(work);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.begin() + kMtu,
                         outbox_.payloads[0].begin()));
  EXPECT_TRUE(std::equal(bytes.begin() + kMtu, bytes.end(),
                         outbox_.payloads[1].begin()));
}

TEST_F(RequesterTest, ImmediateAndSolicitedAreOnTheLastPacketOnly) {
  SendWork work = Work(Operation::kSend, kMtu + 1);
  work.ending = Ending::kImmediate;
  work.immediate = 0xabcd;
  work.solicited = true;
  AfterPost(work);
  EXPECT_FALSE(outbox_.packets[0].bth.solicited);
  EXPECT_TRUE(outbox_.packets[1].bth.solicited);
  EXPECT_EQ(outbox_.packets[1].bth.opcode, Opcode::kRcSendLastImm);
  EXPECT_EQ(outbox_.packets[1].imm_dt.value, 0xabcdu);
}

TEST_F(RequesterTest, InvalidateNamesItsKey) {
  SendWork work = Work(Operation::kSend);
  work.ending = Ending::kInvalidate;
  work.invalidate = Rkey(0x77);
  AfterPost(work);
  EXPECT_EQ(outbox_.packets[0].bth.opcode, Opcode::kRcSendOnlyInv);
  EXPECT_EQ(outbox_.packets[0].ieth.rkey, Rkey(0x77));
}

TEST_F(RequesterTest, ReadTakesAPsnForEveryPacketOfItsAnswer) {
  EXPECT_EQ(AfterPost(Operation::kRead, 2 * kMtu + 1),
            "READ request+0 from 0 len 513 A");
  EXPECT_EQ(AfterPost(Operation::kSend), "SEND ONLY+3 len 4 A");
}

TEST_F(RequesterTest, AckIsAskedForWithinLongMessages) {
  EXPECT_EQ(AfterPost(Operation::kSend, 6 * kMtu),
            "SEND FIRST+0 len 256; SEND MIDDLE+1 len 256; "
            "SEND MIDDLE+2 len 256; SEND MIDDLE+3 len 256 A; "
            "SEND MIDDLE+4 len 256; SEND LAST+5 len 256 A");
}

TEST_F(RequesterTest, CompareSwapHasBothOperandsAndFetchAddOne) {
  SendWork work = Work(Operation::kCompareSwap, 8);
  work.compare = 1;
  work.swap_or_add = 2;
  AfterPost(work);
  work.operation = Operation::kFetchAdd;
  AfterPost(work);
  EXPECT_EQ(
      outbox_.packets[0].atomic_eth,
      (AtomicEth{
          .address = kAddress, .rkey = kKey, .swap_or_add = 2, .compare = 1}));
  EXPECT_EQ(outbox_.packets[1].atomic_eth,
            (AtomicEth{.address = kAddress, .rkey = kKey, .swap_or_add = 2}));
}

// ---- What may go

TEST_F(RequesterTest, WindowBoundsWhatIsUnacknowledged) {
  AfterPost(Operation::kSend, 9 * kMtu);
  EXPECT_EQ(outbox_.packets.size(), 8u);
  EXPECT_EQ(After(Acknowledge(0)), "SEND LAST+8 len 256 A");
}

TEST_F(RequesterTest, ReadCountsAgainstTheWindowByItsRequestOnly) {
  AfterPost(Operation::kRead, 100 * kMtu);
  EXPECT_EQ(AfterPost(Operation::kSend), "SEND ONLY+100 len 4 A");
}

TEST_F(RequesterTest, LongReadIsAskedForInPartsThatCountAsReads) {
  attributes_.read_packets = 2;
  EXPECT_EQ(
      AfterPost(Operation::kRead, 5 * kMtu + 1),
      "READ request+0 from 0 len 512 A; READ request+2 from 512 len 512 A");
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu)),
            kSilence);
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseLast, 1, kMtu)),
            "READ request+4 from 1024 len 257 A");
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(RequesterTest, PartOfAReadThatLosesItsTailIsAskedUpToItsEnd) {
  attributes_.read_packets = 2;
  AfterPost(Operation::kRead, 4 * kMtu);
  After(ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu));
  EXPECT_EQ(
      After(ReadResponse(Opcode::kRcReadResponseFirst, 2, kMtu)),
      "READ request+1 from 256 len 256 A; READ request+2 from 512 len 512 A");
}

TEST_F(RequesterTest, ReadsInFlightAreAsManyAsAgreed) {
  AfterPost(Operation::kRead);
  AfterPost(Operation::kRead);
  EXPECT_EQ(AfterPost(Operation::kRead), kSilence);
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseOnly, 0, 4)),
            "READ request+2 from 0 len 4 A");
}

TEST_F(RequesterTest, AtomicCountsAsARead) {
  AfterPost(Operation::kRead);
  AfterPost(Operation::kFetchAdd, 8);
  EXPECT_EQ(AfterPost(Operation::kFetchAdd, 8), kSilence);
  After(ReadResponse(Opcode::kRcReadResponseOnly, 0, 4));
  EXPECT_EQ(After(AtomicResponse(1, 1)), kSilence);
}

TEST_F(RequesterTest, FencedWorkWaitsForReadsBeforeIt) {
  AfterPost(Operation::kRead);
  SendWork fenced = Work(Operation::kSend);
  fenced.fence = true;
  EXPECT_EQ(AfterPost(fenced), kSilence);
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseOnly, 0, 4)),
            "SEND ONLY+1 len 4 A");
}

TEST_F(RequesterTest, FencedWorkDoesNotWaitForSends) {
  AfterPost(Operation::kSend);
  SendWork fenced = Work(Operation::kSend);
  fenced.fence = true;
  EXPECT_EQ(AfterPost(fenced), "SEND ONLY+1 len 4 A");
}

TEST_F(RequesterTest, FullOutboxIsWaitedFor) {
  outbox_.limit = 1;
  EXPECT_EQ(AfterPost(Operation::kSend, 2 * kMtu), "SEND FIRST+0 len 256");
  outbox_.limit = 5;
  EXPECT_EQ(Sent(), "SEND LAST+1 len 256 A");
}

TEST_F(RequesterTest, PsnsInFlightStayComparable) {
  attributes_.mtu_bytes = 1;
  attributes_.read_packets = 1 << 24;
  // Two of these in flight would be more than 2^23 packets.
  std::byte byte{};
  SendWork read = Work(Operation::kRead);
  const Segment huge(&byte, size_t{6} << 20);
  read.segments = {&huge, 1};
  AfterPost(read);
  EXPECT_EQ(AfterPost(read), kSilence);
}

// ---- Completions

TEST_F(RequesterTest, OneAckCompletesAllBeforeIt) {
  AfterPost(Operation::kSend);
  AfterPost(Operation::kWrite);
  AfterPost(Operation::kSend);
  After(Acknowledge(2));
  EXPECT_EQ(completions_.Take(), "send 0 ok, send 1 ok, send 2 ok");
}

TEST_F(RequesterTest, AckInsideAMessageDoesNotCompleteIt) {
  AfterPost(Operation::kSend, 2 * kMtu);
  After(Acknowledge(0));
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(RequesterTest, UnsignaledWorkLeavesInSilence) {
  SendWork work = Work(Operation::kSend);
  work.signaled = false;
  AfterPost(work);
  After(Acknowledge(0));
  EXPECT_EQ(completions_.Take(), "");
  EXPECT_EQ(requester_.queued(), 0u);
}

TEST_F(RequesterTest, UnsignaledWorkThatFailsIsTold) {
  SendWork work = Work(Operation::kSend);
  work.signaled = false;
  AfterPost(work);
  After(Nak(NakCode::kInvalidRequest, 0));
  EXPECT_EQ(completions_.Take(), "send 0 status 9");
}

TEST_F(RequesterTest, ReadResponseAcknowledgesWhatIsBeforeIt) {
  AfterPost(Operation::kSend);
  AfterPost(Operation::kRead);
  AfterPost(Operation::kSend);
  After(ReadResponse(Opcode::kRcReadResponseOnly, 1, 4));
  EXPECT_EQ(completions_.Take(), "send 0 ok, send 1 ok");
}

TEST_F(RequesterTest, ReadIsPutWhereItBelongs) {
  AfterPost(Operation::kRead, kMtu + 4);
  After(ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu));
  EXPECT_EQ(completions_.Take(), "");
  After(ReadResponse(Opcode::kRcReadResponseLast, 1, 4));
  EXPECT_EQ(completions_.Take(), "send 0 ok");
  EXPECT_EQ(BytesOf(0)[255], Pattern(kMtu)[255]);
  EXPECT_EQ(BytesOf(0)[kMtu + 3], Pattern(4)[3]);
}

TEST_F(RequesterTest, AtomicBringsTheOriginalInHostOrder) {
  AfterPost(Operation::kFetchAdd, 8);
  After(AtomicResponse(0, 0x0102030405060708));
  uint64_t original = 0;
  std::memcpy(&original, BytesOf(0).data(), 8);
  EXPECT_EQ(original, 0x0102030405060708u);
  EXPECT_EQ(completions_.Take(), "send 0 ok");
}

// ---- Answers that mean nothing

TEST_F(RequesterTest, GhostAndOldAcksAreIgnored) {
  EXPECT_EQ(After(Acknowledge(0)), kSilence);
  AfterPost(Operation::kSend);
  EXPECT_EQ(After(Acknowledge(1)), kSilence);
  EXPECT_EQ(After(Acknowledge(-1)), kSilence);
  EXPECT_EQ(completions_.Take(), "");
  After(Acknowledge(0));
  After(Acknowledge(0));
  EXPECT_EQ(completions_.Take(), "send 0 ok");
}

TEST_F(RequesterTest, OldNakIsIgnored) {
  AfterPost(Operation::kSend);
  AfterPost(Operation::kSend);
  After(Acknowledge(0));
  EXPECT_EQ(After(SequenceNak(0)), kSilence);
  EXPECT_EQ(After(RnrNak(0)), kSilence);
  EXPECT_EQ(After(Nak(NakCode::kRemoteAccessError, 0)), kSilence);
  EXPECT_EQ(completions_.Take(), "send 0 ok");
}

TEST_F(RequesterTest, ReservedSyndromeIsIgnored) {
  AfterPost(Operation::kSend);
  EXPECT_EQ(After(Acknowledge(0, Syndrome(0x45))), kSilence);
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(RequesterTest, CreditsAreNoLimit) {
  AfterPost(Operation::kSend);
  After(Acknowledge(0, Syndrome::Ack(0)));
  EXPECT_EQ(completions_.Take(), "send 0 ok");
  EXPECT_EQ(AfterPost(Operation::kSend), "SEND ONLY+1 len 4 A");
}

TEST_F(RequesterTest, DuplicateReadResponseIsNotPlacedAgain) {
  AfterPost(Operation::kRead, 2 * kMtu);
  After(ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu));
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu)),
            kSilence);
  EXPECT_EQ(completions_.Take(), "");
}

// ---- NAKs

TEST_F(RequesterTest, SequenceNakAcknowledgesAndGoesBack) {
  AfterPost(Operation::kSend);
  AfterPost(Operation::kSend);
  AfterPost(Operation::kSend);
  EXPECT_EQ(After(SequenceNak(1)), "SEND ONLY+1 len 4 A; SEND ONLY+2 len 4 A");
  EXPECT_EQ(completions_.Take(), "send 0 ok");
}

TEST_F(RequesterTest, SameSequenceNakAgainIsNothingNew) {
  AfterPost(Operation::kSend);
  After(SequenceNak(0));
  EXPECT_EQ(After(SequenceNak(0)), kSilence);
}

TEST_F(RequesterTest, GoesBackIntoTheMiddleOfAMessage) {
  AfterPost(Operation::kWrite, 3 * kMtu);
  EXPECT_EQ(After(SequenceNak(1)),
            "WRITE MIDDLE+1 len 256; WRITE LAST+2 len 256 A");
}

TEST_F(RequesterTest, SequenceNakSpendsARetry) {
  attributes_.retry_cnt = 0;
  AfterPost(Operation::kSend);
  EXPECT_EQ(After(SequenceNak(0)), kSilence);
  EXPECT_EQ(completions_.Take(), "send 0 status 12");
}

TEST_F(RequesterTest, FatalNaksEndTheWork) {
  const struct {
    NakCode code;
    const char* ends;
  } cases[] = {
      {NakCode::kInvalidRequest, "send 0 ok, send 1 status 9"},
      {NakCode::kRemoteAccessError, "send 2 ok, send 3 status 10"},
      {NakCode::kRemoteOperationalError, "send 4 ok, send 5 status 11"},
      {NakCode::kInvalidRdRequest, "send 6 ok, send 7 status 11"}};
  for (const auto& [code, ends] : cases) {
    requester_.Reset();
    AfterPost(Operation::kSend);
    AfterPost(Operation::kSend);
    After(Nak(code, 1));
    EXPECT_EQ(completions_.Take(), ends);
    EXPECT_TRUE(requester_.failed());
  }
}

TEST_F(RequesterTest, FatalNakInsideAReadEndsTheRead) {
  AfterPost(Operation::kRead, 3 * kMtu);
  After(Nak(NakCode::kRemoteAccessError, 1));
  EXPECT_EQ(completions_.Take(), "send 0 status 10");
}

TEST_F(RequesterTest, FatalNakBehindAnUnansweredReadAsksForTheReadFirst) {
  AfterPost(Operation::kRead);
  AfterPost(Operation::kSend);
  EXPECT_EQ(After(Nak(NakCode::kInvalidRequest, 1)),
            "READ request+0 from 0 len 4 A; SEND ONLY+1 len 4 A");
  EXPECT_EQ(completions_.Take(), "");
}

// ---- RNR

TEST_F(RequesterTest, RnrNakBehindALostReadAsksForTheReadAtOnce) {
  const std::string read = AfterPost(Operation::kRead);
  const std::string send = AfterPost(Operation::kSend);
  EXPECT_EQ(After(RnrNak(1)), read + "; " + send);
}

// It counted against the limits before the requester went back.
TEST_F(RequesterTest, LateAnswerBeforeTheRepeatCountsOnce) {
  attributes_.max_rd_atomic = 1;
  AfterPost(Operation::kRead);
  EXPECT_EQ(AfterPost(Operation::kFetchAdd, 8), kSilence);
  now_ += kTimeout;
  requester_.OnTimer(now_);
  EXPECT_NE(After(ReadResponse(Opcode::kRcReadResponseOnly, 0, 4)), kSilence);
  EXPECT_EQ(completions_.Take(), "send 0 ok");
}

TEST_F(RequesterTest, RepeatAsksForAcknowledgementsWhereTheFirstDid) {
  attributes_.window = 4;
  outbox_.limit = 3;
  const std::string sent = AfterPost(Operation::kSend, 3 * kMtu + 1);
  outbox_.limit = 3;
  EXPECT_EQ(After(SequenceNak(0)), sent);
}

TEST_F(RequesterTest, WindowGrowsByOneForEachThatIsAnsweredUpToItsMost) {
  attributes_.window = 4;
  attributes_.max_window = 6;
  AfterPost(Operation::kSend, 40 * kMtu);
  EXPECT_EQ(outbox_.packets.size(), 4u);
  After(Acknowledge(3));
  EXPECT_EQ(outbox_.packets.size(), 4u + 5u);
  After(Acknowledge(8));
  EXPECT_EQ(outbox_.packets.size(), 9u + 6u);
  After(Acknowledge(14));
  EXPECT_EQ(outbox_.packets.size(), 15u + 6u);
}

TEST_F(RequesterTest, WindowThatGrewAsksForAnAnswerAtItsHalf) {
  attributes_.window = 4;
  attributes_.max_window = 6;
  AfterPost(Operation::kSend, 40 * kMtu);
  After(Acknowledge(3));
  outbox_.Take();
  EXPECT_EQ(After(Acknowledge(8)),
            "SEND MIDDLE+9 len 256; SEND MIDDLE+10 len 256 A; "
            "SEND MIDDLE+11 len 256; SEND MIDDLE+12 len 256; "
            "SEND MIDDLE+13 len 256 A; SEND MIDDLE+14 len 256");
}

TEST_F(RequesterTest, LossTakesHalfOfWhatTheWindowHasGrown) {
  attributes_.window = 4;
  attributes_.max_window = 6;
  AfterPost(Operation::kSend, 40 * kMtu);
  After(Acknowledge(3));
  After(Acknowledge(8));
  const size_t before = outbox_.packets.size();
  After(SequenceNak(9));
  EXPECT_EQ(outbox_.packets.size(), before + 5);
}

TEST_F(RequesterTest, WindowDoesNotGrowWhereNothingIsRepeated) {
  attributes_.window = 4;
  attributes_.max_window = 6;
  attributes_.retry_cnt = 0;
  AfterPost(Operation::kSend, 40 * kMtu);
  After(Acknowledge(3));
  EXPECT_EQ(outbox_.packets.size(), 4u + 4u);
}

TEST_F(RequesterTest, WindowThatIsNotMadeUseOfDoesNotGrow) {
  attributes_.window = 4;
  attributes_.max_window = 6;
  for (uint32_t i = 0; i < 20; ++i) {
    AfterPost(Operation::kSend);
    After(Acknowledge(i));
  }
  AfterPost(Operation::kSend, 40 * kMtu);
  EXPECT_EQ(outbox_.packets.size(), 20u + 4u);
}

TEST_F(RequesterTest, RnrNakAcknowledgesWaitsAndResends) {
  AfterPost(Operation::kSend);
  AfterPost(Operation::kSend);
  EXPECT_EQ(After(RnrNak(1)), kSilence);
  EXPECT_EQ(completions_.Take(), "send 0 ok");
  EXPECT_EQ(requester_.NextDeadline(), now_ + kRnrTime);
  EXPECT_EQ(AfterPost(Operation::kSend), kSilence);
  EXPECT_EQ(AfterWait(kRnrTime - microseconds(1)), kSilence);
  EXPECT_EQ(AfterWait(microseconds(1)),
            "SEND ONLY+1 len 4 A; SEND ONLY+2 len 4 A");
}

TEST_F(RequesterTest, RnrRetriesAreCountedAndProgressForgivesThem) {
  AfterPost(Operation::kSend, 2 * kMtu);
  After(RnrNak(0));
  AfterWait(kRnrTime);
  After(RnrNak(0));
  AfterWait(kRnrTime);
  After(RnrNak(1));
  AfterWait(kRnrTime);
  After(RnrNak(1));
  AfterWait(kRnrTime);
  EXPECT_EQ(completions_.Take(), "");
  After(RnrNak(1));
  EXPECT_EQ(completions_.Take(), "send 0 status 13");
}

TEST_F(RequesterTest, RnrRetrySevenIsForEver) {
  attributes_.rnr_retry = kRnrRetryForever;
  AfterPost(Operation::kSend);
  for (int i = 0; i < 300; ++i) {
    After(RnrNak(0));
    AfterWait(kRnrTime);
  }
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(RequesterTest, SameRnrNakAgainSpendsNothing) {
  attributes_.rnr_retry = 1;
  AfterPost(Operation::kSend);
  After(RnrNak(0));
  now_ += microseconds(1);
  After(RnrNak(0));
  EXPECT_EQ(completions_.Take(), "");
  EXPECT_EQ(requester_.NextDeadline(), now_ - microseconds(1) + kRnrTime);
}

TEST_F(RequesterTest, SequenceNakDuringTheRnrWaitIsNothingNew) {
  attributes_.retry_cnt = 0;
  AfterPost(Operation::kSend);
  AfterPost(Operation::kSend);
  After(RnrNak(0));
  EXPECT_EQ(After(SequenceNak(0)), kSilence);
  EXPECT_EQ(completions_.Take(), "");
  EXPECT_EQ(requester_.NextDeadline(), now_ + kRnrTime);
}

TEST_F(RequesterTest, RnrWaitIsOverWithItsTimer) {
  AfterPost(Operation::kSend);
  After(RnrNak(0));
  now_ += kRnrTime;
  requester_.OnTimer(now_);
  EXPECT_EQ(requester_.NextDeadline(), std::nullopt);
}

TEST_F(RequesterTest, ResendingEndsTheRnrWaitThoughNoTimerWasHeard) {
  AfterPost(Operation::kSend);
  After(RnrNak(0));
  now_ += kRnrTime;
  EXPECT_EQ(Sent(), "SEND ONLY+0 len 4 A");
  EXPECT_EQ(requester_.NextDeadline(), now_ + kTimeout);
}

TEST_F(RequesterTest, ResetForgetsRetriesAndTheRnrWait) {
  AfterPost(Operation::kSend);
  AfterWait(kTimeout);
  AfterWait(kTimeout);
  After(RnrNak(0));
  requester_.Reset();
  EXPECT_EQ(AfterPost(Operation::kSend), "SEND ONLY+0 len 4 A");
  AfterWait(kTimeout);
  EXPECT_EQ(AfterWait(kTimeout), "SEND ONLY+0 len 4 A");
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(RequesterTest, LateAckEndsTheRnrWait) {
  AfterPost(Operation::kSend);
  AfterPost(Operation::kSend);
  After(RnrNak(0));
  EXPECT_EQ(After(Acknowledge(0)), "SEND ONLY+1 len 4 A");
  EXPECT_EQ(completions_.Take(), "send 0 ok");
}

// ---- Time

TEST_F(RequesterTest, TimeoutResendsFromTheFirstUnacknowledged) {
  AfterPost(Operation::kSend);
  AfterPost(Operation::kSend);
  After(Acknowledge(0));
  EXPECT_EQ(AfterWait(kTimeout - microseconds(1)), kSilence);
  EXPECT_EQ(AfterWait(microseconds(1)), "SEND ONLY+1 len 4 A");
}

TEST_F(RequesterTest, TimeoutResendsOnePacketThatAsksForAnAck) {
  AfterPost(Operation::kSend, 3 * kMtu);
  AfterPost(Operation::kSend);
  EXPECT_EQ(AfterWait(kTimeout), "SEND FIRST+0 len 256 A");
  EXPECT_EQ(
      After(Acknowledge(0)),
      "SEND MIDDLE+1 len 256; SEND LAST+2 len 256 A; SEND ONLY+3 len 4 A");
}

TEST_F(RequesterTest, PeerThatHasAllAfterATimeoutGetsNoneOfItAgain) {
  AfterPost(Operation::kSend, 3 * kMtu);
  AfterWait(kTimeout);
  EXPECT_EQ(After(Acknowledge(2)), kSilence);
  EXPECT_EQ(completions_.Take(), "send 0 ok");
}

// Of READs each has to be answered.
TEST_F(RequesterTest, AfterATimeoutReadsAreAskedForAgainAsTheyAreAnswered) {
  attributes_.max_rd_atomic = 8;
  for (int i = 0; i < 6; ++i) AfterPost(Operation::kRead);
  EXPECT_EQ(AfterWait(kTimeout), "READ request+0 from 0 len 4 A");
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseOnly, 0, 4)),
            "READ request+1 from 0 len 4 A; READ request+2 from 0 len 4 A");
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseOnly, 1, 4)),
            "READ request+3 from 0 len 4 A; READ request+4 from 0 len 4 A");
  EXPECT_EQ(AfterWait(kTimeout), "READ request+2 from 0 len 4 A");
}

TEST_F(RequesterTest, PartOfAnAnswerAfterATimeoutIsNoReasonToAskForMore) {
  AfterPost(Operation::kRead, 2 * kMtu);
  AfterPost(Operation::kRead);
  AfterWait(kTimeout);
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu)),
            kSilence);
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseLast, 1, kMtu)),
            "READ request+2 from 0 len 4 A");
}

TEST_F(RequesterTest, LateAnswersAfterATimeoutAreNotAskedForAgain) {
  attributes_.max_rd_atomic = 3;
  ActionMock action;
  SendWork local = Work(Operation::kLocal);
  local.action = &action;
  AfterPost(Operation::kRead);
  AfterPost(Operation::kRead);
  AfterPost(local);
  AfterPost(Operation::kWrite);
  AfterPost(Operation::kRead, 2 * kMtu);
  EXPECT_EQ(AfterPost(Operation::kFetchAdd, 8), kSilence);
  AfterWait(kTimeout);
  requester_.OnPacket(ReadResponse(Opcode::kRcReadResponseOnly, 0, 4), now_);
  now_ += kTimeout / 2;
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseOnly, 1, 4)),
            "ATOMIC request+5 A");  // the next one, for the first time
  EXPECT_EQ(requester_.NextDeadline(), now_ + kTimeout);
  EXPECT_EQ(AfterPost(Operation::kRead), "READ request+6 from 0 len 4 A");
  EXPECT_EQ(AfterPost(Operation::kRead), kSilence);  // three are in flight
  After(ReadResponse(Opcode::kRcReadResponseFirst, 3, kMtu));
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseLast, 4, kMtu)),
            "READ request+7 from 0 len 4 A");
  After(AtomicResponse(5, 1));
  EXPECT_EQ(completions_.Take(),
            "send 1 ok, send 2 ok, send 0 ok, send 3 ok, send 4 ok, send 5 ok");
  EXPECT_EQ(AfterWait(kTimeout), "READ request+6 from 0 len 4 A");
}

TEST_F(RequesterTest, LateAnswerInsteadOfTheRepeatIsNotAskedForAgain) {
  AfterPost(Operation::kRead, 2 * kMtu);
  AfterPost(Operation::kRead);
  outbox_.limit = 0;
  AfterWait(kTimeout);
  After(ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu));
  outbox_.limit = 9;
  EXPECT_EQ(Sent(), kSilence);
  EXPECT_EQ(AfterPost(Operation::kRead), kSilence);  // two are in flight
}

TEST_F(RequesterTest, SequenceNakAfterATimeoutResendsAllReads) {
  const std::string first = AfterPost(Operation::kRead);
  const std::string second = AfterPost(Operation::kRead);
  AfterWait(kTimeout);
  EXPECT_EQ(After(SequenceNak(0)), first + "; " + second);
}

TEST_F(RequesterTest, SequenceNakAfterATimeoutResendsAll) {
  AfterPost(Operation::kSend, 2 * kMtu);
  AfterWait(kTimeout);
  EXPECT_EQ(After(SequenceNak(0)),
            "SEND FIRST+0 len 256; SEND LAST+1 len 256 A");
}

TEST_F(RequesterTest, RetryCountIsTheNumberOfRepeats) {
  AfterPost(Operation::kSend);
  EXPECT_EQ(AfterWait(kTimeout), "SEND ONLY+0 len 4 A");
  EXPECT_EQ(AfterWait(kTimeout), "SEND ONLY+0 len 4 A");
  EXPECT_EQ(AfterWait(kTimeout), kSilence);
  EXPECT_EQ(completions_.Take(), "send 0 status 12");
  EXPECT_TRUE(requester_.failed());
}

TEST_F(RequesterTest, ProgressForgivesRetries) {
  AfterPost(Operation::kSend, 2 * kMtu);
  AfterWait(kTimeout);
  AfterWait(kTimeout);
  After(Acknowledge(0));
  AfterWait(kTimeout);
  EXPECT_EQ(AfterWait(kTimeout), "SEND LAST+1 len 256 A");
}

TEST_F(RequesterTest, ProgressWindsTheTimer) {
  AfterPost(Operation::kSend, 2 * kMtu);
  now_ += kTimeout / 2;
  After(Acknowledge(0));
  EXPECT_EQ(requester_.NextDeadline(), now_ + kTimeout);
  After(Acknowledge(1));
  EXPECT_EQ(requester_.NextDeadline(), std::nullopt);
}

TEST_F(RequesterTest, TimeoutZeroIsNever) {
  attributes_.ack_timeout = 0;
  AfterPost(Operation::kSend);
  EXPECT_EQ(requester_.NextDeadline(), std::nullopt);
}

// ---- READs that lose something

TEST_F(RequesterTest, AckBehindAnUnansweredReadAsksForItAgain) {
  AfterPost(Operation::kRead);
  AfterPost(Operation::kSend);
  EXPECT_EQ(After(Acknowledge(1)),
            "READ request+0 from 0 len 4 A; SEND ONLY+1 len 4 A");
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(RequesterTest, AckOfAReadIsNoAnswer) {
  AfterPost(Operation::kRead);
  EXPECT_EQ(After(Acknowledge(0)), "READ request+0 from 0 len 4 A");
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(RequesterTest, GapInAReadAsksForTheMissingTail) {
  AfterPost(Operation::kRead, 3 * kMtu + 4);
  After(ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu));
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseMiddle, 2, kMtu)),
            "READ request+1 from 256 len 516 A");
}

TEST_F(RequesterTest, TailOfAReadComesInEitherForm) {
  AfterPost(Operation::kRead, 3 * kMtu);
  After(ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu));
  AfterWait(kTimeout);
  After(ReadResponse(Opcode::kRcReadResponseFirst, 1, kMtu));
  After(ReadResponse(Opcode::kRcReadResponseOnly, 2, kMtu));
  EXPECT_EQ(completions_.Take(), "send 0 ok");
}

TEST_F(RequesterTest, AnswerToALaterReadAsksForTheEarlierOne) {
  AfterPost(Operation::kRead);
  AfterPost(Operation::kRead);
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseOnly, 1, 4)),
            "READ request+0 from 0 len 4 A; READ request+1 from 0 len 4 A");
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(RequesterTest, AnswerToALaterAtomicAsksForTheEarlierOne) {
  AfterPost(Operation::kFetchAdd, 8);
  AfterPost(Operation::kFetchAdd, 8);
  EXPECT_EQ(After(AtomicResponse(1, 5)),
            "ATOMIC request+0 A; ATOMIC request+1 A");
}

TEST_F(RequesterTest, GapSpendsOneRetry) {
  attributes_.retry_cnt = 1;
  AfterPost(Operation::kRead, 4 * kMtu);
  After(ReadResponse(Opcode::kRcReadResponseMiddle, 1, kMtu));
  EXPECT_EQ(After(ReadResponse(Opcode::kRcReadResponseMiddle, 2, kMtu)),
            kSilence);
  EXPECT_EQ(completions_.Take(), "");
}

TEST_F(RequesterTest, LateAnswerAfterGoingBackIsTaken) {
  AfterPost(Operation::kRead, 2 * kMtu);
  AfterPost(Operation::kRead);
  outbox_.limit = 0;
  After(ReadResponse(Opcode::kRcReadResponseLast, 1, kMtu));
  After(ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu));
  outbox_.limit = 9;
  EXPECT_EQ(Sent(),
            "READ request+1 from 256 len 256 A; READ request+2 from 0 len 4 A");
}

// ---- Answers that are wrong

TEST_F(RequesterTest, ShortReadResponseIsALengthError) {
  AfterPost(Operation::kRead, 100);
  After(ReadResponse(Opcode::kRcReadResponseOnly, 0, 50));
  EXPECT_EQ(completions_.Take(), "send 0 status 1");
}

TEST_F(RequesterTest, LongReadResponseIsALengthError) {
  AfterPost(Operation::kRead, 100);
  After(ReadResponse(Opcode::kRcReadResponseOnly, 0, 200));
  EXPECT_EQ(completions_.Take(), "send 0 status 1");
}

TEST_F(RequesterTest, ReadThatEndsEarlyIsABadResponse) {
  AfterPost(Operation::kRead, 2 * kMtu);
  After(ReadResponse(Opcode::kRcReadResponseOnly, 0, kMtu));
  EXPECT_EQ(completions_.Take(), "send 0 status 7");
}

TEST_F(RequesterTest, ReadThatDoesNotEndIsABadResponse) {
  AfterPost(Operation::kRead, kMtu);
  After(ReadResponse(Opcode::kRcReadResponseFirst, 0, kMtu));
  EXPECT_EQ(completions_.Take(), "send 0 status 7");
}

TEST_F(RequesterTest, ReadResponseToASendIsABadResponse) {
  AfterPost(Operation::kSend);
  After(ReadResponse(Opcode::kRcReadResponseOnly, 0, 4));
  EXPECT_EQ(completions_.Take(), "send 0 status 7");
}

TEST_F(RequesterTest, AtomicResponseToAReadIsABadResponse) {
  AfterPost(Operation::kRead, 8);
  After(AtomicResponse(0, 5));
  EXPECT_EQ(completions_.Take(), "send 0 status 7");
}

// ---- Work that is wrong

TEST_F(RequesterTest, FaultyWorkFailsOnceThoseBeforeItHaveCompleted) {
  AfterPost(Operation::kSend);
  SendWork faulty = Work(Operation::kSend);
  faulty.fault = IBV_WC_LOC_PROT_ERR;
  EXPECT_EQ(AfterPost(faulty), kSilence);
  EXPECT_EQ(completions_.Take(), "");
  After(Acknowledge(0));
  EXPECT_EQ(completions_.Take(), "send 0 ok, send 1 status 4");
}

TEST_F(RequesterTest, AtomicOfAWrongLengthIsALengthError) {
  AfterPost(Operation::kFetchAdd, 4);
  EXPECT_EQ(completions_.Take(), "send 0 status 1");
}

TEST_F(RequesterTest, ReadWhereNoneIsAgreedIsAnOperationError) {
  attributes_.max_rd_atomic = 0;
  AfterPost(Operation::kRead);
  EXPECT_EQ(completions_.Take(), "send 0 status 2");
}

TEST_F(RequesterTest, MessageOverTheLongestIsALengthError) {
  std::byte byte{};
  const Segment huge(&byte, kMaxMessageBytes + 1);
  SendWork work = Work(Operation::kSend);
  work.segments = {&huge, 1};
  AfterPost(work);
  EXPECT_EQ(completions_.Take(), "send 0 status 1");
}

// ---- Local work

TEST_F(RequesterTest, LocalWorkRunsOnceAndCompletesInOrder) {
  ActionMock action;
  AfterPost(Operation::kSend);
  SendWork local = Work(Operation::kLocal);
  local.action = &action;
  AfterPost(local);
  EXPECT_EQ(AfterPost(Operation::kSend), "SEND ONLY+1 len 4 A");
  AfterWait(kTimeout);
  EXPECT_EQ(action.runs, 1);
  EXPECT_EQ(completions_.Take(), "");
  After(Acknowledge(1));
  EXPECT_EQ(completions_.Take(), "send 0 ok, send 1 ok, send 2 ok");
}

TEST_F(RequesterTest, LocalWorkThatFailsStopsTheQueue) {
  ActionMock action;
  action.status = IBV_WC_MW_BIND_ERR;
  AfterPost(Operation::kSend);
  SendWork local = Work(Operation::kLocal);
  local.action = &action;
  AfterPost(local);
  EXPECT_EQ(AfterPost(Operation::kSend), kSilence);
  EXPECT_EQ(completions_.Take(), "");
  After(Acknowledge(0));
  EXPECT_EQ(completions_.Take(), "send 0 ok, send 1 status 6");
}

TEST_F(RequesterTest, WhatIsSentLaterDoesNotPutTheTimeoutOff) {
  const std::string first = AfterPost(Operation::kSend);
  now_ += kTimeout / 2;
  AfterPost(Operation::kSend);
  EXPECT_EQ(AfterWait(kTimeout / 2), first);
}

TEST_F(RequesterTest, NextSequenceNakAfterProgressIsHeard) {
  AfterPost(Operation::kSend);
  AfterPost(Operation::kSend);
  const std::string last = AfterPost(Operation::kSend);
  EXPECT_NE(After(SequenceNak(1)), kSilence);
  EXPECT_EQ(After(SequenceNak(2)), last);
}

TEST_F(RequesterTest, NothingIsSentBehindAFailure) {
  SendWork faulty = Work(Operation::kSend);
  faulty.fault = IBV_WC_LOC_PROT_ERR;
  AfterPost(faulty);
  EXPECT_TRUE(requester_.failed());
  EXPECT_EQ(AfterPost(Operation::kSend), kSilence);
}

TEST_F(RequesterTest, FencedReadInPartsDoesNotWaitForItself) {
  attributes_.read_packets = 1;
  SendWork read = Work(Operation::kRead, 2 * kMtu);
  read.fence = true;
  EXPECT_EQ(
      AfterPost(read),
      "READ request+0 from 0 len 256 A; READ request+1 from 256 len 256 A");
}

TEST_F(RequesterTest, LocalWorkThatFailedIsToldWhileDrainingToo) {
  ActionMock action;
  action.status = IBV_WC_MW_BIND_ERR;
  AfterPost(Operation::kSend);
  SendWork local = Work(Operation::kLocal);
  local.action = &action;
  AfterPost(local);
  requester_.SetDraining(true);
  After(Acknowledge(0));
  EXPECT_EQ(completions_.Take(), "send 0 ok, send 1 status 6");
}

TEST_F(RequesterTest, FencedLocalWorkWaitsForReads) {
  ActionMock action;
  AfterPost(Operation::kRead);
  SendWork local = Work(Operation::kLocal);
  local.fence = true;
  local.action = &action;
  AfterPost(local);
  EXPECT_EQ(action.runs, 0);
  After(ReadResponse(Opcode::kRcReadResponseOnly, 0, 4));
  EXPECT_EQ(action.runs, 1);
  EXPECT_EQ(completions_.Take(), "send 0 ok, send 1 ok");
}

// ---- Draining and flushing

TEST_F(RequesterTest, DrainingFinishesWhatWasBegunAndBeginsNothing) {
  outbox_.limit = 1;
  AfterPost(Operation::kSend, 2 * kMtu);
  AfterPost(Operation::kSend);
  requester_.SetDraining(true);
  outbox_.limit = 9;
  EXPECT_EQ(Sent(), "SEND LAST+1 len 256 A");
  EXPECT_FALSE(requester_.drained());
  EXPECT_EQ(After(Acknowledge(1)), kSilence);
  EXPECT_TRUE(requester_.drained());
  requester_.SetDraining(false);
  EXPECT_EQ(Sent(), "SEND ONLY+2 len 4 A");
}

TEST_F(RequesterTest, DrainingStillResends) {
  AfterPost(Operation::kSend);
  requester_.SetDraining(true);
  EXPECT_EQ(AfterWait(kTimeout), "SEND ONLY+0 len 4 A");
}

TEST_F(RequesterTest, FlushedWorkIsNotAnsweredAnyMore) {
  AfterPost(Operation::kSend);
  requester_.Flush();
  completions_.Take();
  EXPECT_EQ(After(SequenceNak(0)), kSilence);
  EXPECT_EQ(AfterPost(Operation::kSend), "SEND ONLY+1 len 4 A");
}

TEST_F(RequesterTest, FlushTellsAllInOrder) {
  AfterPost(Operation::kSend);
  SendWork silent = Work(Operation::kRead);
  silent.signaled = false;
  AfterPost(silent);
  requester_.Flush();
  EXPECT_EQ(completions_.Take(), "send 0 status 5, send 1 status 5");
  EXPECT_EQ(requester_.NextDeadline(), std::nullopt);
}

}  // namespace
}  // namespace nd::soft
