#include "transport/session/sim_world.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "absl/strings/str_cat.h"

namespace nd::transport {

// --- memory ---

absl::StatusOr<Registered> SimMemory::Allocate(uint64_t size) {
  if (size > budget_) return absl::OutOfRangeError("never");
  if (used_ + size > budget_) return absl::ResourceExhaustedError("not now");
  used_ += size;
  auto owned = std::make_unique<std::byte[]>(size);
  std::byte* const data = owned.get();
  const uint32_t key = next_key_++;
  regions_[key] = {data, static_cast<size_t>(size), std::move(owned)};
  return Registered{.local = {data, static_cast<size_t>(size), key},
                    .rkey = key,
                    .handle = key};
}

void SimMemory::Free(const Registered& buffer) {
  used_ -= buffer.local.length;
  regions_.erase(static_cast<uint32_t>(buffer.handle));
}

absl::StatusOr<Registered> SimMemory::RegisterSource(
    std::span<const std::byte> bytes) {
  if (has_no_sources || (random_ != nullptr && !random_->OneIn(4))) {
    return absl::ResourceExhaustedError("refused");
  }
  return RegisterTarget({const_cast<std::byte*>(bytes.data()), bytes.size()});
}

absl::StatusOr<Registered> SimMemory::RegisterTarget(
    std::span<std::byte> bytes) {
  const uint32_t key = AddRegion(bytes);
  return Registered{
      .local = {bytes.data(), bytes.size(), key}, .rkey = key, .handle = key};
}

void SimMemory::Unregister(const Registered& memory) {
  regions_.erase(static_cast<uint32_t>(memory.handle));
}

absl::StatusOr<LocalPiece> SimMemory::AllocateStages() {
  if (has_no_sources) return absl::ResourceExhaustedError("refused");
  stages_.resize(kStages * kStageBytes);
  return LocalPiece{.data = stages_.data(), .length = stages_.size()};
}

bool SimMemory::Copy(uint32_t stage, std::span<const std::byte> from,
                     std::byte* to) {
  copies_[stage] = {from, to};
  if (random_ == nullptr || random_->OneIn(2)) return FinishCopy(stage);
  later_(stage);
  return false;
}

bool SimMemory::FinishCopy(uint32_t stage) {
  const PendingCopy copy = std::exchange(copies_[stage], {});
  if (copy.to == nullptr) return false;
  std::ranges::copy(copy.from, copy.to);
  return true;
}

bool SimMemory::CopiesFrom(std::span<const std::byte> bytes) const {
  return std::ranges::any_of(copies_, [bytes](const PendingCopy& each) {
    return each.to != nullptr && each.from.data() >= bytes.data() &&
           each.from.data() < bytes.data() + bytes.size();
  });
}

void SimMemory::AwaitCopies() {
  for (uint32_t stage = 0; stage < kStages; ++stage) FinishCopy(stage);
}

uint32_t SimMemory::AddRegion(std::span<std::byte> bytes) {
  const uint32_t key = next_key_++;
  regions_[key] = {bytes.data(), bytes.size(), nullptr};
  return key;
}

std::byte* SimMemory::At(const RemotePlace& place, size_t size) {
  const auto found = regions_.find(place.rkey);
  if (found == regions_.end()) return nullptr;
  const auto begin = reinterpret_cast<uint64_t>(found->second.data);
  if (place.address < begin ||
      place.address + size > begin + found->second.size) {
    return nullptr;
  }
  return reinterpret_cast<std::byte*>(place.address);
}

// --- connections ---

struct SimWorld::Pair {
  bool broken = false;
  std::array<std::unique_ptr<End>, 2> ends;
};

class SimWorld::End final : public Carrier {
 public:
  End(SimWorld& world, size_t side, uint32_t link, Pair& pair)
      : world_(world), side_(side), link_(link), pair_(&pair) {
    slots_.resize(world.options_.depth,
                  std::vector<std::byte>(world.options_.layout.slot_size));
  }

  uint32_t depth() const override { return world_.options_.depth; }
  uint32_t max_pieces() const override { return 2; }
  uint64_t max_write() const override { return world_.options_.max_write; }
  uint32_t read_depth() const override { return world_.options_.read_depth; }
  std::span<std::byte> SendSlot(uint64_t number) override {
    return slots_[number % slots_.size()];
  }
  void Send(uint64_t serial, std::span<std::byte> bytes,
            std::span<const LocalPiece> more, bool signal) override {
    std::vector<std::byte> packet(bytes.begin(), bytes.end());
    for (const LocalPiece& piece : more) {
      packet.insert(packet.end(), piece.data, piece.data + piece.length);
    }
    const uint64_t place = taken_++ % world_.options_.layout.slots;
    Post(serial, signal, [this, place, packet = std::move(packet)] {
      End& peer = Peer();
      if (world_.options_.layout.ring) return peer.TakeIntoRing(place, packet);
      ReceiveSlot* const into = peer.TakeReceive();
      if (into == nullptr) return;
      if (packet.size() > world_.options_.layout.slot_size) {
        return world_.Fault("a packet longer than a slot");
      }
      std::memcpy(into->memory.data, packet.data(), packet.size());
      peer.Report([&peer, size = packet.size()] {
        peer.Core().OnPacket(peer.link_, size, peer.world_.now_);
      });
    });
  }
  void Write(uint64_t serial, const LocalPiece& from, const RemotePlace& to,
             std::optional<uint32_t> immediate, bool signal) override {
    if (immediate) ++taken_;
    // The device reads the memory when it sends: late.
    Post(serial, signal, [this, serial, from, to, immediate] {
      End& peer = Peer();
      std::byte* const there = peer.Touch(serial, to, from.length, *this);
      if (there == nullptr) return;
      std::memcpy(there, from.data, from.length);
      if (!immediate) return;
      if (peer.TakeReceive() == nullptr) return;
      peer.Report([&peer, value = *immediate] {
        peer.Core().OnImmediate(peer.link_, value, peer.world_.now_);
      });
    });
  }
  void Read(uint64_t serial, const LocalPiece& into,
            const RemotePlace& from) override {
    StartRead();
    Post(serial, true, [this, serial, into, from] {
      const std::byte* const there =
          Peer().Touch(serial, from, into.length, *this);
      --reads_;
      if (there != nullptr) std::memcpy(into.data, there, into.length);
    });
  }
  void Atomic(uint64_t serial, const LocalPiece& into, const RemotePlace& at,
              const AtomicRequest& what) override {
    StartRead();
    Post(serial, true, [this, serial, into, at, what] {
      std::byte* const there =
          Peer().Touch(serial, at, sizeof(uint64_t), *this);
      --reads_;
      if (there == nullptr) return;
      uint64_t value = 0;
      std::memcpy(&value, there, sizeof(value));
      std::memcpy(into.data, &value, sizeof(value));
      if (!what.compare) {
        value += what.compare_add;
      } else if (value == what.compare_add) {
        value = what.swap;
      }
      std::memcpy(there, &value, sizeof(value));
    });
  }
  void PostReceive(ReceiveSlot& slot) override { receives_.push_back(&slot); }
  void Flush() override {}
  void Shut() override {
    shut_ = true;
    pair_->broken = true;
    Report([this] { Core().OnDrained(link_); });
  }

  void Lose(absl::Status why) {
    if (!shut_) Core().LoseLink(link_, std::move(why));
  }
  void Open() {
    if (!shut_) Core().OpenLink(link_, world_.now_);
  }

 private:
  SessionCore& Core() { return *world_.sides_[side_]->core; }
  End& Peer() { return *pair_->ends[1 - side_]; }

  ReceiveSlot* TakeReceive() {
    if (receives_.empty()) {
      world_.Fault("RNR: a packet without a receive");
      return nullptr;
    }
    ReceiveSlot* const slot = receives_.front();
    receives_.pop_front();
    return slot;
  }

  // Nothing keeps the peer from a place that is still read, but its credits.
  void TakeIntoRing(uint64_t place, const std::vector<std::byte>& packet) {
    const SessionLayout& layout = world_.options_.layout;
    if (TakeReceive() == nullptr) return;
    if (ring_.empty()) ring_.resize(size_t{layout.slots} * layout.slot_size);
    std::memcpy(&ring_[place * layout.slot_size], packet.data(), packet.size());
    Report([this, place, size = packet.size()] {
      Core().OnRing(link_, static_cast<uint32_t>(place << 16 | kRingSlot), size,
                    ring_, world_.now_);
    });
  }

  // Memory of this end that the other's request `serial` touches. Null: it may
  // not, and the connection breaks.
  std::byte* Touch(uint64_t serial, const RemotePlace& place, size_t size,
                   End& by) {
    SimMemory& memory = world_.sides_[side_]->memory;
    std::byte* const found = memory.At(place, size);
    if (found != nullptr) return found;
    if (!memory.WasPublished(place.rkey)) {
      world_.Fault("a request for memory that is not the session's");
    }
    pair_->broken = true;
    const absl::Status why = absl::InternalError("remote access error");
    by.Report([&by, serial, why] {
      if (!by.shut_) by.Core().OnRefused(by.link_, serial, why);
      by.Lose(why);
    });
    Report([this, why] { Lose(why); });
    return nullptr;
  }
  void StartRead() {
    if (++reads_ > world_.options_.read_depth) {
      world_.Fault("more READs than the connection takes");
    }
  }

  void Post(uint64_t serial, bool signal, std::function<void()> execute) {
    if (serial != next_serial_++) world_.Fault("serials have a gap");
    if (++outstanding_ > world_.options_.depth) {
      world_.Fault("the send queue overflows");
    }
    executes_at_ = std::max(executes_at_, world_.now_) +
                   world_.Chance(world_.options_.max_delay);
    world_.At(executes_at_,
              [this, serial, signal, execute = std::move(execute)] {
                if (pair_->broken) return;
                execute();
                if (pair_->broken) return;
                ++executed_;
                acks_at_ = std::max(acks_at_, world_.now_) +
                           world_.Chance(world_.options_.max_delay);
                if (!signal) return;
                world_.At(acks_at_, [this, serial] {
                  if (pair_->broken) return;
                  Report([this, serial] {
                    outstanding_ = next_serial_ - serial - 1;
                    Core().OnCompleted(link_, serial, world_.now_);
                  });
                });
              });
  }

  // To the session, in order, when it looks.
  void Report(std::function<void()> what) {
    reports_at_ = std::max(reports_at_, world_.now_) +
                  world_.Chance(world_.options_.max_delay / 4);
    world_.At(reports_at_, std::move(what));
  }

  SimWorld& world_;
  const size_t side_;
  const uint32_t link_;
  Pair* const pair_;
  std::vector<std::vector<std::byte>> slots_;
  std::deque<ReceiveSlot*> receives_;
  bool shut_ = false;
  uint64_t next_serial_ = 0;
  uint64_t outstanding_ = 0;
  uint64_t executed_ = 0;
  std::vector<std::byte> ring_;
  uint64_t taken_ = 0;  // receives of the peer's
  uint32_t reads_ = 0;
  Instant executes_at_{}, acks_at_{}, reports_at_{};
};

SimWorld::Side::Side(SimWorld& owner, const SimOptions& options, bool client)
    : world(owner), index(client ? 0 : 1), memory(options.budget) {
  const uint32_t count =
      options.layout.links() * options.layout.slots + options.spare_slots;
  slot_bytes.resize(size_t{count} * options.layout.slot_size);
  slots.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    slots[i].memory = {
        .data = &slot_bytes[size_t{i} * options.layout.slot_size],
        .length = options.layout.slot_size};
  }
  core = std::make_unique<SessionCore>(
      SessionCore::Options{.layout = options.layout,
                           .client = client,
                           .receive_slots = slots,
                           .ahead_bytes = options.budget / 2,
                           .reconnect = options.reconnect},
      memory, *this);
  if (!options.refuse_sources) return;
  memory.RefuseSources(world.random_, [this](uint32_t stage) {
    world.After(world.Chance(std::chrono::microseconds(50)), [this, stage] {
      if (memory.FinishCopy(stage)) core->OnCopied(stage);
    });
  });
}

void SimWorld::Side::OnLinkFree(uint32_t link) {
  world.free_[link][index] = true;
  if (!world.free_[link][1 - index] || world.options_.reconnect.count() == 0) {
    return;
  }
  // Both ends can be made anew.
  world.After(world.Chance(std::chrono::milliseconds(1)),
              [&owner = world, link] { owner.Connect(link); });
}

SimWorld::SimWorld(const SimOptions& options, uint64_t seed)
    : options_(options),
      random_(seed),
      pairs_(options.layout.links()),
      incarnations_(options.layout.links()),
      free_(options.layout.links()) {
  sides_[0] = std::make_unique<Side>(*this, options, true);
  sides_[1] = std::make_unique<Side>(*this, options, false);
}

SimWorld::~SimWorld() {
  events_.clear();
  for (auto& side : sides_) side->core.reset();
}

void SimWorld::At(Instant when, std::function<void()> what) {
  events_.emplace(when, std::move(what));
}

Duration SimWorld::Chance(Duration most) {
  return Duration(static_cast<Duration::rep>(
      random_.Below(static_cast<uint64_t>(most.count()) + 1)));
}

void SimWorld::Connect(uint32_t link) {
  if (ended(0) || ended(1)) return;
  if (pairs_[link] != nullptr) old_.push_back(pairs_[link]);
  auto pair = std::make_shared<Pair>();
  pairs_[link] = pair;
  const uint32_t incarnation = incarnations_[link]++;
  free_[link] = {};
  for (size_t side = 0; side < 2; ++side) {
    pair->ends[side] = std::make_unique<End>(*this, side, link, *pair);
    core(side).AddLink(link, incarnation, *pair->ends[side]);
  }
  for (size_t side = 0; side < 2; ++side) {
    After(Chance(options_.max_delay),
          [end = pair->ends[side].get()] { end->Open(); });
  }
}

void SimWorld::Break(uint32_t link) {
  const std::shared_ptr<Pair> pair = pairs_[link];
  if (pair == nullptr) return;
  pair->broken = true;
  for (const auto& end : pair->ends) {
    After(Chance(std::chrono::milliseconds(1)), [&end] {
      end->Lose(absl::UnavailableError("the connection broke"));
    });
  }
}

void SimWorld::Pump() {
  for (const auto& side : sides_) {
    if (random_.OneIn(2)) side->core->SendFirst();
    side->core->Pump(now_);
  }
}

bool SimWorld::Run(const std::function<bool()>& done, Duration limit) {
  const Instant end = now_ + limit;
  Pump();
  while (!done() && fault_.empty()) {
    const Instant next_timer = std::min(sides_[0]->core->NextDeadline(),
                                        sides_[1]->core->NextDeadline());
    const Instant next_event =
        events_.empty() ? Instant::max() : events_.begin()->first;
    const Instant next = std::min(next_timer, next_event);
    if (next > end) return false;
    now_ = std::max(now_, next);
    if (next_event <= next_timer) {
      const auto what = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      what();
    }
    Pump();
  }
  return fault_.empty();
}

}  // namespace nd::transport
