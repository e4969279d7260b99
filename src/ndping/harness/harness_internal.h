// The harness with its seams open, for tests; and what both halves of the Run
// protocol share.
#ifndef ND_NDPING_HARNESS_HARNESS_INTERNAL_H_
#define ND_NDPING_HARNESS_HARNESS_INTERNAL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "nd/v1/harness.pb.h"
#include "ndping/harness/harness_client.h"
#include "ndping/harness/harness_server.h"
#include "ndping/harness/reception.h"
#include "ndping/harness/test_session.h"

namespace nd::ndping {

// Serves at options.address and port, with connections from `reception`.
absl::StatusOr<std::unique_ptr<HarnessServer>> StartHarnessServer(
    const HarnessServer::Options& options, std::unique_ptr<Reception> reception,
    const Timing& timing);

absl::StatusOr<std::unique_ptr<HarnessClient>> CreateHarnessClient(
    const HarnessClient::Options& options, std::unique_ptr<Dialer> dialer,
    const Timing& timing);

// A trailer of a call that the server ended early: whose finding its status is.
// A call that broke has none.
inline constexpr char kEndedByKey[] = "nd-ended-by";
inline constexpr char kEndedByServer[] = "server";
inline constexpr char kEndedByClient[] = "client";

// `nanoseconds` of the wire, bounded so that sums of a few stay on the time
// line.
Duration WireDuration(uint64_t nanoseconds);

// What both sides allow a phase: how long it may be silent, given its pace, and
// how long it may last.
struct PhaseLimits {
  Duration silence;
  Duration longest;
};
PhaseLimits LimitsOfPhase(const v1::TestSpec& spec, uint64_t size,
                          const v1::Limits& limits, const Timing& timing);

// How long the connections of a test may take, all together.
Duration ConnectLimit(const v1::TestSpec& spec, const v1::Limits& limits,
                      const Timing& timing);

}  // namespace nd::ndping

#endif  // ND_NDPING_HARNESS_HARNESS_INTERNAL_H_
