#include "soft/device/device.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>

#include "base/random.h"
#include "soft/device/silent_network.h"

namespace nd::soft {
namespace {

class DeviceTest : public testing::Test {
 protected:
  DeviceTest()
      : device_({}, std::make_unique<SilentNetwork>(), Clock::Monotonic(),
                random_),
        pd_(*device_.AllocatePd()),
        cq_(*device_.CreateCq(16, nullptr, nullptr)) {}
  ~DeviceTest() override { device_.DestroyCq(std::move(cq_)); }

  QueuePair* CreateQp() {
    return *device_.CreateQp({.transport = Transport::kRc,
                              .pd = pd_,
                              .send_cq = cq_.get(),
                              .recv_cq = cq_.get(),
                              .cap = {.max_send_wr = 4,
                                      .max_recv_wr = 4,
                                      .max_send_sge = 1,
                                      .max_recv_sge = 1,
                                      .max_inline_data = 0}});
  }
  int Move(QueuePair* qp, ibv_qp_state to, int mask = 0) {
    ibv_qp_attr attr{};
    attr.qp_state = to;
    attr.port_num = 1;
    return device_.ModifyQp(*qp, IBV_QPT_RC, attr, mask | IBV_QP_STATE);
  }
  int PostReceive(QueuePair* qp) {
    ibv_recv_wr wr{};
    ibv_recv_wr* bad = nullptr;
    return device_.PostReceive(*qp, &wr, &bad);
  }
  int Completions() {
    std::array<ibv_wc, 16> completions;
    return device_.Poll(*cq_, completions);
  }

  SystemRandom random_;
  Device device_;
  PdId pd_;
  std::unique_ptr<CompletionQueue> cq_;
};

constexpr int kToInit = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;

TEST_F(DeviceTest, ResetTakesBackTheQueuePairsCompletionsAndNoOthers) {
  QueuePair* const one = CreateQp();
  QueuePair* const other = CreateQp();
  for (QueuePair* const qp : {one, other}) {
    ASSERT_EQ(Move(qp, IBV_QPS_INIT, kToInit), 0);
    ASSERT_EQ(PostReceive(qp), 0);
    ASSERT_EQ(Move(qp, IBV_QPS_ERR), 0);
  }
  ASSERT_EQ(Move(one, IBV_QPS_RESET), 0);
  EXPECT_EQ(Completions(), 1);
  device_.DestroyQp(one);
  device_.DestroyQp(other);
}

}  // namespace
}  // namespace nd::soft
