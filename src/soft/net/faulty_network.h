// A network on which packets get lost, come twice, late, in another order or
// damaged: as often as a FaultSpec says.
#ifndef ND_SOFT_NET_FAULTY_NETWORK_H_
#define ND_SOFT_NET_FAULTY_NETWORK_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "soft/net/fault_spec.h"
#include "soft/net/network.h"

namespace nd::soft {

struct FaultCounters {
  uint64_t dropped = 0;
  uint64_t duplicated = 0;
  uint64_t delayed = 0;
  uint64_t reordered = 0;
  uint64_t corrupted = 0;      // and dropped: its ICRC would be wrong
  uint64_t port_down = 0;      // lost, either way
  uint64_t held_too_many = 0;  // lost: others were late already
};

// Faults befall what arrives, from wherever; so they need no room to send. A
// packet meets one fault at most, each of those that come together its own: the
// others arrive. While the port is down nothing leaves either.
class FaultyNetwork final : public Network {
 public:
  // Packets that are held back at a time.
  static constexpr size_t kMaxHeld = 4096;
  // How long one that is overtaken waits for what overtakes it.
  static constexpr Duration kMaxOvertaking = std::chrono::milliseconds(1);

  // The device was opened at `start`.
  FaultyNetwork(const FaultSpec& spec, std::unique_ptr<Network> network,
                uint64_t seed, Instant start)
      : spec_(spec),
        network_(std::move(network)),
        random_(seed),
        start_(start),
        now_(start) {}

  const FaultCounters& counters() const { return counters_; }

  uint32_t slot() const override { return network_->slot(); }
  void SetLocalGids(const std::vector<Gid>& gids) override {
    network_->SetLocalGids(gids);
  }
  size_t Room(const Path& path, Qpn destination) override {
    return network_->Room(path, destination);
  }
  BurstBytes Bursts(const Path& path, Qpn destination) override {
    return network_->Bursts(path, destination);
  }
  void Send(const Path& path, const Outgoing& outgoing) override;
  void Flush() override { network_->Flush(); }
  bool MayHaveArrivals() override { return network_->MayHaveArrivals(); }
  size_t Receive(Instant now, ArrivalSink& sink) override;
  std::optional<Instant> NextDeadline() const override;
  void Mark() override { network_->Mark(); }
  bool PassedMark() const override { return network_->PassedMark(); }
  [[nodiscard]] bool Rest() override { return network_->Rest(); }
  int fd() const override { return network_->fd(); }
  absl::Status ClaimService(const HostService& service) override {
    return network_->ClaimService(service);
  }
  void ReleaseService(const HostService& service) override {
    network_->ReleaseService(service);
  }
  absl::Status JoinGroup(const Gid& group) override {
    return network_->JoinGroup(group);
  }
  void LeaveGroup(const Gid& group) override { network_->LeaveGroup(group); }

 private:
  // A packet and the bytes of its payload.
  struct Held {
    Path path;
    Packet packet;
    std::vector<std::byte> payload;
  };
  enum class Fate : uint8_t {
    kArrive,
    kDrop,
    kCorrupt,
    kDuplicate,
    kDelay,
    kReorder,
  };
  class Sink;

  Fate Draw();
  void OnArrival(const Arrival& arrival, ArrivalSink& sink);
  void OnBurst(const Arrival& burst, ArrivalSink& sink);
  // What is far is fetched before a fault meets it.
  void OnFarBurst(const Arrival& burst, ArrivalSink& sink);
  void Meet(Fate fate, const Arrival& arrival, ArrivalSink& sink);
  void Hold(const Arrival& arrival, Instant until);
  static Held Keep(const Arrival& arrival);
  // Gives the sink the packet, and behind it the one that it overtook.
  void Deliver(const Arrival& arrival, ArrivalSink& sink);
  size_t DeliverLate(ArrivalSink& sink);
  size_t DeliverOvertaken(ArrivalSink& sink);

  const FaultSpec spec_;
  const std::unique_ptr<Network> network_;
  SeededRandom random_;
  std::vector<std::byte> fetched_;  // the payload of a burst that was far
  const Instant start_;
  Instant now_;  // of the last Receive
  FaultCounters counters_;
  std::multimap<Instant, Held> late_;
  std::optional<Held> overtaken_;
  Instant overtaken_until_{};
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_FAULTY_NETWORK_H_
