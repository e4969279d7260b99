#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "base/random.h"
#include "fuzz/seeds.h"

namespace nd::soft {
namespace {

FuzzInput Mutated(const std::vector<FuzzInput>& seeds, Random& random) {
  FuzzInput input = seeds[random.Below(seeds.size())];
  const auto at = [&] {
    return input.begin() +
           static_cast<ptrdiff_t>(random.Below(input.size() + 1));
  };
  for (uint64_t left = 1 + random.Below(8); left > 0; --left) {
    switch (random.Below(6)) {
      case 0:
      case 1:
        if (auto place = at(); place != input.end()) {
          *place = static_cast<uint8_t>(random.Next());
        }
        break;
      case 2:
        if (auto place = at(); place != input.end()) {
          *place ^= static_cast<uint8_t>(1u << random.Below(8));
        }
        break;
      case 3: {
        FuzzInput more(1 + random.Below(40));
        random.Fill(std::as_writable_bytes(std::span(more)));
        input.insert(at(), more.begin(), more.end());
        break;
      }
      case 4: {
        auto from = at(), to = at();
        if (to < from) std::swap(from, to);
        input.erase(from, std::min(to, from + 64));
        break;
      }
      default: {
        const FuzzInput& other = seeds[random.Below(seeds.size())];
        const size_t begin = random.Below(other.size());
        const size_t size =
            std::min<size_t>(random.Below(400), other.size() - begin);
        const auto from = other.begin() + static_cast<ptrdiff_t>(begin);
        input.insert(at(), from, from + static_cast<ptrdiff_t>(size));
        break;
      }
    }
  }
  return input;
}

void RunOne(const FuzzInput& input) {
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

}  // namespace

void RunMutations(const std::vector<FuzzInput>& seeds, uint64_t runs) {
  for (const FuzzInput& seed : seeds) RunOne(seed);
  SeededRandom random(1);
  for (uint64_t i = 0; i < runs; ++i) RunOne(Mutated(seeds, random));
}

}  // namespace nd::soft
