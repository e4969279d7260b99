// Whose turn it is in a latency test.
#ifndef ND_NDPING_ENGINE_TURN_H_
#define ND_NDPING_ENGINE_TURN_H_

#include <cstdint>

namespace nd::ndping {

// The turns of a test go round its QPs, or streams: turn n is on QP n mod N,
// and there it is message n / N.
struct Turn {
  uint32_t qp = 0;
  uint64_t sequence = 0;

  void Next(uint32_t qps) {
    if (++qp < qps) return;
    qp = 0;
    ++sequence;
  }
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_TURN_H_
