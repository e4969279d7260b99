// Sessions under seeded chance: no message is lost, doubled, reordered or
// changed, nothing hangs, no receive is wanting, and no WRITE meets memory that
// is the application's again.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "transport/session/seeds.h"
#include "transport/session/sim_traffic.h"
#include "transport/session/sim_world.h"

namespace nd::transport {
namespace {

class Sessions {
 public:
  Sessions(const SimOptions& options, const TrafficOptions& traffic,
           uint64_t seed)
      : links_(options.layout.links()),
        world_(options, seed),
        traffic_(world_, traffic) {
    for (uint32_t i = 0; i < links_; ++i) world_.Connect(i);
    traffic_.Start();
  }

  void BreakSome(uint32_t count, Duration within) {
    for (uint32_t i = 0; i < count; ++i) {
      world_.After(world_.Chance(within), [this] {
        world_.Break(static_cast<uint32_t>(world_.random().Below(links_)));
      });
    }
  }
  std::string Run() {
    const bool done = world_.Run([this] { return traffic_.done(); });
    if (!world_.fault().empty()) return world_.fault();
    if (!done) {
      return absl::StrCat(
          "it hangs\nclient: ", world_.core(0).Describe(world_.now()),
          "server: ", world_.core(1).Describe(world_.now()));
    }
    return traffic_.Verdict();
  }
  SimWorld& world() { return world_; }
  Traffic& traffic() { return traffic_; }

 private:
  const uint32_t links_;
  SimWorld world_;
  Traffic traffic_;
};

TEST(SessionSimulation, EveryMessageArrivesOnceAndInOrder) {
  ForEachSeed([](Random& random, uint64_t seed) {
    TrafficOptions traffic{.streams = 1 + random.Below(8),
                           .largest = random.OneIn(4) ? 300000u : 5000u};
    return Sessions(RandomOptions(random), traffic, seed).Run();
  });
}

TEST(SessionSimulation, OperationsThatAreGivenUpLeaveNoTrace) {
  ForEachSeed([](Random& random, uint64_t seed) {
    TrafficOptions traffic{
        .streams = 1 + random.Below(4), .largest = 5000, .cancels = true};
    return Sessions(RandomOptions(random), traffic, seed).Run();
  });
}

TEST(SessionSimulation, LinksThatBreakAndComeBackLoseNothing) {
  ForEachSeed([](Random& random, uint64_t seed) {
    SimOptions options = RandomOptions(random);
    options.reconnect = std::chrono::seconds(10);
    TrafficOptions traffic{.streams = 1 + random.Below(6),
                           .largest = random.OneIn(4) ? 300000u : 5000u,
                           .cancels = random.OneIn(3)};
    Sessions sessions(options, traffic, seed);
    sessions.BreakSome(1 + static_cast<uint32_t>(random.Below(12)),
                       std::chrono::milliseconds(4));
    return sessions.Run();
  });
}

TEST(SessionSimulation, MemoryThatCannotBeRegisteredGoesByStages) {
  ForEachSeed([](Random& random, uint64_t seed) {
    SimOptions options = RandomOptions(random);
    options.reconnect = std::chrono::seconds(10);
    options.refuse_sources = true;
    TrafficOptions traffic{.streams = 1 + random.Below(6),
                           .largest = random.OneIn(3) ? 500'000u : 5000u,
                           .cancels = random.OneIn(3)};
    Sessions sessions(options, traffic, seed);
    sessions.BreakSome(static_cast<uint32_t>(random.Below(4)),
                       std::chrono::milliseconds(4));
    return sessions.Run();
  });
}

TEST(SessionSimulation, WithoutReconnectALinkThatIsLeftCarriesAll) {
  ForEachSeed([](Random& random, uint64_t seed) {
    SimOptions options = RandomOptions(random);
    options.layout.bulk_links = 1;
    Sessions sessions(options, {.streams = 1 + random.Below(6)}, seed);
    const auto victim =
        static_cast<uint32_t>(random.Below(options.layout.links()));
    SimWorld& world = sessions.world();
    world.After(world.Chance(std::chrono::milliseconds(1)),
                [&world, victim] { world.Break(victim); });
    return sessions.Run();
  });
}

TEST(SessionSimulation, WhenAllLinksBreakEveryOperationEnds) {
  ForEachSeed([](Random& random, uint64_t seed) -> std::string {
    SimOptions options = RandomOptions(random);
    options.refuse_sources = seed % 2 == 0;
    Sessions sessions(options,
                      {.streams = 1 + random.Below(6),
                       .largest = options.refuse_sources ? 500'000u : 5000u,
                       .must_end_well = false},
                      seed);
    SimWorld& world = sessions.world();
    for (uint32_t i = 0; i < options.layout.links(); ++i) {
      world.After(world.Chance(std::chrono::microseconds(300)),
                  [&world, i] { world.Break(i); });
    }
    std::string verdict = sessions.Run();
    if (!verdict.empty()) return verdict;
    if (!world.ended(0) || !world.ended(1)) return "";  // it was all done
    return absl::IsUnavailable(*world.ended(0)) ? "" : "another end";
  });
}

}  // namespace
}  // namespace nd::transport
