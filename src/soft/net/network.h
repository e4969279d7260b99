// How packets leave a process and come to it: within the process, to another
// process of the host, or over UDP to another host.
#ifndef ND_SOFT_NET_NETWORK_H_
#define ND_SOFT_NET_NETWORK_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "soft/rc/outbox.h"
#include "soft/wire/gid.h"
#include "soft/wire/mad.h"
#include "soft/wire/packet.h"

namespace nd::soft {

// Processes of one host (network namespace) that use the device have different
// slots, and a QPN says in its upper bits whose it is; so do the comm ids of
// the communication manager. 0 is nobody's: QPNs 0 and 1 are the fabric's.
inline constexpr int kSlotBits = 10;
inline constexpr int kQpnIndexBits = 24 - kSlotBits;
inline constexpr int kCommIdIndexBits = 32 - kSlotBits;
constexpr uint32_t SlotOf(Qpn qpn) { return ToUint(qpn) >> kQpnIndexBits; }
constexpr uint32_t SlotOf(CommId id) { return ToUint(id) >> kCommIdIndexBits; }

// The two ends of a packet's way, and how it is to be treated there.
struct Path {
  Gid source{};  // one of this host's
  Gid destination{};
  uint32_t flow_label = 0;
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 64;

  bool operator==(const Path&) const = default;
};

// A service (an IBA service id) at one of the host's addresses, or at all of
// them: 0.0.0.0 is all of IPv4, :: all of IPv6 and, unless `ipv6_only`, of
// IPv4.
struct HostService {
  uint64_t id = 0;
  Gid address{};
  bool ipv6_only = false;

  // NOLINTNEXTLINE(modernize-use-nullptr): that 0 is the compiler's
  auto operator<=>(const HostService&) const = default;
};

// Bytes of payload that packets sent as one may have; less than an MTU: each
// goes by itself.
struct BurstBytes {
  size_t copied = 0;
  size_t lent = 0;  // Outgoing::loan
  // Short messages of other queue pairs go the same way, and would wait for all
  // that is in it.
  bool beside_short = false;
};

// Whole: its headers parse, and its ICRC was right where it had one.
struct Arrival {
  Path path;  // source is the sender
  const Packet& packet;
};

class ArrivalSink {
 public:
  virtual ~ArrivalSink() = default;
  // May call Send, which takes no packet to this sink before it returns.
  virtual void OnArrival(const Arrival& arrival) = 0;
  // A process of this host has ended; what it sent has arrived. It may be told
  // more than once, or, where no link to it was made, not at all.
  virtual void OnPeerGone(uint32_t /*slot*/) {}
  // It would rather do something else now than take more of what has come.
  virtual bool has_enough() const { return false; }
};

// One thread at a time.
class Network {
 public:
  virtual ~Network() = default;

  // This process's.
  virtual uint32_t slot() const = 0;
  // The host's addresses: packets to them do not leave it, and packets from the
  // wire do not come from them.
  virtual void SetLocalGids(const std::vector<Gid>& /*gids*/) {}

  // Packets that can be sent now on this path to this QP. Who found no room is
  // told when to look again: fd() becomes readable, the next deadline comes, or
  // Rest says false.
  virtual size_t Room(const Path& path, Qpn destination) = 0;
  virtual BurstBytes Bursts(const Path&, Qpn) { return {}; }
  // Takes a packet; there was room. Messages of the communication manager go to
  // QP1, to the process that they concern: that of the comm id that they are
  // for, or that which has claimed the service asked for. If nobody has, they
  // come back here, so that they can be refused. What is for a group goes to
  // each process of the host that is in it, as far as it has room, and to other
  // hosts; the group's address and kMulticastQpn go together, and what has one
  // without the other is dropped (IBA vol. 1, ch. 10, multicast). Where the
  // packet lasts, its payload may be looked at until Flush returns.
  virtual void Send(const Path& path, const Outgoing& outgoing) = 0;
  // Puts on its way what was sent so far.
  virtual void Flush() = 0;

  // Whether Receive is likely to find something: false, where that can be told
  // without a system call, and as a rule only. For those that look all the
  // time.
  virtual bool MayHaveArrivals() { return true; }
  // Hands out what has come, a bounded number of packets, or until the sink has
  // enough; returns how many.
  // Does what else is due by `now`.
  virtual size_t Receive(Instant now, ArrivalSink& sink) = 0;
  virtual std::optional<Instant> NextDeadline() const = 0;

  // What has come by now is to be handed out before timers that are due run
  // out: it may be what they wait for.
  virtual void Mark() {}
  // Whether it has been, since Mark. However much comes meanwhile, a bounded
  // number of Receives sees to it.
  virtual bool PassedMark() const { return true; }

  // From now on, until the next Receive, what comes makes fd() readable. False:
  // something is there already.
  [[nodiscard]] virtual bool Rest() = 0;
  virtual int fd() const = 0;

  // Requests to the host for this service come here. AlreadyExists: another
  // process has it at this address, or is about to. FailedPrecondition: the
  // same, where one of the two is at all addresses.
  virtual absl::Status ClaimService(const HostService& service) = 0;
  virtual void ReleaseService(const HostService& service) = 0;

  // From now on what is sent to this multicast group comes here: also what this
  // process sends, once. Join each once.
  virtual absl::Status JoinGroup(const Gid& group) = 0;
  virtual void LeaveGroup(const Gid& group) = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_NETWORK_H_
