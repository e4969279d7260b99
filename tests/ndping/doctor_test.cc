#include "ndping/local/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "ndping/host_model.h"

namespace nd::ndping {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::Field;
using ::testing::HasSubstr;

auto Says(Grade grade, const std::string& name, const std::string& found,
          const std::string& fix) {
  return Contains(AllOf(Field(&Check::grade, grade), Field(&Check::name, name),
                        Field(&Check::found, HasSubstr(found)),
                        Field(&Check::fix, HasSubstr(fix))));
}

TEST(Doctor, FindsNothingOnAHealthyHost) {
  const auto checks = Diagnose(HealthyHost());
  EXPECT_THAT(checks, Each(Field(&Check::grade, Grade::kOk)))
      << FormatChecks(checks);
  EXPECT_THAT(checks, Each(Field(&Check::fix, "")));
  EXPECT_FALSE(AnyFailed(checks));
}

TEST(Doctor, SaysHowToGetSoftRoceOnAHostWithoutRdma) {
  DoctorFacts facts = HealthyHost();
  facts.modules.clear();
  facts.devices.clear();
  facts.nodes = {{"/dev/infiniband/rdma_cm", ENOENT}};
  facts.interfaces[1].name = "eth7";
  const auto checks = Diagnose(facts);
  EXPECT_TRUE(AnyFailed(checks));
  EXPECT_THAT(checks, Says(Grade::kFail, "kernel modules", "ib_uverbs",
                           "modprobe -a ib_core ib_uverbs rdma_cm rdma_ucm"));
  EXPECT_THAT(checks,
              Says(Grade::kFail, "RDMA devices", "none",
                   "modprobe rdma_rxe; rdma link add rxe0 type rxe netdev "
                   "eth7"));
  EXPECT_THAT(checks, Says(Grade::kFail, "/dev/infiniband/rdma_cm",
                           "No such file", "modprobe rdma_ucm"));
}

TEST(Doctor, AsksForNothingOfTheKernelWhereTheDeviceIsInUserSpace) {
  DoctorFacts facts = HealthyHost();
  facts.in_user_space = true;
  facts.modules.clear();
  facts.nodes = {{"/dev/infiniband/rdma_cm", ENOENT}};
  const auto checks = Diagnose(facts);
  EXPECT_FALSE(AnyFailed(checks)) << FormatChecks(checks);
  EXPECT_THAT(checks, Says(Grade::kOk, "kernel modules", "user space", ""));
}

TEST(Doctor, TellsWhoseRefusalANodeIs) {
  DoctorFacts facts = HealthyHost();
  facts.nodes[1].open_errno = EACCES;
  EXPECT_THAT(Diagnose(facts),
              Says(Grade::kFail, "/dev/infiniband/uverbs0", "Permission denied",
                   "chmod 0666 /dev/infiniband/uverbs0"));
  facts.is_root = true;
  EXPECT_THAT(Diagnose(facts), Says(Grade::kFail, "/dev/infiniband/uverbs0",
                                    "Permission denied", "container"));
  facts.nodes.pop_back();
  EXPECT_THAT(Diagnose(facts), Says(Grade::kFail, "/dev/infiniband/uverbs*",
                                    "none", "modprobe ib_uverbs"));
}

TEST(Doctor, SaysWhatAnInactivePortNeeds) {
  DoctorFacts facts = HealthyHost();
  facts.devices[0].ports[0].attr.state = IBV_PORT_DOWN;
  EXPECT_THAT(Diagnose(facts), Says(Grade::kFail, "rxe0 port 1", "PORT_DOWN",
                                    "ip link set dev veth0 up"));
  facts.devices[0].ports[0].attr.link_layer = IBV_LINK_LAYER_INFINIBAND;
  EXPECT_THAT(Diagnose(facts),
              Says(Grade::kFail, "rxe0 port 1", "PORT_DOWN", "opensm"));
}

TEST(Doctor, WantsARoceV2AddressOfThePort) {
  DoctorFacts facts = HealthyHost();
  auto& gids = facts.devices[0].ports[0].gids;
  gids[0].type = IBV_GID_TYPE_ROCE_V1;
  EXPECT_THAT(Diagnose(facts), Says(Grade::kFail, "rxe0 port 1 addresses",
                                    "no RoCE v2", "ip addr add"));
  gids[0].type = IBV_GID_TYPE_ROCE_V2;
  gids[0].gid = {0xfe, 0x80};
  EXPECT_THAT(Diagnose(facts), Says(Grade::kWarn, "rxe0 port 1 addresses",
                                    "link-local", "ip addr add"));
}

TEST(Doctor, ComparesThePathMtuWithTheInterfaces) {
  DoctorFacts facts = HealthyHost();
  facts.interfaces[1].mtu = 1500;
  EXPECT_THAT(Diagnose(facts),
              Says(Grade::kFail, "rxe0 port 1 MTU", "path MTU 4096",
                   "ip link set dev veth0 mtu 4192"));
  facts.devices[0].ports[0].attr.active_mtu = IBV_MTU_1024;
  EXPECT_THAT(Diagnose(facts),
              Says(Grade::kOk, "rxe0 port 1 MTU", "path MTU 1024", ""));
  facts.interfaces[1].mtu = 9000;
  EXPECT_THAT(Diagnose(facts), Says(Grade::kWarn, "rxe0 port 1 MTU",
                                    "it would hold 4096", "veth0 down"));
}

TEST(Doctor, KnowsWhatALockedMemoryLimitAllows) {
  DoctorFacts facts = HealthyHost();
  facts.memlock = 64 << 10;
  EXPECT_THAT(Diagnose(facts),
              Says(Grade::kFail, "locked memory", "64K", "ulimit -l"));
  facts.memlock = 8 << 20;
  EXPECT_THAT(Diagnose(facts),
              Says(Grade::kWarn, "locked memory", "8M", "ulimit -l"));
  facts.ipc_lock = true;
  EXPECT_THAT(Diagnose(facts),
              Says(Grade::kOk, "locked memory", "CAP_IPC_LOCK", ""));
}

TEST(Doctor, FindsTheGidOfALocalAddress) {
  DoctorFacts facts = HealthyHost();
  facts.from = "10.98.0.1";
  EXPECT_THAT(Diagnose(facts), Says(Grade::kOk, "local address 10.98.0.1",
                                    "GID 1 (RoCE v2) of rxe0 port 1", ""));
  facts.from = "127.0.0.1";
  EXPECT_THAT(Diagnose(facts), Says(Grade::kFail, "local address 127.0.0.1",
                                    "belongs to lo", "loopback"));
  facts.from = "10.1.1.1";
  EXPECT_THAT(Diagnose(facts), Says(Grade::kFail, "local address 10.1.1.1",
                                    "no network interface", "ndping devices"));
}

TEST(Doctor, ReportsTheRouteToAPeer) {
  DoctorFacts facts = HealthyHost();
  facts.peer = "node2";
  facts.route = PeerRoute{.status = absl::OkStatus(),
                          .address = "10.98.0.2",
                          .device = "rxe0",
                          .local = "10.98.0.1"};
  EXPECT_THAT(Diagnose(facts), Says(Grade::kOk, "route to node2",
                                    "10.98.0.2 by rxe0, from 10.98.0.1", ""));
  facts.route->status = absl::UnavailableError("no route to that host");
  EXPECT_THAT(Diagnose(facts),
              Says(Grade::kFail, "route to node2", "no route to that host",
                   "ip route get 10.98.0.2"));
  facts.devices.clear();
  EXPECT_THAT(Diagnose(facts),
              Says(Grade::kFail, "route to node2", "no route to that host",
                   "needs an RDMA device"));
}

TEST(Doctor, PrintsAFixBelowItsFinding) {
  const std::vector<Check> checks = {
      {"a", Grade::kOk, "well", ""},
      {"b", Grade::kWarn, "so so", "mend it"},
      {"c", Grade::kFail, "broken", "replace it"}};
  EXPECT_EQ(FormatChecks(checks),
            "[ok  ] a: well\n"
            "[warn] b: so so\n"
            "       fix: mend it\n"
            "[fail] c: broken\n"
            "       fix: replace it\n"
            "3 checks, 1 failed, 1 to look at\n");
  EXPECT_EQ(
      ToJson(checks)[1].dump(),
      R"({"check":"b","verdict":"warn","found":"so so","fix":"mend it"})");
}

// Whatever host this is: facts are gathered without an error of its own.
TEST(Doctor, ExaminesThisHost) {
  const auto checks = Diagnose(GatherFacts({}, nullptr));
  EXPECT_GE(checks.size(), 4u);
}

}  // namespace
}  // namespace nd::ndping
