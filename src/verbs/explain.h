// What a status of the field means, why it usually comes, and what to do.
#ifndef ND_VERBS_EXPLAIN_H_
#define ND_VERBS_EXPLAIN_H_

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace nd::verbs {

struct Explanation {
  absl::string_view name;     // "IBV_WC_RETRY_EXC_ERR"
  int value = 0;              // 12
  absl::string_view meaning;  // "no answer from the peer after all retries"
  absl::string_view cause;    // the likely ones, most likely first
  absl::string_view cure;
};

// Every value has one; that of an unknown value is named "UNKNOWN".
const Explanation& Explain(ibv_wc_status status);
const Explanation& Explain(rdma_cm_event_type event);
const Explanation& Explain(ibv_event_type event);
// IB CM REJ reason codes (IBA vol. 1, table 12.6.7).
const Explanation& ExplainRejectReason(int reason);

// All of them, for lists and tests.
std::span<const Explanation> WcExplanations();
std::span<const Explanation> CmEventExplanations();
std::span<const Explanation> AsyncEventExplanations();
std::span<const Explanation> RejectExplanations();

// Finds by name ("IBV_WC_RETRY_EXC_ERR", "retry exc", "REJECTED"), by what
// libibverbs prints ("transport retry counter exceeded"), or by number, which
// is taken as an ibv_wc_status ("status 12", "12"); "reject 8" is a reject
// reason, "cm 8" and "async 8" are events. NOT_FOUND lists the nearest names.
absl::StatusOr<Explanation> FindExplanation(absl::string_view text);

}  // namespace nd::verbs

#endif  // ND_VERBS_EXPLAIN_H_
