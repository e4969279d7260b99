#include "ndping/engine/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

namespace nd::ndping {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kPlenty = uint64_t{1} << 30;

v1::TestSpec Spec(v1::TestKind kind, v1::Operation operation,
                  std::initializer_list<uint64_t> sizes) {
  v1::TestSpec spec;
  spec.set_kind(kind);
  spec.set_operation(operation);
  for (const uint64_t size : sizes) spec.add_sizes(size);
  spec.set_qps(1);
  spec.set_depth(128);
  spec.set_signal_every(32);
  return spec;
}

v1::TestSpec Bandwidth(v1::Operation operation, uint64_t size) {
  return Spec(v1::TEST_KIND_BANDWIDTH, operation, {size});
}

TEST(Plan, UncheckedMessagesShareASlot) {
  const TestPlan plan =
      TestPlan::Make(Bandwidth(v1::OPERATION_WRITE, 1000), kPlenty).value();
  EXPECT_EQ(plan.slots, 1u);
  EXPECT_EQ(plan.stride, 1024u);
  EXPECT_EQ(plan.window, 128u);
  EXPECT_EQ(plan.signal_every, 32u);
  EXPECT_EQ(plan.uncredited, 0u);
  EXPECT_FALSE(plan.target_takes_part);
}

TEST(Plan, CheckedMessagesHaveASlotEach) {
  v1::TestSpec spec = Bandwidth(v1::OPERATION_READ, 4096);
  spec.set_verify(true);
  const TestPlan plan = TestPlan::Make(spec, kPlenty).value();
  EXPECT_EQ(plan.slots, 128u);
  EXPECT_EQ(plan.window, 128u);
  EXPECT_EQ(plan.SlotOf(129), 1u);
}

TEST(Plan, WindowFollowsTheSlotsThatMemoryAllows) {
  v1::TestSpec spec = Bandwidth(v1::OPERATION_READ, 1 << 20);
  spec.set_verify(true);
  spec.set_qps(2);
  const TestPlan plan = TestPlan::Make(spec, 10 << 20).value();
  EXPECT_EQ(plan.slots, 5u);
  EXPECT_EQ(plan.window, 5u);
  // Or else the window would fill up before a request is signalled.
  EXPECT_EQ(plan.signal_every, 5u);
}

TEST(Plan, BothDirectionsShareTheMemory) {
  v1::TestSpec spec = Bandwidth(v1::OPERATION_SEND, 1 << 20);
  spec.set_verify(true);
  spec.set_bidirectional(true);
  EXPECT_EQ(TestPlan::Make(spec, 10 << 20).value().slots, 5u);
}

TEST(Plan, SaysHowMuchMemoryOneMessageEachNeeds) {
  v1::TestSpec spec =
      Spec(v1::TEST_KIND_LATENCY, v1::OPERATION_SEND, {1, 4096});
  spec.set_qps(3);
  constexpr uint64_t kNeeded = uint64_t{6} * 4096;
  EXPECT_TRUE(TestPlan::Make(spec, kNeeded).ok());
  const absl::Status status = TestPlan::Make(spec, kNeeded - 1).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("24576 bytes"));
}

TEST(Plan, ASweepUsesTheSlotsOfItsLargestSize) {
  const TestPlan plan = TestPlan::Make(Spec(v1::TEST_KIND_BANDWIDTH,
                                            v1::OPERATION_SEND, {8, 65537, 64}),
                                       kPlenty)
                            .value();
  EXPECT_EQ(plan.stride, 65600u);
}

TEST(Plan, EmptyMessagesHaveASlotToo) {
  const TestPlan plan =
      TestPlan::Make(Bandwidth(v1::OPERATION_SEND, 0), kPlenty).value();
  EXPECT_EQ(plan.stride, 64u);
}

TEST(Plan, ReceiverHasReceivesForAllThatIsNotCredited) {
  for (const bool verify : {false, true}) {
    for (const uint32_t depth : {1, 2, 3, 128, 4096}) {
      v1::TestSpec spec = Bandwidth(v1::OPERATION_SEND, 64);
      spec.set_depth(depth);
      spec.set_verify(verify);
      const TestPlan plan = TestPlan::Make(spec, kPlenty).value();
      EXPECT_EQ(plan.uncredited, plan.receives) << depth;
      EXPECT_GE(plan.receives, plan.window) << depth;
      EXPECT_GE(plan.credit_every, 1u) << depth;
      // Or else both would wait: the sender for a credit, the receiver for the
      // messages that make one due.
      EXPECT_LE(plan.credit_every, plan.uncredited) << depth;
      EXPECT_TRUE(plan.target_takes_part);
    }
  }
}

TEST(Plan, CheckedWritesAreNoticedTwiceALap) {
  for (const uint32_t depth : {1, 2, 3, 5, 128}) {
    v1::TestSpec spec = Bandwidth(v1::OPERATION_WRITE, 64);
    spec.set_verify(true);
    spec.set_depth(depth);
    spec.set_signal_every(1);
    const TestPlan plan = TestPlan::Make(spec, kPlenty).value();
    EXPECT_EQ(plan.uncredited, plan.slots);
    EXPECT_LE(plan.notify_every, plan.slots);
    // All notices that can be under way, and the one that closes a part.
    EXPECT_GE(plan.receives, plan.slots / plan.notify_every + 2) << depth;
    EXPECT_GE(plan.send_places,
              plan.window + plan.slots / plan.notify_every + 1 + 1 + 1)
        << depth;
  }
}

TEST(Plan, LatencyOfMessagesIsAPingPong) {
  const TestPlan send =
      TestPlan::Make(Spec(v1::TEST_KIND_LATENCY, v1::OPERATION_SEND, {8}),
                     kPlenty)
          .value();
  EXPECT_TRUE(send.ping_pong);
  EXPECT_TRUE(send.HasTarget(/*client=*/true));
  EXPECT_TRUE(send.HasLocal(/*client=*/false));
  EXPECT_EQ(send.receives, 2u);

  const TestPlan read =
      TestPlan::Make(Spec(v1::TEST_KIND_LATENCY, v1::OPERATION_READ, {8}),
                     kPlenty)
          .value();
  EXPECT_FALSE(read.ping_pong);
  EXPECT_FALSE(read.HasTarget(/*client=*/true));
  EXPECT_FALSE(read.HasLocal(/*client=*/false));
}

TEST(Plan, DealsMessagesToTheQpsInTurn) {
  TestPlan plan;
  plan.qps = 3;
  EXPECT_EQ(plan.ShareOf(10, 0), 4u);
  EXPECT_EQ(plan.ShareOf(10, 1), 3u);
  EXPECT_EQ(plan.ShareOf(10, 2), 3u);
  EXPECT_EQ(plan.ShareOf(2, 2), 0u);
}

}  // namespace
}  // namespace nd::ndping
