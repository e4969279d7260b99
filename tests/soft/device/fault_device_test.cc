// What faults do to the queue pairs, the port and the connections of a device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <tuple>

#include "soft/device/device_world.h"
#include "soft/device/grh.h"

namespace nd::soft {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

// Fills the first half of the client's memory.
void Fill(WorldDevice& device) {
  for (size_t i = 0; i < WorldDevice::kBytes / 2; ++i) {
    device.memory[i] = static_cast<std::byte>(i * 7 + i / 256);
  }
}

// The same writes, sends, reads and atomics whatever the faults: their outcome
// must not differ.
void ExpectAllIsDone(DeviceWorld& world) {
  constexpr uint32_t kLength = 5000;
  world.Connect();
  Fill(world.client);
  uint64_t counter = 40;
  std::memcpy(&world.server.memory[32768], &counter, sizeof(counter));
  ASSERT_EQ(world.server.PostReceive(1, 8192, kLength), 0);
  ASSERT_EQ(world.client.Post(2, {.opcode = IBV_WR_RDMA_WRITE,
                                  .length = kLength,
                                  .remote = world.server.address(0),
                                  .rkey = world.server.key}),
            0);
  ASSERT_EQ(world.client.Post(3, {.offset = 8192, .length = kLength}), 0);
  ASSERT_EQ(world.client.Post(4, {.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
                                  .offset = 60000,
                                  .length = 8,
                                  .remote = world.server.address(32768),
                                  .rkey = world.server.key,
                                  .add = 2}),
            0);
  ASSERT_EQ(world.client.Post(5, {.opcode = IBV_WR_RDMA_READ,
                                  .offset = 40000,
                                  .length = kLength,
                                  .remote = world.server.address(0),
                                  .rkey = world.server.key}),
            0);
  world.Run(milliseconds(200));
  const auto first = world.client.memory.begin();
  EXPECT_THAT(world.client.Statuses(), AllOf(SizeIs(4), Each(IBV_WC_SUCCESS)));
  EXPECT_THAT(world.server.Statuses(), ElementsAre(IBV_WC_SUCCESS));
  EXPECT_TRUE(std::equal(first, first + kLength, world.server.memory.begin()));
  EXPECT_TRUE(std::equal(first + 8192, first + 8192 + kLength,
                         world.server.memory.begin() + 8192));
  EXPECT_TRUE(std::equal(first, first + kLength, first + 40000));
  std::memcpy(&counter, &world.client.memory[60000], sizeof(counter));
  EXPECT_EQ(counter, 40u);
  std::memcpy(&counter, &world.server.memory[32768], sizeof(counter));
  EXPECT_EQ(counter, 42u);
}

constexpr size_t kBurst = 16384;

// Faults, and bytes that go as one.
class Survives
    : public testing::TestWithParam<std::tuple<const char*, size_t>> {};

TEST_P(Survives, EverythingIsDoneOnce) {
  const auto& [faults, burst_bytes] = GetParam();
  DeviceWorld world(faults, faults);
  world.set_burst_bytes(burst_bytes);
  ExpectAllIsDone(world);
}

INSTANTIATE_TEST_SUITE_P(
    Faults, Survives,
    testing::Combine(testing::Values("", "drop=0.1", "corrupt=0.1",
                                     "duplicate=0.5", "reorder=0.3",
                                     "delay=300us@0.2", "rnr=0.5", "shuffle=1",
                                     "shuffle=0.5;drop=0.1;duplicate=0.3",
                                     "port-down=after:0s,for:3ms",
                                     "drop=0.05;reorder=0.1;duplicate=0.1;"
                                     "delay=1ms@0.05;rnr=0.2"),
                     testing::Values(0, kBurst)));

// What is flushed with an error is the application's again, which may free it.
TEST(FaultyDevice, WhatWasSentOfAWorkLeavesBeforeItIsFlushed) {
  DeviceWorld world("cqe=LOC_PROT_ERR@1");
  world.Connect();
  WorldDevice& client = world.client;
  ibv_mw window{};
  window.rkey =
      *client.device->AllocateWindow(client.qp->options().pd, IBV_MW_TYPE_2);
  const uint32_t key = *client.device->RegisterMemory(
      {.pd = client.qp->options().pd,
       .address = client.memory.data(),
       .length = WorldDevice::kBytes,
       .iova = client.address(0),
       .access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND});
  ibv_mr region{};
  region.lkey = key;
  ibv_sge sge{client.address(0), 1000, key};
  ibv_send_wr write{};
  write.wr_id = 2;
  write.sg_list = &sge;
  write.num_sge = 1;
  write.opcode = IBV_WR_RDMA_WRITE;
  write.wr.rdma = {world.server.address(0), world.server.key};
  ibv_send_wr bind{};
  bind.wr_id = 1;
  bind.next = &write;
  bind.opcode = IBV_WR_BIND_MW;
  bind.send_flags = IBV_SEND_SIGNALED;
  bind.bind_mw = {&window,
                  window.rkey + 1,
                  {&region, client.address(0), 8, IBV_ACCESS_REMOTE_READ}};
  std::vector<ibv_wc> before;
  client.wire->set_before_flush([&] {
    const auto now = client.Completions();
    before.insert(before.end(), now.begin(), now.end());
  });
  ibv_send_wr* bad = nullptr;
  ASSERT_EQ(client.device->PostSend(*client.qp, &bind, &bad), 0);
  EXPECT_THAT(client.wire->sent(), SizeIs(1));
  EXPECT_THAT(client.Completions(), SizeIs(testing::Ge(1u)));
  for (const ibv_wc& wc : before) EXPECT_NE(wc.wr_id, 2u);
}

// Packets that came together: those before the lost one are executed, what
// follows it is asked for again.
TEST(FaultyDevice, OneOfABurstIsLostAndTheOthersArrive) {
  constexpr uint32_t kMtu = 1024;
  constexpr uint8_t kPackets = 16;
  constexpr uint32_t kLength = kPackets * kMtu;
  DeviceWorld world("", "drop=0.1");
  world.set_burst_bytes(kBurst);
  world.Connect();
  Fill(world.client);
  ASSERT_EQ(world.client.Post(1, {.opcode = IBV_WR_RDMA_WRITE,
                                  .length = kLength,
                                  .remote = world.server.address(0),
                                  .rkey = world.server.key}),
            0);
  world.Run({});
  ASSERT_THAT(world.client.wire->sent(), testing::Not(IsEmpty()));
  const Packet& burst = world.client.wire->sent().front();
  EXPECT_EQ(burst.packets, kPackets);
  ASSERT_THAT(world.server.wire->sent(), testing::Not(IsEmpty()));
  const Packet& nak = world.server.wire->sent().front();
  EXPECT_EQ(nak.aeth.syndrome, Syndrome::Nak(NakCode::kPsnSequenceError));
  const int32_t lost = nak.bth.psn - burst.bth.psn;
  ASSERT_GT(lost, 0);
  ASSERT_LT(lost, kPackets - 1);
  world.Run(milliseconds(50));
  EXPECT_THAT(world.client.Statuses(), ElementsAre(IBV_WC_SUCCESS));
  const auto first = world.client.memory.begin();
  EXPECT_TRUE(std::equal(first, first + kLength, world.server.memory.begin()));
  // Only what follows the lost packet was sent again.
  EXPECT_EQ(world.client.wire->sent()[1].bth.psn, nak.bth.psn);
}

class Shuffled : public testing::TestWithParam<ibv_wr_opcode> {};

// A program that polls the last byte finds others missing; one that waits for
// the completion finds all of them.
TEST_P(Shuffled, PayloadComesInAnyOrderAndTheCompletionBehindIt) {
  constexpr uint32_t kLength = 5000;
  constexpr size_t kTarget = 20000;
  constexpr size_t kSource = 40000;
  const bool read = GetParam() == IBV_WR_RDMA_READ;
  const bool send = GetParam() == IBV_WR_SEND;
  DeviceWorld world("shuffle=1", "shuffle=1");
  world.Connect();
  WorldDevice& to = read ? world.client : world.server;
  WorldDevice& from = read ? world.server : world.client;
  std::fill_n(from.memory.begin() + kSource, kLength, std::byte{1});
  const auto there = [&to] {
    const auto begin = to.memory.begin() + kTarget;
    return std::count(begin, begin + kLength, std::byte{1});
  };
  // Where the completion tells of the data: there, or of WRITE only here.
  WorldDevice& told = send ? world.server : world.client;
  int early = 0;
  for (uint64_t id = 0; id < 20; ++id) {
    std::fill_n(to.memory.begin() + kTarget, kLength, std::byte{0});
    if (send) {
      ASSERT_EQ(world.server.PostReceive(id, kTarget, kLength), 0);
    }
    ASSERT_EQ(world.client.Post(
                  id, {.opcode = GetParam(),
                       .offset = read ? kTarget : kSource,
                       .length = kLength,
                       .remote = world.server.address(read ? kSource : kTarget),
                       .rkey = world.server.key}),
              0);
    world.Run({});
    EXPECT_TRUE(told.cq->empty());
    EXPECT_GT(there(), 0);
    EXPECT_LT(there(), kLength);
    if (to.memory[kTarget + kLength - 1] == std::byte{1}) ++early;
    while (told.cq->empty()) world.Run({});
    EXPECT_EQ(there(), kLength);
    EXPECT_EQ(to.memory[kTarget + kLength], std::byte{0});
    world.Run(milliseconds(1));
    EXPECT_THAT(told.Statuses(), ElementsAre(IBV_WC_SUCCESS));
    if (send) {
      EXPECT_THAT(world.client.Statuses(), ElementsAre(IBV_WC_SUCCESS));
    }
  }
  EXPECT_GT(early, 0);
  EXPECT_LT(early, 20);
}

INSTANTIATE_TEST_SUITE_P(Of, Shuffled,
                         testing::Values(IBV_WR_RDMA_WRITE, IBV_WR_SEND,
                                         IBV_WR_RDMA_READ));

// Nobody acknowledges: the sender's completion says nothing of the payload.
class ShuffledUnreliable : public testing::TestWithParam<Transport> {};

TEST_P(ShuffledUnreliable, SendComesInAnyOrderAndItsCompletionBehindIt) {
  constexpr uint32_t kLength = 3000;
  constexpr size_t kReceive = 20000;
  const uint32_t grh = GetParam() == Transport::kUd ? kGrhBytes : 0;
  DeviceWorld world("", "shuffle=1", GetParam());
  world.Connect();
  auto& memory = world.server.memory;
  const auto payload = memory.begin() + static_cast<ptrdiff_t>(kReceive + grh);
  const auto there = [&](std::byte value) {
    return std::count(payload, payload + kLength, value);
  };
  int early = 0;
  for (uint8_t round = 1; round <= 20; ++round) {
    const std::byte value{round};
    std::fill_n(world.client.memory.begin(), kLength, value);
    ASSERT_EQ(world.server.PostReceive(round, kReceive, grh + kLength), 0);
    ASSERT_EQ(world.client.Post(round, {.length = kLength}), 0);
    world.Run({});
    EXPECT_THAT(world.client.Statuses(), ElementsAre(IBV_WC_SUCCESS));
    EXPECT_TRUE(world.server.cq->empty());
    EXPECT_GT(there(value), 0);
    EXPECT_LT(there(value), kLength);
    if (payload[kLength - 1] == value) ++early;
    const Instant sent = world.clock.Now();
    while (world.server.cq->empty()) world.Run({});
    EXPECT_GE(world.clock.Now() - sent, std::chrono::microseconds(400));
    EXPECT_EQ(there(value), kLength);
    EXPECT_EQ(payload[kLength], std::byte{0});
    const auto completions = world.server.Completions();
    ASSERT_THAT(completions, SizeIs(1));
    EXPECT_EQ(completions[0].status, IBV_WC_SUCCESS);
    EXPECT_EQ(completions[0].wr_id, round);
    EXPECT_EQ(completions[0].byte_len, grh + kLength);
  }
  EXPECT_GT(early, 0);
  EXPECT_LT(early, 20);
}

INSTANTIATE_TEST_SUITE_P(Of, ShuffledUnreliable,
                         testing::Values(Transport::kUc, Transport::kUd));

// Only what is sent behind it tells of it.
TEST(FaultyDevice, AShuffledWriteOfUcIsWholeLongAfterItsSenderIsTold) {
  constexpr uint32_t kLength = 5000;
  DeviceWorld world("", "shuffle=1", Transport::kUc);
  world.Connect();
  int early = 0;
  for (uint8_t round = 1; round <= 20; ++round) {
    const std::byte value{round};
    std::fill_n(world.client.memory.begin(), kLength, value);
    ASSERT_EQ(world.client.Post(round, {.opcode = IBV_WR_RDMA_WRITE,
                                        .length = kLength,
                                        .remote = world.server.address(0),
                                        .rkey = world.server.key}),
              0);
    world.Run({});
    EXPECT_THAT(world.client.Statuses(), ElementsAre(IBV_WC_SUCCESS));
    const auto begin = world.server.memory.begin();
    EXPECT_GT(std::count(begin, begin + kLength, value), 0);
    EXPECT_LT(std::count(begin, begin + kLength, value), kLength);
    if (begin[kLength - 1] == value) ++early;
    world.Run(milliseconds(1));
    EXPECT_EQ(std::count(begin, begin + kLength, value), kLength);
    EXPECT_EQ(begin[kLength], std::byte{0});
    EXPECT_THAT(world.server.Statuses(), IsEmpty());
  }
  EXPECT_GT(early, 0);
  EXPECT_LT(early, 20);
}

// They come in the order in which they were sent, each whole, and the first
// does not lose its receive to the second.
TEST(FaultyDevice, DatagramsBehindAShuffledOneComeBehindIt) {
  constexpr uint32_t kLength = 3000;
  constexpr size_t kSlot = 4096;
  constexpr uint64_t kDatagrams = 8;
  DeviceWorld world("", "shuffle=0.5", Transport::kUd);
  world.Connect();
  for (uint8_t round = 1; round <= 20; ++round) {
    std::fill_n(world.client.memory.begin(), kLength, std::byte{round});
    for (uint64_t id = 0; id < kDatagrams; ++id) {
      world.client.memory[0] = static_cast<std::byte>(id);
      ASSERT_EQ(world.server.PostReceive(id, id * kSlot, kGrhBytes + kLength),
                0);
      ASSERT_EQ(world.client.Post(id, {.length = kLength}), 0);
      world.Run({});
      EXPECT_THAT(world.client.Statuses(), ElementsAre(IBV_WC_SUCCESS));
    }
    world.Run(milliseconds(1));
    const auto completions = world.server.Completions();
    ASSERT_THAT(completions, SizeIs(kDatagrams));
    for (uint64_t id = 0; id < kDatagrams; ++id) {
      EXPECT_EQ(completions[id].status, IBV_WC_SUCCESS);
      EXPECT_EQ(completions[id].wr_id, id);
      const auto payload = world.server.memory.begin() +
                           static_cast<ptrdiff_t>(id * kSlot + kGrhBytes);
      EXPECT_EQ(payload[0], static_cast<std::byte>(id));
      EXPECT_EQ(std::count(payload + 1, payload + kLength, std::byte{round}),
                kLength - 1);
    }
  }
}

// A message that lost a packet leaves its receive, with what was placed of it
// ahead of its time, to the next one.
TEST(FaultyDevice, ShuffledSendsOfUcAreWholeOrDoNotComeAtAll) {
  constexpr uint32_t kLength = 3000;
  DeviceWorld world("", "shuffle=0.5;drop=0.1;reorder=0.05", Transport::kUc);
  world.Connect();
  // One at a time.
  ASSERT_EQ(world.server.PostReceive(1, 4096, kLength), 0);
  uint8_t last = 0;
  int came = 0;
  for (uint8_t value = 1; value <= 200; ++value) {
    std::fill_n(world.client.memory.begin(), kLength, std::byte{value});
    ASSERT_EQ(world.client.Post(value, {.length = kLength}), 0);
    world.Run(milliseconds(2));
    EXPECT_THAT(world.client.Statuses(), ElementsAre(IBV_WC_SUCCESS));
    for (const ibv_wc_status status : world.server.Statuses()) {
      EXPECT_EQ(status, IBV_WC_SUCCESS);
      const auto begin = world.server.memory.begin() + 4096;
      EXPECT_EQ(std::count(begin, begin + kLength, *begin), kLength);
      EXPECT_GT(*begin, std::byte{last});
      last = std::to_integer<uint8_t>(*begin);
      ++came;
      ASSERT_EQ(world.server.PostReceive(1, 4096, kLength), 0);
    }
  }
  EXPECT_GT(came, 100);
  EXPECT_LT(came, 190);
}

// Once, as without `shuffle`: it is not asked for twice.
TEST(FaultyDevice, AShuffledSendFindsNoReceiveAsOftenAsAnother) {
  constexpr uint64_t kSends = 400;
  DeviceWorld world("", "shuffle=1;rnr=0.5");
  world.Connect();
  size_t naks = 0;
  for (uint64_t id = 0; id < kSends; ++id) {
    const size_t before = world.server.wire->sent().size();
    ASSERT_EQ(world.server.PostReceive(id, 0, 8), 0);
    ASSERT_EQ(world.client.Post(id, {.length = 8}), 0);
    world.Run({});
    const auto& sent = world.server.wire->sent();
    if (sent.size() > before &&
        sent[before].aeth.syndrome.kind() == Syndrome::Kind::kRnrNak) {
      ++naks;
    }
    world.Run(milliseconds(3));
    ASSERT_THAT(world.client.Statuses(), ElementsAre(IBV_WC_SUCCESS));
  }
  EXPECT_NEAR(static_cast<double>(naks), 200, 40);
}

class Behind
    : public testing::TestWithParam<std::tuple<Transport, ibv_wr_opcode>> {};

TEST_P(Behind, CompletionFindsAllOfAShuffledWrite) {
  constexpr uint32_t kLength = 5000;
  const auto& [transport, opcode] = GetParam();
  DeviceWorld world("", "shuffle=1", transport);
  world.Connect();
  for (uint8_t round = 1; round <= 20; ++round) {
    std::fill_n(world.client.memory.begin(), kLength, std::byte{round});
    ASSERT_EQ(world.server.PostReceive(round, 40000, 8), 0);
    ASSERT_EQ(world.client.Post(1, {.opcode = IBV_WR_RDMA_WRITE,
                                    .length = kLength,
                                    .remote = world.server.address(0),
                                    .rkey = world.server.key}),
              0);
    ASSERT_EQ(world.client.Post(2, {.opcode = opcode,
                                    .length = 8,
                                    .remote = world.server.address(kLength),
                                    .rkey = world.server.key}),
              0);
    const auto begin = world.server.memory.begin();
    while (world.server.cq->empty()) world.Run({});
    EXPECT_EQ(std::count(begin, begin + kLength, std::byte{round}), kLength);
    EXPECT_THAT(world.server.Statuses(), ElementsAre(IBV_WC_SUCCESS));
  }
}

INSTANTIATE_TEST_SUITE_P(
    AWrite, Behind,
    testing::Combine(testing::Values(Transport::kRc, Transport::kUc),
                     testing::Values(IBV_WR_SEND, IBV_WR_RDMA_WRITE_WITH_IMM)));

// It would come after the end of what it was to.
TEST(FaultyDevice, WhatIsHeldBackIsForgottenWithTheConnection) {
  DeviceWorld world("", "shuffle=1");
  world.Connect();
  ASSERT_EQ(world.client.Post(1, {.opcode = IBV_WR_RDMA_WRITE,
                                  .length = 4096,
                                  .remote = world.server.address(0),
                                  .rkey = world.server.key}),
            0);
  world.Run({});
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RESET;
  ASSERT_EQ(world.server.device->ModifyQp(*world.server.qp, IBV_QPT_RC, attr,
                                          IBV_QP_STATE),
            0);
  const auto memory = world.server.memory;
  world.server.Connect(world.client);
  world.Run(std::chrono::microseconds(600));
  EXPECT_EQ(world.server.memory, memory);
}

TEST(FaultyDevice, NothingArrivesRetriesAreExceeded) {
  DeviceWorld world("", "drop=1");
  world.Connect();
  ASSERT_EQ(world.client.Post(1, {.length = 8}), 0);
  ASSERT_EQ(world.client.Post(2, {.length = 8}), 0);
  world.Run(milliseconds(200));
  EXPECT_THAT(world.client.Statuses(),
              ElementsAre(IBV_WC_RETRY_EXC_ERR, IBV_WC_WR_FLUSH_ERR));
}

TEST(FaultyDevice, ReceiveIsThereButIsNotFound) {
  DeviceWorld world("", "rnr=1");
  world.Connect(/*rnr_retry=*/2);
  ASSERT_EQ(world.server.PostReceive(1, 0, 8), 0);
  ASSERT_EQ(world.client.Post(2, {.length = 8}), 0);
  world.Run(milliseconds(50));
  EXPECT_THAT(world.client.Statuses(), ElementsAre(IBV_WC_RNR_RETRY_EXC_ERR));
  EXPECT_THAT(world.server.Statuses(), IsEmpty());
}

TEST(FaultyDevice, ReceivesThatAreNotFoundAreFlushed) {
  DeviceWorld world("", "rnr=1");
  world.Connect();
  ASSERT_EQ(world.server.PostReceive(1, 0, 8), 0);
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_ERR;
  ASSERT_EQ(world.server.device->ModifyQp(*world.server.qp, IBV_QPT_RC, attr,
                                          IBV_QP_STATE),
            0);
  EXPECT_THAT(world.server.Statuses(), ElementsAre(IBV_WC_WR_FLUSH_ERR));
}

TEST(FaultyDevice, CompletionErrorEndsInErrAndFlushesTheRest) {
  DeviceWorld world("cqe=REM_OP_ERR@1");
  world.Connect();
  for (uint64_t id = 1; id <= 3; ++id) {
    ASSERT_EQ(world.client.Post(id, {.opcode = IBV_WR_RDMA_WRITE,
                                     .length = 8,
                                     .remote = world.server.address(0),
                                     .rkey = world.server.key}),
              0);
  }
  ASSERT_EQ(world.client.PostReceive(4, 0, 8), 0);
  world.Run(milliseconds(1));
  EXPECT_THAT(world.client.Statuses(),
              ElementsAre(IBV_WC_REM_OP_ERR, IBV_WC_WR_FLUSH_ERR,
                          IBV_WC_WR_FLUSH_ERR, IBV_WC_WR_FLUSH_ERR));
  EXPECT_EQ(world.client.qp->state(), IBV_QPS_ERR);
}

TEST(FaultyDevice, PortGoesDownAndComesBack) {
  DeviceWorld world("port-down=after:1s,for:1s");
  EXPECT_TRUE(world.client.device->port_up());
  world.Run(milliseconds(1500));
  EXPECT_FALSE(world.client.device->port_up());
  EXPECT_THAT(world.client.Events(), ElementsAre(IBV_EVENT_PORT_ERR));
  world.Run(seconds(1));
  EXPECT_TRUE(world.client.device->port_up());
  EXPECT_THAT(world.client.Events(), ElementsAre(IBV_EVENT_PORT_ACTIVE));
  EXPECT_THAT(world.server.Events(), IsEmpty());
}

TEST(FaultyDevice, GidChangeIsTold) {
  DeviceWorld world("gid-change=after:1s");
  world.Run(milliseconds(999));
  EXPECT_THAT(world.client.Events(), IsEmpty());
  world.Run(milliseconds(2));
  EXPECT_THAT(world.client.Events(), ElementsAre(IBV_EVENT_GID_CHANGE));
}

TEST(FaultyDevice, WhoNoLongerListensIsNotTold) {
  DeviceWorld world("gid-change=after:1s");
  world.client.device->ForgetListener(world.client.events);
  world.Run(seconds(2));
  EXPECT_THAT(world.client.Events(), IsEmpty());
}

TEST(FaultyDevice, RemovalFlushesAndRefuses) {
  DeviceWorld world("device-removal=after:1s");
  Device& device = *world.client.device;
  bool told = false;
  {
    Holding lock(device.mutex());
    device.set_on_removal([&told] { told = true; });
  }
  world.Connect();
  ASSERT_EQ(world.client.PostReceive(1, 0, 8), 0);
  world.Run(seconds(2));
  EXPECT_TRUE(told);
  EXPECT_TRUE(device.removed());
  EXPECT_THAT(world.client.Events(), ElementsAre(IBV_EVENT_DEVICE_FATAL));
  EXPECT_THAT(world.client.Statuses(), ElementsAre(IBV_WC_WR_FLUSH_ERR));
  EXPECT_EQ(world.client.Post(2, {.length = 8}), EIO);
  EXPECT_EQ(world.client.PostReceive(3, 0, 8), EIO);
  EXPECT_TRUE(absl::IsUnavailable(device.AllocatePd().status()));
  EXPECT_TRUE(
      absl::IsUnavailable(device.CreateCq(1, nullptr, nullptr).status()));
  device.DestroyQp(world.client.qp);
  device.DestroyCq(std::move(world.client.cq));
}

TEST(FaultyDevice, RequestsForConnectionsAreRejected) {
  constexpr uint16_t kPort = 7;
  DeviceWorld world("", "cm-reject=1");
  std::vector<CmEvent> client_events, server_events;
  Device& server = *world.server.device;
  {
    Holding lock(server.mutex());
    server.set_cm_events(
        [&](const CmEvent& event) { server_events.push_back(event); });
    server.cm().Listen({.local = {.port = kPort}});
  }
  Device& client = *world.client.device;
  {
    Holding lock(client.mutex());
    client.set_cm_events(
        [&](const CmEvent& event) { client_events.push_back(event); });
    CmOutput output;
    const auto connection = client.cm().Connect(
        {.endpoints = {.local = {.ip = world.client.gid, .port = 9},
                       .remote = {.ip = world.server.gid, .port = kPort}},
         .qpn = world.client.qp->number()},
        world.clock.Now(), output);
    ASSERT_TRUE(connection.ok()) << connection.status();
    client.Deliver(output);
  }
  world.Run(milliseconds(1));
  EXPECT_THAT(server_events, IsEmpty());
  ASSERT_THAT(client_events, SizeIs(1));
  EXPECT_EQ(client_events[0].type, CmEventType::kRejected);
  EXPECT_EQ(client_events[0].reason, RejectReason::kConsumer);
  Holding lock(server.mutex());
  EXPECT_EQ(server.cm().size(), 0u);
}

}  // namespace
}  // namespace nd::soft
