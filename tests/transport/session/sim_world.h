// Two sessions over simulated reliable connections: requests execute in order,
// late by chance; a connection can break at any moment, with any part of what
// was posted executed and any part of that acknowledged.
#ifndef ND_TESTS_TRANSPORT_SESSION_SIM_WORLD_H_
#define ND_TESTS_TRANSPORT_SESSION_SIM_WORLD_H_

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "transport/session/session_core.h"

namespace nd::transport {

// Registered memory of one side. A WRITE to what was let go is an error.
class SimMemory final : public SessionMemory {
 public:
  explicit SimMemory(uint64_t budget) : budget_(budget) {}

  absl::StatusOr<Registered> Allocate(uint64_t size) override;
  void Free(const Registered& buffer) override;
  absl::StatusOr<Registered> RegisterSource(
      std::span<const std::byte> bytes) override;
  absl::StatusOr<Registered> RegisterTarget(
      std::span<std::byte> bytes) override;
  absl::StatusOr<Registered> RegisterSink(std::span<std::byte> bytes) override {
    return RegisterTarget(bytes);
  }
  void Unregister(const Registered& memory) override;
  absl::StatusOr<LocalPiece> AllocateStages() override;
  bool Copy(uint32_t stage, std::span<const std::byte> from,
            std::byte* to) override;
  void AwaitCopies() override;

  // From now on sources cannot be registered, but for some; and of copies some
  // are left for later: `later` is told the stage, FinishCopy does it then.
  void RefuseSources(Random& random, std::function<void(uint32_t)> later) {
    random_ = &random;
    later_ = std::move(later);
  }
  // Neither sources nor stages are to be had.
  bool has_no_sources = false;
  // False: it was awaited.
  bool FinishCopy(uint32_t stage);
  // Whether a copy of these bytes is still to be done.
  bool CopiesFrom(std::span<const std::byte> bytes) const;

  // What a request of the peer's may touch; null where it may not.
  std::byte* At(const RemotePlace& place, size_t size);
  // So is what an application has registered itself.
  uint32_t AddRegion(std::span<std::byte> bytes);
  void RemoveRegion(uint32_t rkey) { regions_.erase(rkey); }
  // As AddRegion, for the peer: who touches it when it is no more is refused,
  // and that is no fault.
  uint32_t Publish(std::span<std::byte> bytes) {
    const uint32_t key = AddRegion(bytes);
    published_.insert(key);
    return key;
  }
  bool WasPublished(uint32_t rkey) const { return published_.contains(rkey); }
  size_t regions() const { return regions_.size(); }

 private:
  struct Region {
    std::byte* data;
    size_t size;
    std::unique_ptr<std::byte[]> owned;
  };

  const uint64_t budget_;
  uint64_t used_ = 0;
  uint32_t next_key_ = 100;
  std::map<uint32_t, Region> regions_;
  std::set<uint32_t> published_;

  struct PendingCopy {
    std::span<const std::byte> from;
    std::byte* to = nullptr;
  };
  Random* random_ = nullptr;  // where sources are refused
  std::function<void(uint32_t)> later_;
  std::array<PendingCopy, kStages> copies_;
  std::vector<std::byte> stages_;
};

struct SimOptions {
  SessionLayout layout;
  uint32_t spare_slots = 8;
  uint64_t budget = 1 << 20;
  Duration reconnect{};
  Duration max_delay = std::chrono::microseconds(20);
  uint32_t depth = 16;
  uint32_t read_depth = 4;
  uint64_t max_write = 1 << 30;
  bool refuse_sources = false;
};

class SimWorld {
 public:
  SimWorld(const SimOptions& options, uint64_t seed);
  ~SimWorld();

  SessionCore& core(size_t side) { return *sides_[side]->core; }
  SimMemory& memory(size_t side) { return sides_[side]->memory; }
  Random& random() { return random_; }
  Instant now() const { return now_; }

  // Calls `what` then. Both sessions are pumped after it.
  void At(Instant when, std::function<void()> what);
  void After(Duration delay, std::function<void()> what) {
    At(now_ + delay, std::move(what));
  }
  Duration Chance(Duration most);

  void Connect(uint32_t link);
  // Both ends learn of it some time.
  void Break(uint32_t link);

  // Runs until nothing happens any more, or `done`. False where neither comes
  // in `limit` of simulated time.
  bool Run(const std::function<bool()>& done,
           Duration limit = std::chrono::seconds(60));

  const std::optional<absl::Status>& ended(size_t side) const {
    return sides_[side]->ended;
  }
  // What must never happen, in words; empty while it has not.
  const std::string& fault() const { return fault_; }
  void Fault(std::string what) {
    if (fault_.empty()) fault_ = std::move(what);
  }

 private:
  class End;
  struct Pair;
  struct Side final : SessionEvents {
    Side(SimWorld& owner, const SimOptions& options, bool client);
    void OnLinkFree(uint32_t link) override;
    void OnEnded(const absl::Status& why) override { ended = why; }
    Instant Now() override { return world.now(); }

    SimWorld& world;
    const size_t index;
    SimMemory memory;
    std::vector<std::byte> slot_bytes;
    std::vector<ReceiveSlot> slots;
    std::unique_ptr<SessionCore> core;
    std::optional<absl::Status> ended;
  };

  void Pump();

  const SimOptions options_;
  SeededRandom random_;
  Instant now_{};
  std::multimap<Instant, std::function<void()>> events_;
  std::array<std::unique_ptr<Side>, 2> sides_;
  std::vector<std::shared_ptr<Pair>> pairs_;  // by link
  std::vector<std::shared_ptr<Pair>> old_;
  std::vector<uint32_t> incarnations_;
  std::vector<std::array<bool, 2>> free_;
  std::string fault_;
};

}  // namespace nd::transport

#endif  // ND_TESTS_TRANSPORT_SESSION_SIM_WORLD_H_
