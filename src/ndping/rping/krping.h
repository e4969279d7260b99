// `ndping krping STRING`: what the kernel module krping does, told by its own
// option string, in user space.
#ifndef ND_NDPING_RPING_KRPING_H_
#define ND_NDPING_RPING_KRPING_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/wait.h"
#include "verbs/address.h"

namespace nd::ndping {

enum class KrpingTest {
  kPing,          // the ping-pong of rping.h
  kWriteLatency,  // wlat: both sides WRITE in turn, as fast as they see it
  kReadLatency,   // rlat: the client READs one after the other
  kBandwidth,     // bw: the client WRITEs, txdepth at a time
};

// As krping's own table has it, defaults included.
struct KrpingOptions {
  bool server = false;
  verbs::SocketAddress address;  // addr= or addr6=, and port=
  uint32_t count = 0;            // pings: for ever; tests: how many, needed
  uint32_t size = 64;            // bytes, 1 to 128 KiB
  bool verbose = false;
  bool validate = false;
  KrpingTest test = KrpingTest::kPing;
  bool duplex = false;  // bw: the server WRITEs too
  bool poll = false;    // rlat and ping: poll the CQ, do not sleep
  uint8_t tos = 0;
  uint32_t txdepth = 64;  // bw: WRITEs outstanding
};

// "client,addr=10.0.0.2,port=9999,count=100,validate". INVALID_ARGUMENT names
// the option that is wrong; UNIMPLEMENTED those that only a kernel can serve,
// and says why.
absl::StatusOr<KrpingOptions> ParseKrpingOptions(absl::string_view text);

// Runs it in the calling thread and prints krping's figures to `out`. A server
// serves one client, as krping's does. `interrupt` ends it cleanly.
absl::Status RunKrping(const KrpingOptions& options,
                       const Cancellation& interrupt, std::ostream& out);

// What wlat and bw measure. The sums are over the first cycle_iters iterations,
// in nanoseconds where krping has CPU cycles.
struct KrpingFigures {
  uint64_t delta_ns = 0;
  uint32_t iterations = 0;
  uint32_t size = 0;
  uint32_t cycle_iters = 0;
  uint64_t sum_post = 0;
  uint64_t sum_poll = 0;
  uint64_t sum_last_poll = 0;
};

// krping's line of the test, and one that says what it means.
std::string FormatKrpingFigures(KrpingTest test, const KrpingFigures& figures);

}  // namespace nd::ndping

#endif  // ND_NDPING_RPING_KRPING_H_
