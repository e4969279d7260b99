// The way to other hosts and from them: UDP.
#ifndef ND_SOFT_NET_WIRE_H_
#define ND_SOFT_NET_WIRE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/random.h"
#include "soft/net/counters.h"
#include "soft/net/event_set.h"
#include "soft/net/frame.h"
#include "soft/net/inet.h"
#include "soft/net/memberships.h"
#include "soft/net/udp_sender.h"
#include "soft/net/wire_port.h"

namespace nd::soft {

// One thread at a time. What it is given outlives it.
class Wire {
 public:
  // `addresses`: those at which packets arrive.
  Wire(uint16_t port, std::span<const Gid> addresses, EventSet& events,
       NetCounters& counters);

  // What sends; a family that the host does not have goes without.
  void OpenSenders(Random& random);

  // Our addresses say by which interface packets leave for link-local addresses
  // and groups, and by which interfaces what is for groups may come.
  void SetLocal(std::span<const Gid> gids);

  // Other hosts' packets to the group shall come to whoever holds the port.
  void Join(const Gid& group) { memberships_.Join(group); }
  void Leave(const Gid& group) { memberships_.Leave(group); }

  // 0: once there is room, Rest says so.
  size_t Room(const Path& path);
  // False: no room.
  bool Send(const Path& path, Qpn destination, const PacketSource& packet);
  void Flush(Instant now);
  // False: there is room again for who found none.
  [[nodiscard]] bool Rest();

  // Whether this process is to take the port when nobody has it.
  void set_wanted(bool wanted, Instant now);
  bool held() const;

  size_t Receive(size_t budget, WireSink sink);
  void OnEvent(const Event& event, Instant now);
  std::optional<Instant> NextDeadline() const;
  void OnTime(Instant now);

 private:
  struct Sender {
    std::optional<UdpSender> socket;
    std::optional<int> blocked;  // the descriptor that shall be writable
    bool starved = false;        // said that there was no room
  };

  Sender& SenderOf(const Gid& gid) {
    return senders_[static_cast<size_t>(FamilyOf(gid))];
  }
  uint32_t InterfaceFor(const Path& path) const;
  void FlushSender(uint32_t index);
  void TryToHold(Instant now);

  const uint16_t port_;
  EventSet& events_;
  NetCounters& counters_;
  std::array<Sender, 2> senders_;  // by IpFamily
  bool queued_ = false;            // in one of them, perhaps
  std::vector<WirePort> ports_;
  std::vector<bool> readable_;  // by port, as far as is known
  std::vector<std::pair<Gid, uint32_t>> interfaces_;  // by our addresses
  Memberships memberships_;
  bool wanted_ = false;
  std::optional<Instant> hold_at_;   // when to try for the ports again
  std::optional<Instant> flush_at_;  // when the senders shall try again
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_WIRE_H_
