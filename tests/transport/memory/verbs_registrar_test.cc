// The room's memory on real devices.
#include "transport/memory/verbs_registrar.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "transport/memory/registered_pool.h"
#include "transport/memory/registration_cache.h"
#include "verbs/hand_pair.h"

namespace nd::transport {
namespace {

using verbs::HandPair;
using verbs::OrDie;

constexpr unsigned kRemote = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;

// What `pair.a` WRITEs from its memory to that of `pair.b`.
verbs::Completion Write(HandPair& pair, ibv_sge from, uint64_t to,
                        uint32_t rkey) {
  const absl::Status posted = pair.a.qp->Post({.opcode = IBV_WR_RDMA_WRITE,
                                               .flags = IBV_SEND_SIGNALED,
                                               .sges = {&from, 1},
                                               .remote_addr = to,
                                               .rkey = rkey});
  EXPECT_TRUE(posted.ok()) << posted;
  return HandPair::WaitFor(pair.a);
}

TEST(VerbsRegistrar, PiecesOfAPoolTakeWritesFromPiecesOfAnother) {
  HandPair pair({});
  RegisteredPool sends(std::make_shared<VerbsRegistrar>(pair.a.pd),
                       std::make_shared<Budget>("sends", 4 << 20),
                       {.region_bytes = 1 << 20});
  RegisteredPool receives(std::make_shared<VerbsRegistrar>(pair.b.pd),
                          std::make_shared<Budget>("receives", 4 << 20),
                          {.access = kRemote, .region_bytes = 1 << 20});
  for (const size_t size : {1, 4096, 100'001, 3 << 20}) {
    const Buffer from = OrDie(sends.Allocate(size));
    const Buffer to = OrDie(receives.Allocate(size));
    for (size_t i = 0; i < size; ++i) {
      from.data()[i] = static_cast<std::byte>(i * 7 + size);
    }
    const verbs::Completion done = Write(pair,
                                         {.addr = from.address(),
                                          .length = static_cast<uint32_t>(size),
                                          .lkey = from.lkey()},
                                         to.address(), to.rkey());
    ASSERT_TRUE(done.ok()) << done.ToStatus();
    EXPECT_TRUE(std::ranges::equal(from.bytes(), to.bytes()));
  }
}

TEST(VerbsRegistrar, PeersKeyEndsWithItsUse) {
  HandPair pair({});
  std::vector<std::byte> memory(8192);
  RegistrationCache cache(std::make_shared<VerbsRegistrar>(pair.b.pd),
                          {.keep = RegistrationCache::Keep::kLocal});
  const uint64_t address = reinterpret_cast<uint64_t>(memory.data());
  pair.a.memory[0] = std::byte{0x77};
  uint32_t rkey;
  {
    const auto use = OrDie(cache.Acquire(memory, kRemote));
    rkey = use.keys().rkey;
    EXPECT_TRUE(Write(pair, pair.a.Sge(0, 1), address, rkey).ok());
    EXPECT_EQ(memory[0], std::byte{0x77});
  }
  memory[0] = std::byte{0};
  EXPECT_EQ(Write(pair, pair.a.Sge(0, 1), address, rkey).status,
            IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(memory[0], std::byte{0});
}

TEST(VerbsRegistrar, SaysWhatTheDeviceRefuses) {
  HandPair pair({});
  VerbsRegistrar registrar(pair.a.pd);
  std::byte byte;
  // Remote write without local write: ibv_reg_mr(3).
  const absl::Status status =
      registrar.Register({&byte, 1}, IBV_ACCESS_REMOTE_WRITE).status();
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("ibv_reg_mr"), std::string::npos) << status;
}

}  // namespace
}  // namespace nd::transport
