// Regions that are deregistered, and their memory given back, while work that
// was posted with them waits. AddressSanitizer sees who touches it still.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <vector>

#include "soft/device/device_world.h"

namespace nd::soft {
namespace {

using std::chrono::milliseconds;
using Statuses = std::vector<ibv_wc_status>;

constexpr uint32_t kBytes = 32 << 10;  // 32 packets

// Memory with a region of its own.
class Lent {
 public:
  explicit Lent(WorldDevice& device)
      : device_(device), bytes_(new std::byte[kBytes]()) {
    key_ = *device.device->RegisterMemory({.pd = device.qp->options().pd,
                                           .address = bytes_.get(),
                                           .length = kBytes,
                                           .iova = address(),
                                           .access = IBV_ACCESS_LOCAL_WRITE |
                                                     IBV_ACCESS_REMOTE_WRITE |
                                                     IBV_ACCESS_REMOTE_READ});
  }

  uint64_t address() const { return reinterpret_cast<uintptr_t>(bytes_.get()); }
  uint32_t key() const { return key_; }
  ibv_sge sge(uint32_t length = kBytes) const {
    return {address(), length, key_};
  }

  void TakeAway() {
    EXPECT_TRUE(device_.device->DeregisterMemory(key_).ok());
    bytes_.reset();
  }

 private:
  WorldDevice& device_;
  std::unique_ptr<std::byte[]> bytes_;
  uint32_t key_ = 0;
};

class MemoryTakenAway : public testing::Test {
 protected:
  void Begin(const char* server_faults = "") {
    world.emplace("", server_faults);
    world->Connect();
    client.emplace(world->client);
    server.emplace(world->server);
  }

  void Post(ibv_wr_opcode opcode, uint32_t length = kBytes) {
    ibv_sge sge = client->sge(length);
    ibv_send_wr wr{};
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.opcode = opcode;
    wr.send_flags = IBV_SEND_SIGNALED;
    wr.wr.rdma = {server->address(), server->key()};
    ibv_send_wr* bad = nullptr;
    ASSERT_EQ(world->client.device->PostSend(*world->client.qp, &wr, &bad), 0);
  }
  void PostReceive() {
    ibv_sge sge = server->sge();
    ibv_recv_wr wr{};
    wr.sg_list = &sge;
    wr.num_sge = 1;
    ibv_recv_wr* bad = nullptr;
    ASSERT_EQ(world->server.device->PostReceive(*world->server.qp, &wr, &bad),
              0);
  }
  // What each has completed after some time.
  Statuses ClientEnds() {
    world->Run(milliseconds(200));
    return world->client.Statuses();
  }

  std::optional<DeviceWorld> world;
  std::optional<Lent> client;
  std::optional<Lent> server;
};

// Longer than the window: not all of it has been sent when it goes.
TEST_F(MemoryTakenAway, AWriteThatIsBeingSentFails) {
  Begin("drop=1");
  Post(IBV_WR_RDMA_WRITE);
  client->TakeAway();
  EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_LOC_PROT_ERR});
  EXPECT_EQ(world->client.qp->state(), IBV_QPS_ERR);
}

TEST_F(MemoryTakenAway, ASendThatHasToBeRepeatedFails) {
  Begin();
  Post(IBV_WR_SEND, 100);
  world->Run(milliseconds(1));  // RNR NAK
  client->TakeAway();
  PostReceive();
  EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_LOC_PROT_ERR});
}

TEST_F(MemoryTakenAway, WorkThatIsNotNamedByTheKeyGoesOn) {
  Begin();
  Lent other(world->client);
  Post(IBV_WR_SEND, 100);
  world->Run(milliseconds(1));
  other.TakeAway();
  PostReceive();
  EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_SUCCESS});
}

TEST_F(MemoryTakenAway, AnAnswerToAReadIsNotPlaced) {
  Begin();
  Post(IBV_WR_RDMA_READ);
  client->TakeAway();
  EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_LOC_PROT_ERR});
}

TEST_F(MemoryTakenAway, AnAnswerToAnAtomicIsNotPlaced) {
  Begin();
  Post(IBV_WR_ATOMIC_FETCH_AND_ADD, 8);
  client->TakeAway();
  EXPECT_NE(ClientEnds(), Statuses{IBV_WC_SUCCESS});
}

TEST_F(MemoryTakenAway, AReceiveThatWaitsFails) {
  Begin();
  PostReceive();
  server->TakeAway();
  Post(IBV_WR_SEND);
  EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_REM_OP_ERR});
  EXPECT_EQ(world->server.Statuses(), Statuses{IBV_WC_LOC_PROT_ERR});
}

// Of its packets some have been placed, and one is missing.
TEST_F(MemoryTakenAway, AReceiveInProgressFails) {
  // The first arrives in one of these at least.
  for (const char* const faults :
       {"drop=0.05", "drop=0.1", "drop=0.15", "drop=0.2"}) {
    SCOPED_TRACE(faults);
    Begin(faults);
    PostReceive();
    Post(IBV_WR_SEND);
    world->server.Progress();
    ASSERT_TRUE(world->server.Statuses().empty());
    server->TakeAway();
    EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_REM_OP_ERR});
    EXPECT_EQ(world->server.Statuses(), Statuses{IBV_WC_LOC_PROT_ERR});
  }
}

TEST_F(MemoryTakenAway, AWriteInProgressIsRefused) {
  Begin("drop=0.2");
  Post(IBV_WR_RDMA_WRITE);
  world->server.Progress();
  server->TakeAway();
  EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_REM_ACCESS_ERR});
}

TEST_F(MemoryTakenAway, AReadInProgressIsRefused) {
  Begin("drop=0.2");
  Post(IBV_WR_RDMA_READ);
  server->TakeAway();
  EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_REM_ACCESS_ERR});
}

// The key goes on and names other memory: none that works named before.
TEST_F(MemoryTakenAway, ARegionThatIsMovedIsTakenAway) {
  Begin();
  Post(IBV_WR_RDMA_READ);
  std::vector<std::byte> elsewhere(kBytes);
  ASSERT_TRUE(
      world->client.device
          ->ChangeMemory(client->key(), {.range = {{elsewhere.data(), kBytes}}})
          .ok());
  EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_LOC_PROT_ERR});
}

}  // namespace
}  // namespace nd::soft
