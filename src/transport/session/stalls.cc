#include "transport/session/stalls.h"

#include <cassert>

namespace nd::transport {

Stall& StallTimer::Of(Stalls& stalls, Lack lack) {
  switch (lack) {
    case Lack::kNothing:
      break;
    case Lack::kConnection:
      return stalls.connection;
    case Lack::kCredit:
      return stalls.credit;
    case Lack::kDepth:
      return stalls.depth;
    case Lack::kWindow:
      return stalls.window;
    case Lack::kTransfers:
      return stalls.transfers;
    case Lack::kMemory:
      return stalls.memory;
  }
  assert(false);
  return stalls.connection;
}

void StallTimer::AddTo(Stalls& sum, Instant now) const {
  Add(stalls_, sum);
  if (lack_ != Lack::kNothing) Of(sum, lack_).time += now - since_;
}

void Add(const Stalls& stalls, Stalls& sum) {
  const auto add = [](const Stall& stall, Stall& to) {
    to.count += stall.count;
    to.time += stall.time;
  };
  add(stalls.connection, sum.connection);
  add(stalls.credit, sum.credit);
  add(stalls.depth, sum.depth);
  add(stalls.window, sum.window);
  add(stalls.transfers, sum.transfers);
  add(stalls.memory, sum.memory);
}

}  // namespace nd::transport
