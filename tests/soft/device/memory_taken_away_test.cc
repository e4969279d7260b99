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
class RegionOfItsOwn {
 public:
  explicit RegionOfItsOwn(WorldDevice& device)
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
  std::optional<RegionOfItsOwn> client;
  std::optional<RegionOfItsOwn> server;
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
  RegionOfItsOwn other(world->client);
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

// ---- Payload that is lent, and not fetched yet.

class LentMemoryTakenAway : public MemoryTakenAway {
 protected:
  void Begin() {
    MemoryTakenAway::Begin();
    for (WorldDevice* const device : {&world->client, &world->server}) {
      device->wire->set_burst_bytes(4096);
      device->wire->set_lent_bytes(kBytes);
    }
  }
  size_t Lent() const {
    return world->client.wire->lent() + world->server.wire->lent();
  }
  int ToError(WorldDevice& device) {
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_ERR;
    return device.device->ModifyQp(*device.qp, IBV_QPT_RC, attr, IBV_QP_STATE);
  }
};

TEST_F(LentMemoryTakenAway, WhatStaysIsFetched) {
  Begin();
  PostReceive();
  Post(IBV_WR_SEND);
  Post(IBV_WR_RDMA_WRITE);
  Post(IBV_WR_RDMA_READ);
  EXPECT_EQ(ClientEnds(), Statuses(3, IBV_WC_SUCCESS));
  EXPECT_GE(Lent(), 3u);
}

TEST_F(LentMemoryTakenAway, ARegionsIsNotFetchedAfterIt) {
  for (const ibv_wr_opcode opcode : {IBV_WR_SEND, IBV_WR_RDMA_WRITE}) {
    Begin();
    PostReceive();
    Post(opcode);
    ASSERT_GT(Lent(), 0u);
    client->TakeAway();
    EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_LOC_PROT_ERR});
  }
}

// The application gives the connection up, and does with its memory, whose
// region stays, as it likes.
TEST_F(LentMemoryTakenAway, AQueuePairsIsNotFetchedAfterItsError) {
  Begin();
  PostReceive();
  Post(IBV_WR_SEND);
  ASSERT_GT(Lent(), 0u);
  EXPECT_EQ(ToError(world->client), 0);
  EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_WR_FLUSH_ERR});
  EXPECT_TRUE(world->server.Statuses().empty());
}

TEST_F(LentMemoryTakenAway, ThatOfAWorkThatFailedIsNotFetched) {
  Begin();
  PostReceive();
  Post(IBV_WR_SEND);
  ASSERT_GT(Lent(), 0u);
  for (int i = 0; i < 20; ++i) {
    world->clock.Advance(milliseconds(200));
    while (world->client.Progress()) continue;
  }
  EXPECT_EQ(world->client.Statuses(), Statuses{IBV_WC_RETRY_EXC_ERR});
  world->Run(milliseconds(10));
  EXPECT_TRUE(world->server.Statuses().empty());
}

TEST_F(LentMemoryTakenAway, AnAnswersIsNotFetchedAfterItsRegion) {
  Begin();
  Post(IBV_WR_RDMA_READ);
  world->server.Progress();
  ASSERT_GT(world->server.wire->lent(), 0u);
  server->TakeAway();
  EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_REM_ACCESS_ERR});
}

// What others have read does not concern it.
TEST_F(LentMemoryTakenAway, AnAnswersIsFetchedAfterAnotherRegion) {
  Begin();
  Post(IBV_WR_RDMA_READ);
  world->server.Progress();
  const size_t lent = world->server.wire->lent();
  RegionOfItsOwn other(world->server);
  other.TakeAway();
  EXPECT_EQ(ClientEnds(), Statuses{IBV_WC_SUCCESS});
  EXPECT_EQ(world->server.wire->lent(), lent);
}

}  // namespace
}  // namespace nd::soft
