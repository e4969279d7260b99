// A device of the simulation: memory, receives and queue pairs, and the bytes
// of what they send.
#ifndef ND_TESTS_SOFT_SIM_DEVICE_H_
#define ND_TESTS_SOFT_SIM_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "soft/rc/memory.h"
#include "soft/rc/outbox.h"
#include "soft/rc/qp.h"
#include "soft/sim/network.h"
#include "soft/wire/icrc.h"

namespace nd::soft {

// What went wrong in a run.
using Findings = std::vector<std::string>;

class SimMemory final : public RemoteMemory {
 public:
  std::optional<std::span<std::byte>> Find(const MemoryClaim& claim) override;
  bool Invalidate(Rkey rkey) override { return windows_.erase(rkey) == 1; }

  void Add(Rkey rkey, uint64_t address, std::span<std::byte> bytes) {
    regions_.push_back({rkey, address, bytes});
  }
  void AddWindow(Rkey rkey) { windows_.insert(rkey); }
  size_t windows() const { return windows_.size(); }

 private:
  struct Region {
    Rkey rkey;
    uint64_t address;
    std::span<std::byte> bytes;
  };
  std::vector<Region> regions_;
  std::set<Rkey> windows_;
};

struct SimReceive {
  std::vector<std::byte> bytes;
  std::vector<Segment> segments;
};

// The receives of a queue pair, or a SRQ.
class SimReceives final : public ReceiveQueue {
 public:
  explicit SimReceives(bool shared) : shared_(shared) {}

  std::optional<ReceiveWork> Take() override;
  bool shared() const override { return shared_; }

  // wr_ids count from 0.
  void Post(size_t bytes, Random& random);
  SimReceive& operator[](uint64_t wr_id) { return receives_[wr_id]; }
  size_t posted() const { return receives_.size(); }

 private:
  const bool shared_;
  std::deque<SimReceive> receives_;
  uint64_t next_ = 0;
};

// The pieces of `bytes` in up to four segments, some of them empty.
std::vector<Segment> Cut(std::span<std::byte> bytes, Random& random);

NetHeaders HeadersBetween(size_t source, size_t destination);

// Payload that has to be fetched, and is still lent or not.
class SimFar final : public FarPayload {
 public:
  SimFar(std::span<const std::byte> bytes, bool lent)
      : FarPayload(bytes.size()), bytes_(bytes), lent_(lent) {}

  [[nodiscard]] bool CopyTo(
      std::span<const std::span<std::byte>> pieces) const override;

 private:
  const std::span<const std::byte> bytes_;
  const bool lent_;
};

// Seals what it is given and hands it to the network. What goes as one may be
// taken apart on its way, as faults do, so that any packet of it may be lost.
class SimOutbox final : public Outbox {
 public:
  SimOutbox(SimNetwork& network, Random& random)
      : network_(network), random_(random) {}

  // For one call of Transmit, by the queue pair of `source`.
  void Open(Instant now, size_t source, size_t destination);
  bool used_up() const { return room_ == 0; }

  size_t room() const override { return room_; }
  size_t burst_bytes() const override { return burst_bytes_; }
  size_t lent_burst_bytes() const override { return lent_burst_bytes_; }
  void Send(const Outgoing& outgoing) override;

 private:
  void Seal(const Packet& packet);

  SimNetwork& network_;
  Random& random_;
  Instant now_{};
  size_t source_ = 0;
  size_t destination_ = 0;
  size_t room_ = 0;
  size_t burst_bytes_ = 0;
  size_t lent_burst_bytes_ = 0;
};

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_SIM_DEVICE_H_
