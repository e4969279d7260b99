// The rings that other processes of the host have given us.
#ifndef ND_SOFT_NET_INBOUND_LINKS_H_
#define ND_SOFT_NET_INBOUND_LINKS_H_

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/fd.h"
#include "soft/net/event_set.h"
#include "soft/net/frame.h"
#include "soft/net/lent_packets.h"
#include "soft/net/link.h"

namespace nd::soft {

// A frame of a peer, in memory that it may still write to.
struct PeerFrame {
  bool trusted = false;
  std::span<const std::byte> bytes{};
  // Of the link that it came on, if it did.
  LinkEnds* ends = nullptr;
  const std::shared_ptr<Lender>* lender = nullptr;
};
// False: it has enough.
using PeerFrameSink = absl::FunctionRef<bool(const PeerFrame&)>;

// A link stays until its sender hung up and all that it sent was taken, or
// until it is found to hold nonsense. One thread at a time. `events` outlives
// it.
class InboundLinks {
 public:
  // `fetches`: what is lent by those that are trusted.
  InboundLinks(size_t max_links, bool fetches, EventSet& events)
      : max_links_(max_links), fetches_(fetches), events_(events) {}

  // Of the process `pid`; 0 is one that is not seen from here.
  absl::Status Adopt(std::array<Fd, 2> offer, bool trusted, pid_t pid);

  // Whether those who can lend are to, from now on.
  void Invite(bool invited);

  // Hands out up to about `budget` frames, by turns; returns how many.
  size_t Receive(size_t budget, PeerFrameSink sink);
  // Whether no ring has anything.
  bool empty() const;
  // As in Network.
  void Mark();
  bool PassedMark() const;
  [[nodiscard]] bool Rest();
  void OnBell(uint32_t id, bool hung_up);

  size_t size() const { return links_.size(); }

 private:
  struct Sender {
    uint32_t id;
    bool trusted;
    InboundLink link;
    std::shared_ptr<Lender> lender{};
    bool hung_up = false;
    bool finished = false;  // nothing more comes out of the ring
    LinkEnds ends{};
  };

  size_t ReceiveFrom(Sender& sender, size_t budget, PeerFrameSink sink,
                     bool& enough);
  ABSL_ATTRIBUTE_COLD void HangUp(Sender& sender);
  ABSL_ATTRIBUTE_COLD void DropFinished();

  const size_t max_links_;
  const bool fetches_;
  EventSet& events_;
  std::vector<std::unique_ptr<Sender>> links_;
  size_t turn_ = 0;  // whose it is to be first
  uint32_t next_id_ = 0;
  bool invites_ = true;
  bool resting_ = false;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_INBOUND_LINKS_H_
