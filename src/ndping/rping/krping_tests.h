// krping's wlat, rlat and bw, as they go over the wire: both sides advertise a
// buffer, the client first, and then move data without a word until the client
// disconnects.
#ifndef ND_NDPING_RPING_KRPING_TESTS_H_
#define ND_NDPING_RPING_KRPING_TESTS_H_

#include <ostream>

#include "absl/status/status.h"
#include "base/wait.h"
#include "ndping/rping/krping.h"

namespace nd::ndping {

// `options.test` is not kPing. In the calling thread.
absl::Status RunKrpingTest(const KrpingOptions& options,
                           const Cancellation& interrupt, std::ostream& out);

}  // namespace nd::ndping

#endif  // ND_NDPING_RPING_KRPING_TESTS_H_
