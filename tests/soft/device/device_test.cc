#include "soft/device/device.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <map>
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

// The application, which finds what was written in its memory, answers first.
TEST(DeviceLook, AcknowledgesAWriteAtTheNextOne) {
  DeviceWorld world;
  world.Connect();
  WorldDevice& server = world.server;
  server.memory[0] = std::byte{0};
  world.client.memory[0] = std::byte{0x5a};
  ASSERT_EQ(world.client.Post(1, {.opcode = IBV_WR_RDMA_WRITE,
                                  .length = 1,
                                  .remote = server.address(0),
                                  .rkey = server.key}),
            0);
  std::array<ibv_wc, 1> none;
  EXPECT_EQ(server.device->Poll(*server.cq, none), 0);
  EXPECT_EQ(server.memory[0], std::byte{0x5a});
  EXPECT_TRUE(server.wire->sent().empty());
  EXPECT_EQ(server.device->Poll(*server.cq, none), 0);
  EXPECT_EQ(server.wire->sent().size(), 1u);
}

class DeviceBatch : public testing::Test {
 protected:
  DeviceBatch() {
    world_.Connect();
    for (uint64_t id = 0; id < 8; ++id) {
      EXPECT_EQ(world_.server.PostReceive(id, 0, 8), 0);
    }
  }
  void SendToServer(int messages) {
    for (int i = 0; i < messages; ++i) {
      EXPECT_EQ(world_.client.Post(1, {.length = 8}), 0);
    }
  }
  int Poll() {
    std::array<ibv_wc, 8> completions;
    return world_.server.device->Poll(*world_.server.cq, completions);
  }

  DeviceWorld world_;
};

// What comes behind it, mostly an acknowledgement, would delay its answer.
TEST_F(DeviceBatch, IsOfOneMessageForWhoHasWaitedForIt) {
  ASSERT_EQ(Poll(), 0);
  SendToServer(3);
  EXPECT_EQ(Poll(), 1);
  EXPECT_EQ(Poll(), 2);
}

TEST_F(DeviceBatch, IsOfOneMessageThoughASendHasCompletedMeanwhile) {
  ASSERT_EQ(Poll(), 0);
  ASSERT_EQ(world_.client.PostReceive(1, 0, 8), 0);
  ASSERT_EQ(world_.server.Post(1, {.length = 8}), 0);
  while (world_.client.Progress()) continue;
  EXPECT_EQ(Poll(), 1);
  SendToServer(3);
  EXPECT_EQ(Poll(), 1);
}

TEST_F(DeviceBatch, IsOfAllCompletionsOfSends) {
  for (uint64_t id = 0; id < 3; ++id) {
    ASSERT_EQ(world_.client.PostReceive(id, 0, 8), 0);
  }
  ASSERT_EQ(Poll(), 0);
  for (uint64_t id = 0; id < 3; ++id) {
    ASSERT_EQ(world_.server.Post(id, {.length = 8}), 0);
    while (world_.client.Progress()) continue;
  }
  EXPECT_EQ(Poll(), 3);
}

TEST_F(DeviceBatch, IsOfAllThatHasComeForWhoHasGotAMessageTheLastTime) {
  ASSERT_EQ(Poll(), 0);
  SendToServer(1);
  ASSERT_EQ(Poll(), 1);
  SendToServer(3);
  EXPECT_EQ(Poll(), 3);
  SendToServer(2);
  EXPECT_EQ(Poll(), 2);
}

// It sleeps behind that: what is left would have to wake the engine's thread.
TEST_F(DeviceBatch, IsOfAllThatHasComeForWhoLooksForTheLastTime) {
  ASSERT_EQ(Poll(), 0);
  SendToServer(3);
  world_.server.device->Arm(*world_.server.cq, false);
  EXPECT_EQ(Poll(), 3);
}

TEST_F(DeviceBatch, OfRequestsThatGoTogetherIsPostedWholeOrNotAtAll) {
  WorldDevice& client = world_.client;
  client.wire->set_room(0);
  std::array<ibv_send_wr, 3> wrs{};
  for (size_t i = 0; i + 1 < wrs.size(); ++i) wrs[i].next = &wrs[i + 1];
  for (ibv_send_wr& wr : wrs) wr.opcode = IBV_WR_SEND;
  while (client.qp->send_room() > 2) SendToServer(1);
  ibv_send_wr* bad = nullptr;
  EXPECT_EQ(client.device->PostSend(*client.qp, wrs.data(), &bad, wrs.size()),
            ENOMEM);
  EXPECT_EQ(bad, wrs.data());
  EXPECT_EQ(client.qp->send_room(), 2u);
  wrs[1].next = nullptr;
  EXPECT_EQ(client.device->PostSend(*client.qp, wrs.data(), &bad, 2), 0);
  EXPECT_EQ(client.qp->send_room(), 0u);
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

// However much the first one has.
TEST(DeviceFairness, QueuePairsShareTheRoomThereIs) {
  constexpr uint32_t kLength = 60 << 10;
  constexpr size_t kRoom = 256;  // packets of 1 KiB
  constexpr size_t kQps = 4;
  DeviceWorld world;
  world.Connect();
  WorldDevice& client = world.client;
  WorldDevice& server = world.server;
  server.wire->set_room(kRoom);
  for (size_t i = 0; i < kQps; ++i) {
    QueuePair* const own = client.CreateQp();
    QueuePair* const peers = server.CreateQp();
    client.Connect(*own, server, *peers);
    server.Connect(*peers, client, *own);
    for (uint64_t id = 0; id < 4; ++id) {
      ASSERT_EQ(client.Post(*own, id,
                            {.opcode = IBV_WR_RDMA_READ,
                             .length = kLength,
                             .remote = server.address(0),
                             .rkey = server.key}),
                0);
    }
  }
  for (int turn = 0; turn < 2; ++turn) server.Progress();
  std::map<Qpn, size_t> answers;
  for (const Packet& packet : server.wire->sent()) {
    ++answers[packet.bth.destination];
  }
  EXPECT_EQ(server.wire->sent().size(), kRoom);
  EXPECT_EQ(answers.size(), kQps);
  for (const auto& [qpn, packets] : answers) EXPECT_GE(packets, 48u);
}

// Nor does what comes: it is answered between two parts of a long answer.
TEST(DeviceFairness, ALongAnswerLeavesTurnsToWhatComesMeanwhile) {
  constexpr size_t kTurn = 64;  // packets of 1 KiB
  DeviceWorld world;
  world.Connect();
  WorldDevice& client = world.client;
  WorldDevice& server = world.server;
  std::array<QueuePair*, 2> own{}, peers{};
  for (size_t i = 0; i < 2; ++i) {
    own[i] = client.CreateQp();
    peers[i] = server.CreateQp();
    client.Connect(*own[i], server, *peers[i]);
    server.Connect(*peers[i], client, *own[i]);
  }
  const auto read = [&](size_t qp, uint32_t length) {
    return client.Post(*own[qp], 0,
                       {.opcode = IBV_WR_RDMA_READ,
                        .length = length,
                        .remote = server.address(0),
                        .rkey = server.key});
  };
  for (int i = 0; i < 4; ++i) ASSERT_EQ(read(0, 60 << 10), 0);
  server.Progress();
  EXPECT_LE(server.wire->sent().size(), kTurn);
  ASSERT_EQ(read(1, 8), 0);
  EXPECT_TRUE(server.Progress());
  const std::vector<Packet>& sent = server.wire->sent();
  EXPECT_LE(sent.size(), 2 * kTurn + 1);
  EXPECT_TRUE(std::ranges::any_of(sent, [&](const Packet& packet) {
    return packet.bth.destination == own[1]->number();
  }));
  while (server.Progress()) continue;
  EXPECT_GE(sent.size(), size_t{4} * 60);
}

// A poll that finds nothing goes on with what there is to send.
TEST(DeviceLook, ThatFindsNothingSendsSomeTurnsOfALongMessage) {
  constexpr size_t kTurn = 16 << 10;
  DeviceWorld world;
  world.Connect();
  WorldDevice& client = world.client;
  client.wire->set_burst_bytes(kTurn);
  const auto sent_bytes = [&] {
    size_t packets = 0;
    for (const Packet& packet : client.wire->sent()) packets += packet.packets;
    return packets << 10;
  };
  std::array<ibv_wc, 1> none;
  EXPECT_EQ(client.device->Poll(*client.cq, none), 0);
  ASSERT_EQ(client.Post(1, {.opcode = IBV_WR_RDMA_WRITE,
                            .length = 64 << 10,
                            .remote = world.server.address(0),
                            .rkey = world.server.key}),
            0);
  EXPECT_EQ(sent_bytes(), kTurn);
  EXPECT_EQ(client.device->Poll(*client.cq, none), 0);
  EXPECT_EQ(sent_bytes(), 4 * kTurn);
}

class DeviceTimers : public testing::Test {
 protected:
  static constexpr size_t kReads = 3;

  // A READ on each of some queue pairs, with answers that lie there one behind
  // the other.
  DeviceTimers() {
    for (uint64_t id = 0; id < kReads; ++id) {
      QueuePair* const own = world_.client.CreateQp();
      QueuePair* const peers = world_.server.CreateQp();
      world_.client.Connect(*own, world_.server, *peers);
      world_.server.Connect(*peers, world_.client, *own);
      EXPECT_EQ(world_.client.Post(*own, id,
                                   {.opcode = IBV_WR_RDMA_READ,
                                    .length = 4096,
                                    .remote = world_.server.address(0),
                                    .rkey = world_.server.key}),
                0);
    }
    world_.Connect();
    world_.server.Progress();
    world_.client.wire->set_most(1);
  }
  void LetTimersBecomeDue() {
    world_.clock.Advance(std::chrono::milliseconds(100));
  }
  size_t RequestsSent() { return world_.client.wire->sent().size(); }

  DeviceWorld world_;
};

// Who did not get a CPU for that long has not waited in vain.
TEST_F(DeviceTimers, WhatHasComeIsLookedAtBeforeTheyRunOut) {
  LetTimersBecomeDue();
  while (world_.client.Progress()) continue;
  EXPECT_EQ(RequestsSent(), kReads);
  EXPECT_EQ(world_.client.Completions().size(), kReads);
}

TEST_F(DeviceTimers, RunOutThoughMoreComesAllTheTime) {
  WorldDevice& client = world_.client;
  QueuePair* const own = client.CreateQp();
  QueuePair* const peers = world_.server.CreateQp();
  client.Connect(*own, world_.server, *peers);  // and nobody answers it
  ASSERT_EQ(client.Post(*own, 9, {.length = 8}), 0);
  const auto sent = [&client, peers] {
    return std::ranges::count_if(
        client.wire->sent(), [peers](const Packet& packet) {
          return packet.bth.destination == peers->number();
        });
  };
  ASSERT_EQ(sent(), 1);
  LetTimersBecomeDue();
  for (int i = 0; i < 100 && sent() == 1; ++i) {
    ASSERT_EQ(world_.server.Post(9, {.opcode = IBV_WR_RDMA_WRITE,
                                     .length = 8,
                                     .remote = client.address(0),
                                     .rkey = client.key}),
              0);
    EXPECT_TRUE(client.Progress());
  }
  EXPECT_EQ(sent(), 2);
}

}  // namespace
}  // namespace nd::soft
