#include "soft/device/device.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <array>
#include <memory>

#include "base/fd.h"
#include "base/random.h"
#include "soft/device/device_world.h"
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

// A thread that waits for events looks at its queue once more, and what it
// finds has to be done soon: by the engine's thread, which sleeps until later.
TEST(DeviceRest, ADeadlineFoundByALastLookWakesTheEngine) {
  DeviceWorld world;
  world.Connect();
  WorldDevice& client = world.client;
  const Fd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ASSERT_EQ(client.Post(1, {.length = 8}), 0);
  {
    Holding lock(client.device->mutex());
    while (client.device->Progress()) continue;
    client.device->set_wake_fd(wake.get());
    ASSERT_TRUE(client.device->Rest());
  }
  while (world.server.Progress()) continue;  // RNR NAK
  client.device->Arm(*client.cq, false);
  eventfd_t count = 0;
  EXPECT_NE(eventfd_read(wake.get(), &count), 0);
  std::array<ibv_wc, 1> completions;
  EXPECT_EQ(client.device->Poll(*client.cq, completions), 0);
  EXPECT_EQ(eventfd_read(wake.get(), &count), 0);
  Holding lock(client.device->mutex());
  client.device->set_wake_fd(-1);
}

// One that always has more to say than there is room for, as it asks for the
// next as soon as it has one: the others' retries would be spent before it
// ends.
TEST(DeviceFairness, AnswersOfOneQueuePairDoNotKeepOthersWaiting) {
  constexpr uint32_t kLength = 8192;
  constexpr uint64_t kBusy = 8;  // READs, of the first
  DeviceWorld world;
  world.Connect();
  WorldDevice& client = world.client;
  WorldDevice& server = world.server;
  server.wire->set_room(4);
  const WorldDevice::Request read = {.opcode = IBV_WR_RDMA_READ,
                                     .length = kLength,
                                     .remote = server.address(0),
                                     .rkey = server.key};
  std::vector<QueuePair*> others;
  for (int i = 0; i < 3; ++i) {
    QueuePair* const own = client.CreateQp();
    QueuePair* const peers = server.CreateQp();
    client.Connect(*own, server, *peers);
    server.Connect(*peers, client, *own);
    others.push_back(own);
  }
  for (uint64_t id = 0; id < kBusy; ++id) {
    ASSERT_EQ(client.Post(id, read), 0);
  }
  for (QueuePair* const own : others) {
    ASSERT_EQ(client.Post(*own, kBusy, read), 0);
  }
  size_t waiting = others.size();
  for (int round = 0; waiting > 0 && round < 2000; ++round) {
    world.BothProgress();
    world.clock.Advance(std::chrono::microseconds(10));
    for (const ibv_wc& wc : client.Completions()) {
      ASSERT_EQ(wc.status, IBV_WC_SUCCESS);
      if (wc.wr_id < kBusy) {
        ASSERT_EQ(client.Post(wc.wr_id, read), 0);
      } else {
        --waiting;
      }
    }
  }
  EXPECT_EQ(waiting, 0u);
}

}  // namespace
}  // namespace nd::soft
