// The ways to the other processes of the host.
#ifndef ND_SOFT_NET_PEERS_H_
#define ND_SOFT_NET_PEERS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "base/clock.h"
#include "soft/net/copy_race.h"
#include "soft/net/counters.h"
#include "soft/net/event_set.h"
#include "soft/net/frame.h"
#include "soft/net/link.h"
#include "soft/net/network.h"
#include "soft/net/unix_socket.h"

namespace nd::soft {

// The message that gives a peer the sender's end of a link: two descriptors
// come with it. Other messages are frames, which are longer.
inline constexpr std::array<std::byte, 8> kLinkOffer = {
    std::byte{'n'}, std::byte{'d'}, std::byte{'r'}, std::byte{'i'},
    std::byte{'n'}, std::byte{'g'}, std::byte{'0'}, std::byte{'2'}};

// Which of the peers that fetch what is lent to them it is lent to.
enum class Lends : uint8_t { kWhereFaster, kToAll };

// Makes a ring to a process when something is first sent to it. Where none can
// be made, for want of descriptors or memory, packets go as datagrams. To a
// slot that nobody has, or whose process has stood still for long, packets go
// as they would on a wire: nowhere. One thread at a time. What it is given
// outlives it.
class Peers {
 public:
  // `lends`: to all that fetch, or only where that is faster.
  Peers(size_t ring_bytes, size_t max_links, Lends lends,
        const HostNames& names, const UnixSocket& socket, EventSet& events,
        NetCounters& counters)
      : ring_bytes_(ring_bytes),
        copied_burst_bytes_(BurstBytesOf(ring_bytes)),
        max_links_(max_links),
        lends_(lends),
        names_(names),
        socket_(socket),
        events_(events),
        counters_(counters) {}

  // Packets that the slot's process can take.
  size_t Room(uint32_t slot, Instant now);
  // As in Network, once there is a ring.
  BurstBytes Bursts(uint32_t slot) const;
  // False: no room. A peer that is not there takes everything.
  bool Send(uint32_t slot, Instant now, const FrameHeader& header,
            const PacketSource& packet);
  // Shows the peers what was sent.
  void Flush();

  // The slot's end of the link rang or hung up.
  void OnBell(uint32_t slot, bool hung_up, Instant now);
  // When a peer that had no room is worth another look.
  std::optional<Instant> retry_at() const { return retry_at_; }
  void OnTime(Instant now);

  // Slots that were found to have lost their process, perhaps while something
  // was sent to them: retry_at() says then that somebody has to hear of it.
  bool any_gone() const { return !gone_.empty(); }
  std::vector<uint32_t> TakeGone() { return std::exchange(gone_, {}); }

 private:
  enum class Way { kRing, kDatagrams, kBusy, kNone };

  struct Peer {
    std::optional<OutboundLink> link;
    LinkEnds ends{};
    CopyRace race{};
    bool unpublished = false;
    Instant absent_until{};
    Instant datagrams_until{};
    Instant busy_until{};
    std::optional<Instant> full_since;
    Instant full_seen{};  // the last time
  };

  // Whose ring hung up.
  struct Suspect {
    uint32_t slot;
    Instant until;
  };

  Peer& PeerAt(uint32_t slot);
  Way WayTo(uint32_t slot, Peer& peer, Instant now);
  size_t RoomOn(Way way, Peer& peer);
  void RetryAt(Instant at);
  ABSL_ATTRIBUTE_COLD Way Connect(uint32_t slot, Peer& peer, Instant now);
  Way OnSendError(uint32_t slot, Peer& peer, int error, Instant now);
  ABSL_ATTRIBUTE_NOINLINE bool SendDatagram(uint32_t slot, Peer& peer,
                                            Instant now,
                                            const FrameHeader& header,
                                            const PacketSource& packet);
  static void TellRace(Peer& peer, const PacketSource& packet, Instant now);
  void DropLink(Peer& peer);
  void LookAtSuspects(Instant now);

  const size_t ring_bytes_;
  const size_t copied_burst_bytes_;
  const size_t max_links_;
  const Lends lends_;
  const HostNames& names_;
  const UnixSocket& socket_;
  EventSet& events_;
  NetCounters& counters_;
  std::array<std::unique_ptr<Peer>, 1 << kSlotBits> peers_;
  size_t links_ = 0;
  std::vector<uint32_t> unpublished_;  // slots
  std::vector<uint32_t> gone_;
  std::vector<Suspect> suspects_;
  std::optional<Instant> retry_at_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_PEERS_H_
