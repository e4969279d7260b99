// Queue pairs in multicast groups.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/fake_clock.h"
#include "base/random.h"
#include "soft/device/device.h"
#include "soft/device/device_world.h"
#include "soft/device/grh.h"
#include "soft/device/silent_network.h"
#include "soft/net/host_network.h"

namespace nd::soft {
namespace {

constexpr uint32_t kQkey = 0x1234;

Gid Group(uint8_t last) {
  return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 239, 9, 9, last};
}

std::string FreshPrefix() {
  static int count = 0;
  return absl::StrCat("nd-soft-groups-test/", getpid(), "/", ++count);
}

// A process's device, with memory and datagram queue pairs.
class GroupDevice {
 public:
  explicit GroupDevice(const std::string& prefix, const Limits& limits = {},
                       FaultPlan* faults = nullptr)
      : gid_(WorldGid(1)), memory_(size_t{64} << 10) {
    HostNetworkOptions options;
    options.prefix = prefix;
    auto network = HostNetwork::Open(options, random_);
    EXPECT_TRUE(network.ok()) << network.status();
    (*network)->SetLocalGids({gid_});
    device = std::make_unique<Device>(
        Device::Options{.limits = limits,
                        .host = {.gids = {{.gid = gid_, .interface = "eth0"}}},
                        .faults = faults},
        *std::move(network), Clock::Monotonic(), random_);
    pd_ = *device->AllocatePd();
    key_ = *device->RegisterMemory(
        {.pd = pd_,
         .address = memory_.data(),
         .length = memory_.size(),
         .iova = reinterpret_cast<uintptr_t>(memory_.data()),
         .access = IBV_ACCESS_LOCAL_WRITE});
    cq_ = *device->CreateCq(256, nullptr, nullptr);
  }

  // In RTS, unless it is another transport's.
  QueuePair* CreateQp(Transport transport = Transport::kUd,
                      bool deaf_to_itself = false) {
    QueuePair* const qp = *device->CreateQp({.transport = transport,
                                             .pd = pd_,
                                             .send_cq = cq_.get(),
                                             .recv_cq = cq_.get(),
                                             .cap = {.max_send_wr = 16,
                                                     .max_recv_wr = 16,
                                                     .max_send_sge = 1,
                                                     .max_recv_sge = 1,
                                                     .max_inline_data = 0},
                                             .deaf_to_itself = deaf_to_itself});
    if (transport != Transport::kUd) return qp;
    ibv_qp_attr attr{};
    attr.port_num = 1;
    attr.qkey = kQkey;
    attr.qp_state = IBV_QPS_INIT;
    Modify(qp, attr,
           IBV_QP_STATE | IBV_QP_PORT | IBV_QP_PKEY_INDEX | IBV_QP_QKEY);
    attr.qp_state = IBV_QPS_RTR;
    Modify(qp, attr, IBV_QP_STATE);
    attr.qp_state = IBV_QPS_RTS;
    Modify(qp, attr, IBV_QP_STATE | IBV_QP_SQ_PSN);
    return qp;
  }
  void PostReceive(QueuePair* qp, size_t offset = 0) {
    ibv_sge sge{Address(offset), 1000, key_};
    ibv_recv_wr wr{};
    wr.wr_id = offset;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    ibv_recv_wr* bad = nullptr;
    EXPECT_EQ(device->PostReceive(*qp, &wr, &bad), 0);
  }
  // What the memory holds at `offset`.
  void Send(QueuePair* qp, const Gid& group, size_t offset, uint32_t length,
            uint32_t qkey = kQkey) {
    AddressHandle ah{
        .pd = pd_,
        .path = {.source = gid_, .destination = group, .hop_limit = 3}};
    ibv_sge sge{Address(offset), length, key_};
    ibv_send_wr wr{};
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.opcode = IBV_WR_SEND;
    wr.wr.ud = {&ah.verbs, ToUint(kMulticastQpn), qkey};
    ibv_send_wr* bad = nullptr;
    EXPECT_EQ(device->PostSend(*qp, &wr, &bad), 0);
  }
  // Makes all the progress there is, and takes what has completed.
  std::vector<ibv_wc> Completions() {
    {
      Holding lock(device->mutex());
      while (device->Progress()) continue;
    }
    std::vector<ibv_wc> all(256);
    all.resize(static_cast<size_t>(cq_->Poll(all)));
    return all;
  }
  // The queue pairs that received something, as often as they did.
  std::multiset<uint32_t> Receivers() {
    std::multiset<uint32_t> qpns;
    for (const ibv_wc& wc : Completions()) {
      EXPECT_EQ(wc.opcode, IBV_WC_RECV);
      qpns.insert(wc.qp_num);
    }
    return qpns;
  }
  std::byte* At(size_t offset) { return memory_.data() + offset; }

 private:
  uint64_t Address(size_t offset) {
    return reinterpret_cast<uintptr_t>(memory_.data()) + offset;
  }
  void Modify(QueuePair* qp, const ibv_qp_attr& attr, int mask) {
    EXPECT_EQ(device->ModifyQp(*qp, IBV_QPT_UD, attr, mask), 0);
  }

  const Gid gid_;
  SystemRandom random_;
  std::vector<std::byte> memory_;

 public:
  std::unique_ptr<Device> device;

 private:
  PdId pd_{};
  uint32_t key_ = 0;
  std::unique_ptr<CompletionQueue> cq_;
};

using Qpns = std::multiset<uint32_t>;
uint32_t NumberOf(const QueuePair* qp) { return ToUint(qp->number()); }

class DeviceGroupsTest : public testing::Test {
 protected:
  const std::string prefix_ = FreshPrefix();
  GroupDevice here_{prefix_};
  GroupDevice there_{prefix_};
};

TEST_F(DeviceGroupsTest, EachQueuePairInTheGroupGetsACopy) {
  QueuePair* const sender = here_.CreateQp();
  QueuePair* const neighbour = here_.CreateQp();
  QueuePair* const one = there_.CreateQp();
  QueuePair* const other = there_.CreateQp();
  QueuePair* const in_none = there_.CreateQp();
  ASSERT_EQ(here_.device->AttachToGroup(*neighbour, Group(1)), 0);
  ASSERT_EQ(there_.device->AttachToGroup(*one, Group(1)), 0);
  ASSERT_EQ(there_.device->AttachToGroup(*other, Group(1)), 0);
  // Twice is once.
  ASSERT_EQ(there_.device->AttachToGroup(*other, Group(1)), 0);
  here_.PostReceive(neighbour, 2000);
  for (QueuePair* const qp : {one, other, in_none}) {
    there_.PostReceive(qp, qp == one ? 2000 : 4000);
    there_.PostReceive(qp, 6000);
  }
  std::fill_n(here_.At(0), 900, std::byte{0x5a});
  here_.Send(sender, Group(1), 0, 900);
  EXPECT_EQ(here_.Receivers(), Qpns({NumberOf(neighbour)}));
  const auto received = there_.Completions();
  ASSERT_EQ(received.size(), 2u);
  for (const ibv_wc& wc : received) {
    EXPECT_EQ(wc.status, IBV_WC_SUCCESS);
    EXPECT_EQ(wc.byte_len, 900 + kGrhBytes);
    EXPECT_EQ(wc.src_qp, NumberOf(sender));
    EXPECT_EQ(wc.wc_flags, static_cast<unsigned>(IBV_WC_GRH));
    const std::byte* const place = there_.At(wc.wr_id);
    EXPECT_EQ(wc.wr_id, wc.qp_num == NumberOf(one) ? 2000u : 4000u);
    EXPECT_EQ(
        std::count(place + kGrhBytes, place + kGrhBytes + 900, std::byte{0x5a}),
        900);
    // The GRH names the group.
    const auto back =
        ReadGrh(std::span<const std::byte, kGrhBytes>(place, kGrhBytes));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->source, Group(1));
    EXPECT_EQ(back->destination, WorldGid(1));
  }
}

TEST_F(DeviceGroupsTest, ASenderInTheGroupHearsItselfUnlessItWantsNotTo) {
  QueuePair* const sender = here_.CreateQp();
  QueuePair* const deaf = here_.CreateQp(Transport::kUd, true);
  for (QueuePair* const qp : {sender, deaf}) {
    ASSERT_EQ(here_.device->AttachToGroup(*qp, Group(1)), 0);
    here_.PostReceive(qp, 2000);
    here_.PostReceive(qp, 4000);
  }
  here_.Send(sender, Group(1), 0, 8);
  EXPECT_EQ(here_.Receivers(), Qpns({NumberOf(sender), NumberOf(deaf)}));
  here_.Send(deaf, Group(1), 0, 8);
  EXPECT_EQ(here_.Receivers(), Qpns({NumberOf(sender)}));
}

TEST_F(DeviceGroupsTest, TheQkeyCountsAsForAnyDatagram) {
  QueuePair* const sender = here_.CreateQp();
  QueuePair* const receiver = there_.CreateQp();
  ASSERT_EQ(there_.device->AttachToGroup(*receiver, Group(1)), 0);
  there_.PostReceive(receiver);
  here_.Send(sender, Group(1), 0, 8, kQkey + 1);
  EXPECT_TRUE(there_.Receivers().empty());
  here_.Send(sender, Group(1), 0, 8);
  EXPECT_EQ(there_.Receivers(), Qpns({NumberOf(receiver)}));
}

TEST_F(DeviceGroupsTest, WhoIsDetachedHearsNoMore) {
  QueuePair* const sender = here_.CreateQp();
  QueuePair* const one = there_.CreateQp();
  QueuePair* const other = there_.CreateQp();
  for (QueuePair* const qp : {one, other}) {
    ASSERT_EQ(there_.device->AttachToGroup(*qp, Group(1)), 0);
    there_.PostReceive(qp);
  }
  EXPECT_EQ(there_.device->DetachFromGroup(*one, Group(1)), 0);
  here_.Send(sender, Group(1), 0, 8);
  EXPECT_EQ(there_.Receivers(), Qpns({NumberOf(other)}));
  EXPECT_EQ(there_.device->DetachFromGroup(*other, Group(1)), 0);
  here_.Send(sender, Group(1), 0, 8);
  EXPECT_TRUE(there_.Receivers().empty());
  ASSERT_EQ(there_.device->AttachToGroup(*one, Group(1)), 0);
  here_.Send(sender, Group(1), 0, 8);
  EXPECT_EQ(there_.Receivers(), Qpns({NumberOf(one)}));
}

TEST_F(DeviceGroupsTest, OnlyDatagramQueuePairsAndGroups) {
  QueuePair* const qp = here_.CreateQp();
  QueuePair* const connected = here_.CreateQp(Transport::kRc);
  EXPECT_EQ(here_.device->AttachToGroup(*connected, Group(1)), EINVAL);
  EXPECT_EQ(here_.device->AttachToGroup(*qp, WorldGid(1)), EINVAL);
  EXPECT_EQ(here_.device->AttachToGroup(*qp, Gid{}), EINVAL);
  EXPECT_EQ(here_.device->DetachFromGroup(*qp, Group(1)), EINVAL);
  ASSERT_EQ(here_.device->AttachToGroup(*qp, Group(1)), 0);
  EXPECT_EQ(here_.device->DetachFromGroup(*qp, Group(2)), EINVAL);
  EXPECT_EQ(here_.device->DetachFromGroup(*qp, Group(1)), 0);
  EXPECT_EQ(here_.device->DetachFromGroup(*qp, Group(1)), EINVAL);
}

// IBA o10-2.2.3; as of Linux's uverbs, whatever the device below.
TEST_F(DeviceGroupsTest, AQueuePairInAGroupStays) {
  QueuePair* const qp = here_.CreateQp();
  ASSERT_EQ(here_.device->AttachToGroup(*qp, Group(1)), 0);
  ASSERT_EQ(here_.device->AttachToGroup(*qp, Group(2)), 0);
  EXPECT_EQ(here_.device->DestroyQp(qp), EBUSY);
  ASSERT_EQ(here_.device->DetachFromGroup(*qp, Group(1)), 0);
  EXPECT_EQ(here_.device->DestroyQp(qp), EBUSY);
  ASSERT_EQ(here_.device->DetachFromGroup(*qp, Group(2)), 0);
  EXPECT_EQ(here_.device->DestroyQp(qp), 0);
}

TEST(DeviceGroups, ARemovedDeviceLetsQueuePairsInGroupsGo) {
  FaultPlan faults(*ParseFaultSpec("device-removal=after:1s"), 1,
                   Clock::Monotonic().Now() - std::chrono::seconds(1));
  GroupDevice removed(FreshPrefix(), {}, &faults);
  QueuePair* const qp = removed.CreateQp();
  ASSERT_EQ(removed.device->AttachToGroup(*qp, Group(1)), 0);
  ASSERT_EQ(removed.device->AttachToGroup(*qp, Group(2)), 0);
  (void)removed.Completions();
  ASSERT_TRUE(removed.device->removed());
  EXPECT_EQ(removed.device->AttachToGroup(*qp, Group(3)), EIO);
  EXPECT_EQ(removed.device->DetachFromGroup(*qp, Group(1)), EIO);
  EXPECT_EQ(removed.device->DestroyQp(qp), 0);
}

TEST(DeviceGroups, LimitsHold) {
  GroupDevice limited(FreshPrefix(), {.max_groups = 2, .max_group_qps = 2});
  Device& device = *limited.device;
  QueuePair* const qp = limited.CreateQp();
  QueuePair* const second = limited.CreateQp();
  QueuePair* const third = limited.CreateQp();
  EXPECT_EQ(device.AttachToGroup(*qp, Group(1)), 0);
  EXPECT_EQ(device.AttachToGroup(*second, Group(1)), 0);
  EXPECT_EQ(device.AttachToGroup(*third, Group(1)), ENOMEM);
  EXPECT_EQ(device.AttachToGroup(*qp, Group(1)), 0);
  EXPECT_EQ(device.AttachToGroup(*qp, Group(2)), 0);
  EXPECT_EQ(device.AttachToGroup(*qp, Group(3)), ENOMEM);
  EXPECT_EQ(device.DetachFromGroup(*second, Group(1)), 0);
  EXPECT_EQ(device.AttachToGroup(*third, Group(1)), 0);
}

TEST(DeviceGroups, WhatIsAdvertisedCanBeHad) {
  const Limits limits;
  GroupDevice device(FreshPrefix(), limits);
  std::vector<QueuePair*> qps;
  for (uint32_t i = 0; i < limits.max_group_qps; ++i) {
    qps.push_back(device.CreateQp());
    ASSERT_EQ(device.device->AttachToGroup(*qps.back(), Group(0)), 0);
  }
  for (uint32_t i = 1; i < limits.max_groups; ++i) {
    ASSERT_EQ(
        device.device->AttachToGroup(*qps[0], Group(static_cast<uint8_t>(i))),
        0)
        << i;
  }
}

TEST(DeviceGroups, ADeviceWithoutGroupsSaysSo) {
  GroupDevice without(FreshPrefix(), {.max_groups = 0, .max_group_qps = 0});
  QueuePair* const qp = without.CreateQp();
  EXPECT_EQ(without.device->AttachToGroup(*qp, Group(1)), EOPNOTSUPP);
  EXPECT_EQ(without.device->DetachFromGroup(*qp, Group(1)), EOPNOTSUPP);
}

// The last number of the last slot is that of groups.
TEST(DeviceGroups, NoQueuePairHasTheNumberOfGroups) {
  class LastSlot final : public SilentNetwork {
   public:
    uint32_t slot() const override { return (1 << kSlotBits) - 1; }
  };
  SystemRandom random;
  Device device({.limits = {.max_qps = 1 << kQpnIndexBits}},
                std::make_unique<LastSlot>(), Clock::Monotonic(), random);
  const auto cq = *device.CreateCq(1, nullptr, nullptr);
  QueuePair::Options options{.send_cq = cq.get(), .recv_cq = cq.get()};
  options.cap.max_send_wr = options.cap.max_recv_wr = 1;
  options.cap.max_send_sge = options.cap.max_recv_sge = 1;
  for (uint32_t i = 0; i < (1 << kQpnIndexBits) - 1; ++i) {
    const auto qp = device.CreateQp(options);
    ASSERT_TRUE(qp.ok());
    ASSERT_NE((*qp)->number(), kMulticastQpn);
  }
  EXPECT_FALSE(device.CreateQp(options).ok());
}

}  // namespace
}  // namespace nd::soft
