#include "base/status.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace nd {

absl::Status ErrnoStatus(int error, absl::string_view what) {
  if (error == EOPNOTSUPP || error == ENOSYS) {
    return absl::UnimplementedError(absl::StrCat(what, ": not supported"));
  }
  return absl::ErrnoToStatus(error, what);
}

absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  if (status.message().empty()) {
    return absl::Status(status.code(), context);
  }
  return absl::Status(status.code(),
                      absl::StrCat(context, ": ", status.message()));
}

}  // namespace nd
