#include "control/backoff.h"

#include <algorithm>

namespace nd::control {

Duration Backoff::Next() {
  const Duration bound = std::min(bound_, options_.longest);
  bound_ = bound > options_.longest / 2 ? options_.longest : bound * 2;
  const auto half = static_cast<uint64_t>(bound.count()) / 2;
  return bound - Duration(random_.Below(half + 1));
}

}  // namespace nd::control
