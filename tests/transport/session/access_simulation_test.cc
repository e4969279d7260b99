// One-sided access under seeded chance: what a write that
// succeeded wrote is what is read, a notification comes behind its bytes, an
// atomic is executed once, and a region that is taken back ends what is under
// way on it and nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "transport/session/seeds.h"
#include "transport/session/sim_world.h"

namespace nd::transport {
namespace {

constexpr size_t kCells = 6;
constexpr size_t kCell = 12000;  // bytes; each uses some of them
constexpr uint64_t kCounter = kCells * kCell;
constexpr uint64_t kSwapped = kCounter + 8;
constexpr size_t kRegion = kSwapped + 8;

struct AccessOptions {
  size_t rounds = 12;
  bool cancels = false;
};

// What one side does to a region of the other's. Each cell has one writer that
// waits for an operation's end before the next.
class Accesses {
 public:
  Accesses(SimWorld& world, size_t side, const AccessOptions& options)
      : world_(world), side_(side), options_(options), memory_(kRegion) {
    auto region = std::make_shared<PeerRegion>();
    region->id = 5 + side;
    region->address = reinterpret_cast<uintptr_t>(memory_.data());
    region->size = memory_.size();
    region->rkey = world.memory(1 - side).Publish(memory_);
    region->access = {.read = true, .write = true, .atomic = true};
    state_ = region;
    region_ = RemoteRegion(region);
    for (size_t i = 0; i < kCells; ++i) {
      Cell& cell = cells_.emplace_back();
      cell.owner = this;
      cell.index = i;
      cell.size = 8 + world.random().Below(i < 2 ? 100 : kCell - 8);
      cell.bytes.resize(cell.size);
      cell.back.resize(cell.size);
    }
  }

  void Start() {
    absl::StatusOr<Stream*> stream =
        core().OpenStream(MessageClass::kLatency, "notifications");
    if (stream.ok()) stream_ = *stream;
    for (Cell& cell : cells_) {
      world_.After(world_.Chance(std::chrono::microseconds(200)),
                   [this, &cell] { Write(cell); });
    }
    world_.After(Duration(0), [this] { Add(); });
    world_.After(Duration(0), [this] { Swap(); });
  }
  // The stream of notifications is accepted by the other side's application.
  void Watch(Stream& stream) {
    peers_stream_ = &stream;
    ReceiveNext();
  }
  // The region is taken back, with word of it or without.
  void Withdraw(bool told) {
    world_.memory(1 - side_).RemoveRegion(state_->rkey);
    if (told) state_->withdrawn = true;
    withdrawn_ = true;
  }

  bool done() const { return over_ == kCells + 2; }
  std::string Verdict() const {
    if (!fault_.empty()) return fault_;
    if (withdrawn_) return "";
    uint64_t count = 0;
    std::memcpy(&count, &memory_[kCounter], sizeof(count));
    if (count < added_ || count > added_ + unknown_) {
      return absl::StrCat(count, " additions where ", added_, " succeeded and ",
                          unknown_, " are not known");
    }
    return "";
  }
  size_t succeeded() const { return succeeded_; }

 private:
  struct Cell {
    Accesses* owner = nullptr;
    size_t index = 0;
    size_t size = 0;
    uint64_t sequence = 0;
    std::vector<std::byte> bytes, back;
    AccessOperation operation;
    bool reads = false;
    // Those with odd numbers are notified.
    bool notified() const { return index % 2 == 1; }
    uint64_t offset() const { return index * kCell; }
  };

  SessionCore& core() { return world_.core(side_); }
  void Fault(const std::string& what) {
    if (fault_.empty()) {
      fault_ = absl::StrCat("side ", side_, ": ", what);
      world_.Fault(fault_);
    }
  }
  static void Fill(std::vector<std::byte>& bytes, uint64_t sequence) {
    std::memset(bytes.data(), static_cast<int>(sequence & 0xff), bytes.size());
    std::memcpy(bytes.data(), &sequence, sizeof(sequence));
  }
  void SetDeadline(Operation& operation) {
    operation.set_deadline(
        options_.cancels && world_.random().OneIn(8)
            ? world_.now() + world_.Chance(std::chrono::microseconds(300))
            : Instant::max());
  }

  void Write(Cell& cell) {
    Fill(cell.bytes, ++cell.sequence);
    cell.reads = false;
    cell.operation.set_write(region_, cell.offset(), {.bytes = cell.bytes});
    cell.operation.set_immediate(
        static_cast<uint32_t>(cell.index << 16 | cell.sequence));
    cell.operation.OnDone(&OnCellDone, &cell);
    SetDeadline(cell.operation);
    if (cell.notified()) {
      stream_->WriteWithImmediate(cell.operation);
    } else {
      core().StartAccess(cell.operation);
    }
  }

  static void OnCellDone(Operation& operation, void* context) {
    Cell& cell = *static_cast<Cell*>(context);
    cell.owner->CellDone(cell, operation.status());
  }
  void CellDone(Cell& cell, const absl::Status& status) {
    if (!status.ok()) {
      // What is there now nobody knows.
      Judge(status);
      ++over_;
      return;
    }
    ++succeeded_;
    if (!cell.reads) {
      cell.reads = true;
      cell.operation.set_read(region_, cell.offset(), {cell.back});
      SetDeadline(cell.operation);
      core().StartAccess(cell.operation);
      return;
    }
    if (cell.back != cell.bytes) {
      Fault(absl::StrCat("cell ", cell.index, " is not what was written as ",
                         cell.sequence));
    }
    if (cell.sequence == options_.rounds) {
      ++over_;
      return;
    }
    world_.After(world_.Chance(std::chrono::microseconds(100)),
                 [this, &cell] { Write(cell); });
  }

  void Judge(const absl::Status& status) {
    const bool cancelled = options_.cancels && absl::IsDeadlineExceeded(status);
    const bool refused = withdrawn_ && (absl::IsPermissionDenied(status) ||
                                        absl::IsNotFound(status));
    if (!cancelled && !refused) Fault(status.ToString());
  }

  void Add() {
    if (adds_++ == options_.rounds) {
      ++over_;
      return;
    }
    add_.set_fetch_add(region_, kCounter, 1);
    add_.OnDone(
        [](Operation& operation, void* context) {
          auto& self = *static_cast<Accesses*>(context);
          const absl::Status& status = operation.status();
          if (status.ok()) {
            ++self.succeeded_;
            if (self.add_.value() < self.added_ ||
                self.add_.value() > self.added_ + self.unknown_) {
              self.Fault(absl::StrCat("addition to ", self.add_.value(),
                                      " behind ", self.added_));
            }
            ++self.added_;
          } else {
            ++self.unknown_;
            if (!absl::IsUnknown(status)) self.Judge(status);
          }
          self.Add();
        },
        this);
    SetDeadline(add_);
    core().StartAccess(add_);
  }

  // Only this changes it, so it is known but for what is UNKNOWN.
  void Swap() {
    if (swaps_++ == options_.rounds) {
      ++over_;
      return;
    }
    swap_.set_compare_swap(region_, kSwapped, swapped_, swapped_ + swaps_);
    swap_.OnDone(
        [](Operation& operation, void* context) {
          auto& self = *static_cast<Accesses*>(context);
          if (!operation.status().ok()) {
            if (!absl::IsUnknown(operation.status())) {
              self.Judge(operation.status());
            }
            ++self.over_;
            return;
          }
          ++self.succeeded_;
          if (self.swap_.value() != self.swapped_) {
            self.Fault(absl::StrCat("a swap of ", self.swap_.value(), " where ",
                                    self.swapped_, " was"));
          }
          self.swapped_ += self.swaps_;
          self.Swap();
        },
        this);
    core().StartAccess(swap_);
  }

  void ReceiveNext() {
    receive_.OnDone(
        [](Operation& operation, void* context) {
          if (!operation.status().ok()) return;
          static_cast<Accesses*>(context)->OnNotified();
        },
        this);
    peers_stream_->Receive(receive_);
  }
  void OnNotified() {
    const auto& notification = receive_.message().notification();
    if (!notification) {
      Fault("a message where notifications are due");
      return;
    }
    const size_t index = notification->immediate >> 16;
    const uint64_t announced = notification->immediate & 0xffff;
    if (notification->region != state_->id || index >= kCells ||
        notification->offset != index * kCell) {
      Fault("a notification of something else");
      return;
    }
    const std::byte* const there = &memory_[notification->offset];
    uint64_t sequence = 0;
    std::memcpy(&sequence, there, sizeof(sequence));
    const bool whole =
        std::all_of(there + sizeof(sequence), there + notification->size,
                    [&](std::byte each) {
                      return each == static_cast<std::byte>(announced & 0xff);
                    });
    if (!withdrawn_ && !options_.cancels &&
        (sequence < announced || (sequence == announced && !whole))) {
      Fault(absl::StrCat("notified of write ", announced, " of cell ", index,
                         " where ", sequence, " is"));
    }
    ReceiveNext();
  }

  SimWorld& world_;
  const size_t side_;
  const AccessOptions options_;
  std::vector<std::byte> memory_;  // the other side's
  std::shared_ptr<PeerRegion> state_;
  RemoteRegion region_;
  std::list<Cell> cells_;
  Stream* stream_ = nullptr;
  Stream* peers_stream_ = nullptr;
  ReceiveOperation receive_;
  AccessOperation add_, swap_;
  size_t adds_ = 0, swaps_ = 0;
  uint64_t added_ = 0, unknown_ = 0, swapped_ = 0;
  size_t over_ = 0;
  size_t succeeded_ = 0;
  bool withdrawn_ = false;
  std::string fault_;
};

// Accesses in both directions.
class World {
 public:
  World(const SimOptions& options, const AccessOptions& accesses, uint64_t seed)
      : links_(options.layout.links()),
        world_(options, seed),
        ours_(world_, 0, accesses),
        theirs_(world_, 1, accesses) {
    for (uint32_t i = 0; i < links_; ++i) world_.Connect(i);
    ours_.Start();
    theirs_.Start();
  }

  SimWorld& world() { return world_; }
  Accesses& ours() { return ours_; }
  void BreakSome(uint32_t count, Duration within) {
    for (uint32_t i = 0; i < count; ++i) {
      world_.After(world_.Chance(within), [this] {
        world_.Break(static_cast<uint32_t>(world_.random().Below(links_)));
      });
    }
  }
  std::string Run() {
    const bool done = world_.Run([this] {
      Accept(0, theirs_);
      Accept(1, ours_);
      return ours_.done() && theirs_.done();
    });
    if (!world_.fault().empty()) return world_.fault();
    if (!done) {
      return absl::StrCat(
          "it hangs\nclient: ", world_.core(0).Describe(world_.now()),
          "server: ", world_.core(1).Describe(world_.now()));
    }
    const std::string verdict = ours_.Verdict();
    return verdict.empty() ? theirs_.Verdict() : verdict;
  }

 private:
  void Accept(size_t side, Accesses& accesses) {
    if (Stream* const stream = world_.core(side).AcceptStream()) {
      accesses.Watch(*stream);
    }
  }

  const uint32_t links_;
  SimWorld world_;
  Accesses ours_, theirs_;
};

SimOptions AnyOptions(Random& random) {
  SimOptions options = RandomOptions(random);
  options.read_depth = 1 + static_cast<uint32_t>(random.Below(4));
  if (random.OneIn(2)) options.max_write = 4096;
  options.reconnect = std::chrono::seconds(10);
  return options;
}

TEST(AccessSimulation, WhatWasWrittenIsReadAndNotified) {
  ForEachSeed([](Random& random, uint64_t seed) {
    return World(AnyOptions(random), {}, seed).Run();
  });
}

TEST(AccessSimulation, LinksThatBreakLoseNothingAndAddNothingTwice) {
  ForEachSeed([](Random& random, uint64_t seed) {
    World world(AnyOptions(random), {.cancels = random.OneIn(3)}, seed);
    world.BreakSome(1 + static_cast<uint32_t>(random.Below(12)),
                    std::chrono::milliseconds(4));
    return world.Run();
  });
}

TEST(AccessSimulation, ARegionThatIsTakenBackEndsOnlyWhatIsOnIt) {
  size_t succeeded = 0;
  ForEachSeed([&](Random& random, uint64_t seed) {
    World world(AnyOptions(random), {}, seed);
    const bool told = random.OneIn(2);
    world.world().After(world.world().Chance(std::chrono::milliseconds(2)),
                        [&world, told] { world.ours().Withdraw(told); });
    std::string verdict = world.Run();
    succeeded += world.ours().succeeded();
    return verdict;
  });
  EXPECT_GT(succeeded, 0u);
}

}  // namespace
}  // namespace nd::transport
