#include "verbs/queue_pair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "base/random.h"
#include "verbs/fake_verbs.h"

namespace nd::verbs {
namespace {

using ::testing::HasSubstr;

class QueuePairTest : public ::testing::Test {
 protected:
  QueuePairTest() { fake_.Reset(); }

  void Make(QueuePair::Options options) {
    context_ = Context::Open("fake0").value();
    auto pd = ProtectionDomain::Create(context_).value();
    cq_ = CompletionQueue::Create(context_, 64, nullptr).value();
    options.send_cq = cq_;
    qp_ = QueuePair::Create(std::move(pd), options).value();
    qp_->set_peer("10.0.0.2:9999");
  }

  // What the device would hand out for a posted request.
  void CompleteSend(const FakeVerbs::Posted& posted,
                    ibv_wc_status status = IBV_WC_SUCCESS) {
    ibv_wc wc{};
    wc.wr_id = posted.wr_id;
    wc.status = status;
    wc.qp_num = qp_->qpn();
    // Undefined for failed work: nd must not read it then.
    wc.opcode = status == IBV_WC_SUCCESS ? IBV_WC_SEND : IBV_WC_TM_RECV;
    fake_.Complete(wc);
  }

  std::vector<Completion> Poll() {
    std::vector<Completion> out(64);
    out.resize(cq_->Poll(out).value());
    return out;
  }

  FakeVerbs& fake_ = FakeVerbs::Get();
  std::shared_ptr<Context> context_;
  std::shared_ptr<CompletionQueue> cq_;
  std::unique_ptr<QueuePair> qp_;
};

TEST_F(QueuePairTest, CompletionsCarryTheWrIdThatTheApplicationGave) {
  Make({});
  ASSERT_TRUE(qp_->Post({.flags = IBV_SEND_SIGNALED, .wr_id = ~0ull}).ok());
  ASSERT_TRUE(qp_->PostReceive(1ull << 62, {}).ok());
  CompleteSend(fake_.sends[0]);
  ibv_wc receive{};
  receive.wr_id = fake_.receives[0];
  receive.qp_num = qp_->qpn();
  receive.opcode = IBV_WC_RECV;
  fake_.Complete(receive);

  const auto completions = Poll();

  ASSERT_EQ(completions.size(), 2u);
  EXPECT_EQ(completions[0].wr_id, ~0ull);
  EXPECT_EQ(completions[0].qp, qp_.get());
  EXPECT_EQ(completions[1].wr_id, 1ull << 62);
  EXPECT_TRUE(completions[1].is_receive());
}

TEST_F(QueuePairTest, FullSendQueueRefusesTheWholeChain) {
  Make({.max_send_wr = 4});
  const std::vector<SendRequest> three(3), two(2);
  ASSERT_TRUE(qp_->Post(three).ok());

  EXPECT_EQ(qp_->Post(two).code(), absl::StatusCode::kResourceExhausted);

  EXPECT_EQ(fake_.sends.size(), 3u);
  EXPECT_EQ(qp_->send_room(), 1u);
}

TEST_F(QueuePairTest, ASignalThatNdAskedForIsNotHandedOut) {
  Make({.max_send_wr = 4, .max_unsignaled = 1});
  ASSERT_TRUE(qp_->Post({.wr_id = 1}).ok());
  ASSERT_TRUE(qp_->Post({.wr_id = 2}).ok());
  ASSERT_EQ(fake_.sends[0].flags & IBV_SEND_SIGNALED, 0u);
  ASSERT_NE(fake_.sends[1].flags & IBV_SEND_SIGNALED, 0u);
  CompleteSend(fake_.sends[1]);

  EXPECT_TRUE(Poll().empty());
  EXPECT_EQ(qp_->send_room(), 4u);
}

TEST_F(QueuePairTest, FailureOfAnUnsignalledRequestIsHandedOut) {
  Make({});
  ASSERT_TRUE(qp_->Post({.opcode = IBV_WR_RDMA_WRITE,
                         .wr_id = 5,
                         .remote_addr = 0x1000,
                         .rkey = 0xabc})
                  .ok());
  CompleteSend(fake_.sends[0], IBV_WC_REM_ACCESS_ERR);

  const auto completions = Poll();

  ASSERT_EQ(completions.size(), 1u);
  EXPECT_EQ(completions[0].wr_id, 5u);
  EXPECT_EQ(completions[0].opcode, IBV_WC_RDMA_WRITE);
}

TEST_F(QueuePairTest, FailureSaysWhatWasAskedOfWhomAndWhy) {
  Make({});
  const ibv_sge sge{.addr = 0x10, .length = 64, .lkey = 1};
  ASSERT_TRUE(qp_->Post({.opcode = IBV_WR_RDMA_WRITE,
                         .flags = IBV_SEND_SIGNALED,
                         .sges = {&sge, 1},
                         .remote_addr = 0x1000,
                         .rkey = 0xabc})
                  .ok());
  CompleteSend(fake_.sends[0], IBV_WC_REM_ACCESS_ERR);

  const absl::Status status = Poll().at(0).ToStatus();

  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  const std::string message(status.message());
  EXPECT_THAT(message,
              HasSubstr("RDMA WRITE of 64 bytes at 0x1000, rkey 0xabc"));
  EXPECT_THAT(message, HasSubstr("qpn 0x11, peer 10.0.0.2:9999"));
  EXPECT_THAT(message, HasSubstr("IBV_WC_REM_ACCESS_ERR (10)"));
}

// Whatever is signalled, and however requests and completions interleave, the
// device's queue never holds more than it has places for, and always something
// signalled when it is full.
TEST_F(QueuePairTest, SendQueueNeverOverflowsNorSticks) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    fake_.Reset();
    SeededRandom random(seed);
    const uint32_t depth = 1 + static_cast<uint32_t>(random.Below(9));
    Make({.max_send_wr = depth,
          .max_unsignaled = static_cast<uint32_t>(random.Below(12))});
    size_t done = 0;  // requests that the device has finished
    for (int step = 0; step < 300; ++step) {
      std::vector<SendRequest> chain(1 + random.Below(3));
      for (SendRequest& request : chain) {
        if (random.Below(4) == 0) request.flags = IBV_SEND_SIGNALED;
      }
      if (!qp_->Post(chain).ok() || random.Below(3) == 0) {
        // The device finishes up to the next signalled request.
        while (done < fake_.sends.size()) {
          const FakeVerbs::Posted& posted = fake_.sends[done++];
          if ((posted.flags & IBV_SEND_SIGNALED) == 0) continue;
          CompleteSend(posted);
          break;
        }
        Poll();
      }
      ASSERT_LE(fake_.sends.size() - done, depth);
    }
    while (qp_->send_room() == 0) {
      ASSERT_LT(done, fake_.sends.size()) << "full, and nothing will complete";
      const FakeVerbs::Posted& posted = fake_.sends[done++];
      if ((posted.flags & IBV_SEND_SIGNALED) != 0) CompleteSend(posted);
      Poll();
    }
    qp_.reset();
  }
}

TEST_F(QueuePairTest, RefusedPartOfAChainDoesNotTakePlaces) {
  Make({.max_send_wr = 8});
  fake_.post_limit = 2;
  fake_.post_error = EIO;

  const absl::Status status = qp_->Post(std::vector<SendRequest>(5));

  EXPECT_THAT(std::string(status.message()), HasSubstr("2 of 5 requests"));
  EXPECT_EQ(qp_->send_room(), 6u);
}

TEST_F(QueuePairTest, ReceiveQueueRefusesMoreThanItHolds) {
  Make({.max_recv_wr = 2});
  ASSERT_TRUE(qp_->PostReceive(1, {}).ok());
  ASSERT_TRUE(qp_->PostReceive(2, {}).ok());
  EXPECT_EQ(qp_->PostReceive(3, {}).code(),
            absl::StatusCode::kResourceExhausted);
}

struct BadRequest {
  const char* what;
  SendRequest request;
  size_t sges;
  uint32_t length;
};

void PrintTo(const BadRequest& bad, std::ostream* out) { *out << bad.what; }

class QueuePairRefuses : public QueuePairTest,
                         public ::testing::WithParamInterface<BadRequest> {};

TEST_P(QueuePairRefuses, AndSaysWhy) {
  Make({.max_send_sge = 1, .max_inline = 64});
  const std::vector<ibv_sge> sges(
      GetParam().sges, {.addr = 0, .length = GetParam().length, .lkey = 0});
  SendRequest request = GetParam().request;
  request.sges = sges;

  const absl::Status status = qp_->Post(request);

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().what));
  EXPECT_TRUE(fake_.sends.empty());
}

INSTANTIATE_TEST_SUITE_P(
    , QueuePairRefuses,
    ::testing::Values(
        BadRequest{"more scatter/gather elements", {}, 2, 8},
        BadRequest{"more inline data", {.flags = IBV_SEND_INLINE}, 1, 65},
        BadRequest{"cannot be inline",
                   {.opcode = IBV_WR_RDMA_READ, .flags = IBV_SEND_INLINE},
                   1,
                   8},
        BadRequest{"an atomic is of 8 bytes",
                   {.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD},
                   1,
                   4},
        BadRequest{"an atomic is of 8 bytes",
                   {.opcode = IBV_WR_ATOMIC_CMP_AND_SWP, .remote_addr = 4},
                   1,
                   8},
        BadRequest{"no memory window", {.opcode = IBV_WR_BIND_MW}, 0, 0},
        BadRequest{"not an opcode that a QueuePair posts",
                   {.opcode = IBV_WR_TSO},
                   0,
                   0}));

TEST_F(QueuePairTest, DrainEndsWhenItsMarkerAndEveryReceiveAreFlushed) {
  Make({.max_send_wr = 2, .max_recv_wr = 1, .max_unsignaled = 9});
  ASSERT_TRUE(qp_->Post({.wr_id = 1}).ok());  // succeeds without a completion
  ASSERT_TRUE(qp_->PostReceive(2, {}).ok());
  std::vector<uint64_t> flushed;
  // The device flushes the receive, then, once it is posted, the marker.
  ibv_wc receive{};
  receive.wr_id = fake_.receives[0];
  receive.qp_num = qp_->qpn();
  receive.status = IBV_WC_WR_FLUSH_ERR;
  fake_.Complete(receive);
  CompleteSend({.wr_id = 1, .opcode = IBV_WR_SEND, .flags = 0},
               IBV_WC_WR_FLUSH_ERR);

  const absl::Status status =
      qp_->Drain(Deadline::After(std::chrono::seconds(60)),
                 [&](const Completion& c) { flushed.push_back(c.wr_id); });

  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(fake_.qp_state, IBV_QPS_ERR);
  EXPECT_EQ(fake_.sends.size(), 2u);
  EXPECT_THAT(flushed, ::testing::ElementsAre(2));
}

TEST_F(QueuePairTest, DrainSaysWhatDidNotComeBack) {
  Make({});
  ASSERT_TRUE(qp_->PostReceive(1, {}).ok());
  const absl::Status status =
      qp_->Drain(Deadline::After(Duration::zero()), [](const Completion&) {});
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("1 receives"));
}

TEST_F(QueuePairTest, CompletionsOfADestroyedQpAreDropped) {
  Make({});
  ASSERT_TRUE(qp_->Post({.flags = IBV_SEND_SIGNALED}).ok());
  CompleteSend(fake_.sends[0]);
  qp_.reset();
  EXPECT_TRUE(Poll().empty());
  EXPECT_EQ(cq_->stale(), 1u);
}

TEST_F(QueuePairTest, ModifyErrorNamesTheStateTheQpAndThePeer) {
  Make({});
  fake_.failures["ibv_modify_qp"] = EINVAL;
  EXPECT_EQ(qp_->ToRtr({}).message(),
            "ibv_modify_qp to RTR, qpn 0x11, peer 10.0.0.2:9999: "
            "Invalid argument");
}

TEST(VerbsObjects, WhatCannotBeMadeLeavesNothingBehind) {
  FakeVerbs& fake = FakeVerbs::Get();
  for (const char* call :
       {"ibv_open_device", "ibv_query_device", "ibv_alloc_pd", "ibv_create_cq",
        "ibv_create_comp_channel", "ibv_create_qp"}) {
    SCOPED_TRACE(call);
    fake.Reset();
    fake.failures[call] = ENOMEM;
    const absl::Status status = [] {
      auto context = Context::Open("");
      if (!context.ok()) return context.status();
      auto pd = ProtectionDomain::Create(*context);
      if (!pd.ok()) return pd.status();
      auto channel = CompletionChannel::Create(*context);
      if (!channel.ok()) return channel.status();
      auto cq = CompletionQueue::Create(*context, 16, *channel);
      if (!cq.ok()) return cq.status();
      return QueuePair::Create(*pd, {.send_cq = *cq}).status();
    }();
    EXPECT_THAT(std::string(status.message()), HasSubstr(call));
    EXPECT_THAT(std::string(status.message()), HasSubstr("fake0"));
    EXPECT_EQ(fake.live_objects, 0);
  }
}

TEST(Context, UnknownNameListsTheDevicesThatAreThere) {
  FakeVerbs::Get().Reset();
  EXPECT_EQ(Context::Open("mlx5_9").status().message(),
            "no RDMA device named mlx5_9; this host has fake0");
}

}  // namespace
}  // namespace nd::verbs
