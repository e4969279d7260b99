// Why a test ends: what each source says, and what of it is told.
#ifndef ND_NDPING_HARNESS_FINDINGS_H_
#define ND_NDPING_HARNESS_FINDINGS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace nd::ndping {

// When a test breaks, several threads of two processes notice, each its own
// part: the data thread sees requests flushed, the watcher a lost connection,
// and the peer perhaps the device that went. This puts them together. Of each
// source the first word counts. One thread at a time.
class Findings {
 public:
  // `peer` is how messages name the other side: "server 10.98.0.2:7470".
  explicit Findings(std::string peer) : peer_(std::move(peer)) {}

  // This side gave up for a reason of its own (a deadline, a wrong message, a
  // shutdown); nothing that comes later explains more.
  void Decide(const absl::Status& status);
  // The peer's process or host is gone.
  void PeerVanished(absl::string_view detail);
  // The peer is told what this side found, and will end the test: from now on
  // connections break because of that.
  void Freeze() { frozen_ = true; }
  // The peer was told, and did not answer.
  void PeerMute() { mute_ = true; }
  // What the peer says that it found.
  void PeerSaid(const absl::Status& status) { Set(said_, status); }
  // The same, and it has ended the test: from now on connections break because
  // of that.
  void PeerEnded(const absl::Status& status);
  void ConnectionLost(const absl::Status& status);
  void DataFailed(const absl::Status& status);

  bool any() const { return final() || said_ || connection_ || data_; }
  // Nothing that could still come would change Cause().
  bool final() const { return verdict_ || vanished_ || ended_; }
  // Only a connection was lost, as it is too when a peer ends in good order.
  bool only_connection() const {
    return connection_ && !final() && !said_ && !data_;
  }
  // The peer's end of the call is there no more.
  bool peer_gone() const { return vanished_ || ended_; }
  // Both sides have spoken.
  bool both() const { return said_ && Local().has_value(); }

  // What this side found by itself, for the peer.
  std::optional<absl::Status> Local() const;
  // All of it, as one error; any() holds.
  absl::Status Cause() const;

 private:
  static void Set(std::optional<absl::Status>& where,
                  const absl::Status& status) {
    if (!where.has_value()) where = status;
  }

  const std::string peer_;
  std::optional<absl::Status> verdict_, vanished_, said_, connection_, data_;
  bool ended_ = false;
  bool frozen_ = false;
  bool mute_ = false;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_HARNESS_FINDINGS_H_
