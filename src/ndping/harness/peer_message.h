// The messages of a Run call as values, the same for both directions, and the
// order in which a peer may send them.
#ifndef ND_NDPING_HARNESS_PEER_MESSAGE_H_
#define ND_NDPING_HARNESS_PEER_MESSAGE_H_

#include <variant>

#include "absl/strings/string_view.h"
#include "nd/v1/harness.pb.h"

namespace nd::ndping {

// std::monostate: nothing, or a message of a newer version.
using PeerMessage = std::variant<std::monostate, v1::Open, v1::Opened,
                                 v1::Layout, v1::StartPhase, v1::PhaseReady,
                                 v1::PhaseDone, v1::PhaseReport, v1::Failure>;

PeerMessage FromRequest(v1::RunRequest request);
PeerMessage FromResponse(v1::RunResponse response);

// Only what that side sends; anything else gives an empty message.
v1::RunRequest ToRequest(PeerMessage message);
v1::RunResponse ToResponse(PeerMessage message);

absl::string_view MessageName(const PeerMessage& message);  // "StartPhase"

// Follows the chart in harness.proto for the messages of one peer. A Failure
// may come at any time.
class PeerOrder {
 public:
  // Whether `message` may come now; if so, it is the last one from now on.
  bool Accept(const PeerMessage& message);

  // What came last; "nothing" at first.
  absl::string_view last() const;

 private:
  size_t last_ = 0;  // index into PeerMessage
};

}  // namespace nd::ndping

#endif  // ND_NDPING_HARNESS_PEER_MESSAGE_H_
