#include "base/status.h"

#include <cerrno>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace nd {

absl::Status ErrnoStatus(int error, absl::string_view what) {
  if (error == EOPNOTSUPP || error == ENOSYS) {
    return absl::UnimplementedError(absl::StrCat(what, ": not supported"));
  }
  if (error == 0) {
    return absl::UnknownError(absl::StrCat(what, ": failed without an errno"));
  }
  return absl::ErrnoToStatus(error, what);
}

absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(),
                         status.message().empty()
                             ? std::string(context)
                             : absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload(
      [&annotated](absl::string_view type, const absl::Cord& payload) {
        annotated.SetPayload(type, payload);
      });
  return annotated;
}

}  // namespace nd
