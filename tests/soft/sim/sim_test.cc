// Queue pairs under every kind of weather. A failing run is repeated by its
// seed:
//   ND_SIM_FIRST_SEED=1234 ND_SIM_SEEDS=1 soft_sim_test
#include <gtest/gtest.h>

#include <cstdint>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "base/environment.h"
#include "soft/sim/simulation.h"
#include "soft/sim/unreliable.h"

namespace nd::soft {
namespace {

constexpr uint64_t kSeeds = 500;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  uint64_t value = 0;
  return absl::SimpleAtoi(Environment(name), &value) ? value : otherwise;
}

TEST(Simulation, EveryWorkComesToWhatItMust) {
  const uint64_t first = FromEnvironment("ND_SIM_FIRST_SEED", 1);
  const uint64_t seeds = FromEnvironment("ND_SIM_SEEDS", kSeeds);
  uint64_t packets = 0;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    Simulation simulation(seed);
    const Findings findings = simulation.Run();
    ASSERT_TRUE(findings.empty())
        << "seed " << seed << ":\n  " << absl::StrJoin(findings, "\n  ");
    packets += simulation.packets();
  }
  RecordProperty("packets", static_cast<int>(packets));
}

TEST(UnreliableSimulation, EveryPacketComesToWhatItMust) {
  const uint64_t first = FromEnvironment("ND_SIM_FIRST_SEED", 1);
  const uint64_t seeds = FromEnvironment("ND_SIM_SEEDS", kSeeds);
  uint64_t received = 0;
  uint64_t dropped = 0;
  uint64_t afterwards = 0;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    UnreliableSimulation simulation(seed);
    const Findings findings = simulation.Run();
    ASSERT_TRUE(findings.empty())
        << "seed " << seed << ":\n  " << absl::StrJoin(findings, "\n  ");
    received += simulation.received();
    dropped += simulation.dropped();
    afterwards += simulation.received_afterwards();
  }
  RecordProperty("received", static_cast<int>(received));
  RecordProperty("dropped", static_cast<int>(dropped));
  RecordProperty("received_afterwards", static_cast<int>(afterwards));
  if (seeds >= kSeeds) {
    EXPECT_GT(afterwards, 0u);
  }
}

}  // namespace
}  // namespace nd::soft
