// Helpers around absl::Status.
#ifndef ND_BASE_STATUS_H_
#define ND_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace nd {

// A Status for a failed system or verbs call: "WHAT: Cannot allocate memory".
// The code follows absl's mapping of errno values; an EOPNOTSUPP or ENOSYS is
// kUnimplemented. Never OK: a call that failed and left errno at 0 is kUnknown.
absl::Status ErrnoStatus(int error, absl::string_view what);

// The same status, payloads included, with "CONTEXT: " before its message. An
// OK status stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view context);

namespace status_internal {
inline absl::Status ToStatus(absl::Status status) { return status; }
template <typename T>
absl::Status ToStatus(const absl::StatusOr<T>& result) {
  return result.status();
}
}  // namespace status_internal
}  // namespace nd

// Returns from the enclosing function when `expr`, a Status or StatusOr,
// failed.
#define ND_RETURN_IF_ERROR(expr)                                         \
  do {                                                                   \
    if (absl::Status nd_status_ = ::nd::status_internal::ToStatus(expr); \
        !nd_status_.ok()) [[unlikely]]                                   \
      return nd_status_;                                                 \
  } while (false)

// ND_ASSIGN_OR_RETURN(auto qp, QueuePair::Create(...));
#define ND_ASSIGN_OR_RETURN(lhs, expr) \
  ND_ASSIGN_OR_RETURN_IMPL_(ND_CONCAT_(nd_result_, __LINE__), lhs, expr)
#define ND_ASSIGN_OR_RETURN_IMPL_(result, lhs, expr) \
  auto result = (expr);                              \
  if (!result.ok()) [[unlikely]]                     \
    return std::move(result).status();               \
  lhs = *std::move(result)
#define ND_CONCAT_(a, b) ND_CONCAT_IMPL_(a, b)
#define ND_CONCAT_IMPL_(a, b) a##b

#endif  // ND_BASE_STATUS_H_
