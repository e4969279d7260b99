#include "ndping/harness/findings.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::ndping {

void Findings::Decide(const absl::Status& status) {
  if (!final()) verdict_ = status;
}

void Findings::PeerVanished(absl::string_view detail) {
  if (final()) return;
  vanished_ = absl::UnavailableError(
      detail.empty() ? absl::StrCat(peer_, " vanished")
                     : absl::StrCat(peer_, " vanished: ", detail));
}

void Findings::PeerEnded(const absl::Status& status) {
  PeerSaid(status);
  ended_ = true;
  Freeze();
}

void Findings::ConnectionLost(const absl::Status& status) {
  if (!frozen_) Set(connection_, status);
}

void Findings::DataFailed(const absl::Status& status) {
  if (!frozen_) Set(data_, status);
}

std::optional<absl::Status> Findings::Local() const {
  if (verdict_) return verdict_;
  if (vanished_) return vanished_;
  // Failed requests are what a lost connection looks like from inside.
  return connection_ ? connection_ : data_;
}

absl::Status Findings::Cause() const {
  absl::Status local = Local().value_or(absl::UnknownError(""));
  if (vanished_) return local;
  if (mute_) {
    return absl::Status(local.code(), absl::StrCat(local.message(), "; ", peer_,
                                                   " does not answer"));
  }
  if (verdict_ || !said_) return local;
  if (!Local()) return Annotate(*said_, peer_);
  return absl::Status(local.code(), absl::StrCat(local.message(), "; ", peer_,
                                                 " says: ", said_->message()));
}

}  // namespace nd::ndping
