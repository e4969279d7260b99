// The network as the processes of a host have it.
#ifndef ND_SOFT_NET_HOST_NETWORK_H_
#define ND_SOFT_NET_HOST_NETWORK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/random.h"
#include "soft/net/company.h"
#include "soft/net/counters.h"
#include "soft/net/event_set.h"
#include "soft/net/frame.h"
#include "soft/net/groups.h"
#include "soft/net/gsi_mail.h"
#include "soft/net/gsi_target.h"
#include "soft/net/inbound_links.h"
#include "soft/net/inet.h"
#include "soft/net/lent_packets.h"
#include "soft/net/loopback_queue.h"
#include "soft/net/network.h"
#include "soft/net/peers.h"
#include "soft/net/services.h"
#include "soft/net/unix_socket.h"
#include "soft/net/wire.h"
#include "soft/wire/icrc.h"

namespace nd::soft {

struct HostNetworkOptions {
  // Of the names by which processes find one another: those with the same
  // prefix are one host.
  std::string prefix = "nd-soft";
  uint16_t udp_port = kRoceUdpPort;
  // Where packets from other hosts arrive.
  std::vector<Gid> wire_addresses = AnyAddresses();
  size_t ring_bytes = size_t{1} << 20;   // of each direction; a power of two
  size_t max_links = 1024;               // rings made, and rings taken
  std::optional<uint32_t> first_slot{};  // to try; otherwise by chance
  // Whether to read what processes of this user lend from their memory, where
  // the system allows it; otherwise they copy it.
  bool fetches = true;
  Lends lends = Lends::kWhereFaster;
};

// Between processes packets go through rings in shared memory; to other hosts
// as UDP datagrams. Users of a host other than ours and root are heard only as
// what hands on packets from the wire.
//
// In a forked child only destruction makes sense; it does not disturb the
// parent. Until then the child keeps the parent's slot and links alive.
class HostNetwork final : public Network {
 public:
  // ResourceExhausted: all slots are taken.
  static absl::StatusOr<std::unique_ptr<HostNetwork>> Open(
      const HostNetworkOptions& options, Random& random);

  // Whether something here expects packets from other hosts.
  void set_wants_wire(bool wants) { wire_.set_wanted(wants, now_); }
  // Whether all that comes from other hosts comes here first.
  bool holds_wire() const { return wire_.held(); }
  const NetCounters& counters() const { return counters_; }

  uint32_t slot() const override { return slot_; }
  void SetLocalGids(const std::vector<Gid>& gids) override {
    local_gids_ = gids;
    wire_.SetLocal(gids);
  }
  size_t Room(const Path& path, Qpn destination) override;
  BurstBytes Bursts(const Path& path, Qpn destination) override;
  void Send(const Path& path, const Outgoing& outgoing) override;
  void Flush() override;
  bool MayHaveArrivals() override;
  size_t Receive(Instant now, ArrivalSink& sink) override;
  std::optional<Instant> NextDeadline() const override;
  void Mark() override;
  bool PassedMark() const override {
    return looks_owed_ == 0 && loopback_.PassedMark() &&
           inbound_.PassedMark() && lent_.PassedMark();
  }
  [[nodiscard]] bool Rest() override;
  int fd() const override { return events_.fd(); }
  absl::Status ClaimService(const HostService& service) override {
    return services_.Claim(service, local_gids_);
  }
  void ReleaseService(const HostService& service) override {
    services_.Release(service);
  }
  absl::Status JoinGroup(const Gid& group) override;
  void LeaveGroup(const Gid& group) override;

 private:
  struct ClaimedSlot {
    UnixSocket socket;
    uint32_t slot;
  };
  static absl::StatusOr<ClaimedSlot> ClaimSlot(
      const HostNetworkOptions& options, Random& random);

  HostNetwork(const HostNetworkOptions& options, ClaimedSlot claimed,
              EventSet events);

  bool IsLocal(const Gid& gid) const;

  // Sending.
  void SendLocally(Qpn destination, const FrameHeader& header,
                   const PacketSource& packet);
  // To all of this host that are in the group.
  void SendToGroup(const FrameHeader& header, const PacketSource& packet);
  // How many others there are.
  size_t SendToOthersInGroup(const FrameHeader& header,
                             const PacketSource& packet);
  void SendToGsi(const FrameHeader& header, const PacketSource& packet);
  [[nodiscard]] bool SendTo(const GsiTarget& target, const FrameHeader& header,
                            const PacketSource& packet);
  [[nodiscard]] bool SendToSlot(uint32_t slot, const FrameHeader& header,
                                const PacketSource& packet);
  [[nodiscard]] bool SendToService(uint64_t service_id,
                                   const FrameHeader& header,
                                   const PacketSource& packet);

  // Receiving.
  size_t ReceiveQuietly(ArrivalSink& sink);
  size_t ReceiveEvents(ArrivalSink& sink);
  size_t ReceiveMessages(const UnixSocket& socket, ArrivalSink& sink);
  void OnMessage(UnixMessage message, ArrivalSink& sink);
  void OnFrame(const PeerFrame& frame, ArrivalSink& sink);
  // The packet of a frame, if it is one for this process.
  bool TakePacket(const FrameHeader& header, std::span<const std::byte> bytes,
                  HeaderCopy& copy, Packet& packet);
  void OnLentFrame(const FrameHeader& header, const PeerFrame& frame,
                   std::span<const std::byte> bytes, ArrivalSink& sink);
  void OnWirePacket(const Path& path, std::span<const std::byte> packet,
                    ArrivalSink& sink);
  void HandOn(Qpn destination, const FrameHeader& header,
              const PacketSource& packet);
  bool MayCome(const FrameHeader& header, bool trusted);
  bool IsForUs(const Path& path, Qpn destination) const;

  const uint32_t slot_;
  const HostNames names_;
  NetCounters counters_;
  EventSet events_;
  UnixSocket slot_socket_;
  std::vector<Gid> local_gids_;
  mutable size_t last_local_ = 0;  // that was asked for: mostly it is again
  LoopbackQueue loopback_;
  Peers peers_;
  InboundLinks inbound_;
  LentPackets lent_;
  Company company_;
  ShortMessages short_messages_;
  Services services_;
  Groups groups_;
  GsiRouter gsi_router_;
  GsiMail mail_;
  Wire wire_;
  Instant now_{};  // of the last Receive
  // Since sockets were looked at: rounds that brought packets, and polls.
  uint32_t quiet_rounds_ = 0;
  uint32_t polls_ = 0;
  uint32_t vain_looks_ = 0;  // at sockets, since they brought something
  uint32_t looks_owed_ = 0;  // at sockets, since Mark, while they bring much
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_HOST_NETWORK_H_
