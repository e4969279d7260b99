// Apart from seeds.cc: these need no captures.
#include <cstddef>

#include "fuzz/seeds.h"
#include "transport/frame/golden_packets.h"

namespace nd::soft {

std::vector<FuzzInput> FrameSeeds() {
  std::vector<FuzzInput> seeds;
  for (const transport::GoldenPacket& golden : transport::GoldenPackets()) {
    FuzzInput& seed = seeds.emplace_back();
    seed.push_back(golden.digest);
    for (const std::byte byte : golden.bytes) {
      seed.push_back(static_cast<uint8_t>(byte));
    }
  }
  return seeds;
}

}  // namespace nd::soft
