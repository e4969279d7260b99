// What both ends of a session have agreed on.
#ifndef ND_TRANSPORT_SESSION_SESSION_LAYOUT_H_
#define ND_TRANSPORT_SESSION_SESSION_LAYOUT_H_

#include <cstdint>

#include "base/clock.h"

namespace nd::transport {

// Bytes where nothing else is said. The control plane has seen to the ranges.
struct SessionLayout {
  // Links 0 .. latency_links - 1 are the latency class's, the others bulk's;
  // where a class has none, or has lost them, it uses the other's.
  uint32_t latency_links = 1;
  uint32_t bulk_links = 1;
  uint32_t slots = 64;          // receives posted on each link
  uint32_t slot_size = 8192;    // longest packet
  uint32_t eager_limit = 8160;  // longest message that travels in a frame
  bool ring = false;            // packets go by RDMA WRITE into a ring
  bool digest = false;
  Duration keepalive{};  // zero: none
  uint32_t stream_window = 256 << 10;
  uint32_t max_streams = 1024;  // open at a time, of each side

  uint32_t links() const { return latency_links + bulk_links; }
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_SESSION_SESSION_LAYOUT_H_
