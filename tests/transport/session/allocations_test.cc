// Messages take nothing from the heap once a session is warm: two sessions over
// connections and memory that take nothing either.
#include "base/allocations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transport/session/session_core.h"

namespace nd::transport {
namespace {

// As many buffers of one size as ever are out; registering is free.
class FixedMemory final : public SessionMemory {
 public:
  static constexpr size_t kSize = 64 << 10;

  explicit FixedMemory(size_t count) : bytes_(count * kSize) {
    for (size_t i = 0; i < count; ++i) free_.push_back(&bytes_[i * kSize]);
  }
  absl::StatusOr<Registered> Allocate(uint64_t size) override {
    if (size > kSize || free_.empty()) return none_;
    std::byte* const data = free_.back();
    free_.pop_back();
    return Registered{.local = {.data = data, .length = size}};
  }
  void Free(const Registered& buffer) override {
    free_.push_back(buffer.local.data);
  }
  absl::StatusOr<Registered> RegisterSource(
      std::span<const std::byte> bytes) override {
    return RegisterTarget({const_cast<std::byte*>(bytes.data()), bytes.size()});
  }
  absl::StatusOr<Registered> RegisterTarget(
      std::span<std::byte> bytes) override {
    return Registered{.local = {.data = bytes.data(), .length = bytes.size()}};
  }
  absl::StatusOr<Registered> RegisterSink(std::span<std::byte> bytes) override {
    return RegisterTarget(bytes);
  }
  void Unregister(const Registered&) override {}
  absl::StatusOr<LocalPiece> AllocateStages() override { return none_; }
  bool Copy(uint32_t, std::span<const std::byte>, std::byte*) override {
    return true;
  }
  void AwaitCopies() override {}

 private:
  std::vector<std::byte> bytes_;
  std::vector<std::byte*> free_;
  const absl::Status none_ = absl::ResourceExhaustedError("not now");
};

// What is posted is executed when the test says so.
class Wire final : public Carrier {
 public:
  Wire(SessionCore& core, uint32_t link, uint32_t slot_size)
      : core_(core), link_(link), slot_size_(slot_size) {
    slots_.resize(size_t{kDepth} * slot_size);
  }
  void set_peer(Wire& peer) { peer_ = &peer; }

  uint32_t depth() const override { return kDepth; }
  uint32_t max_pieces() const override { return 2; }
  uint64_t max_write() const override { return 1 << 30; }
  uint32_t read_depth() const override { return 4; }
  std::span<std::byte> SendSlot(uint64_t number) override {
    return std::span(slots_).subspan(number % kDepth * slot_size_, slot_size_);
  }
  void Send(uint64_t serial, std::span<std::byte> bytes,
            std::span<const LocalPiece> more, bool) override {
    posted_.Push({.serial = serial,
                  .head = bytes,
                  .tail = more.empty() ? LocalPiece{} : more[0]});
  }
  void Write(uint64_t serial, const LocalPiece& from, const RemotePlace& to,
             std::optional<uint32_t> immediate, bool) override {
    posted_.Push({.serial = serial,
                  .kind = Request::Kind::kWrite,
                  .tail = from,
                  .to = to,
                  .immediate = immediate});
  }
  void Read(uint64_t serial, const LocalPiece& into,
            const RemotePlace& from) override {
    posted_.Push({.serial = serial,
                  .kind = Request::Kind::kRead,
                  .tail = into,
                  .to = from});
  }
  void Atomic(uint64_t serial, const LocalPiece& into, const RemotePlace& at,
              const AtomicRequest&) override {
    Read(serial, into, at);
  }
  void PostReceive(ReceiveSlot& slot) override { receives_.Push(&slot); }
  void Flush() override {}
  void Shut() override {}

  bool Execute(Instant now) {
    if (posted_.empty()) return false;
    while (!posted_.empty()) {
      const Request request = posted_.front();
      posted_.PopFront();
      if (request.kind == Request::Kind::kRead) {
        std::memcpy(request.tail.data,
                    reinterpret_cast<const std::byte*>(request.to.address),
                    request.tail.length);
      } else if (request.kind == Request::Kind::kWrite) {
        std::memcpy(reinterpret_cast<std::byte*>(request.to.address),
                    request.tail.data, request.tail.length);
        if (request.immediate) {
          peer_->receives_.PopFront();
          peer_->core_.OnImmediate(link_, *request.immediate, now);
        }
      } else {
        ReceiveSlot& into = *peer_->receives_.front();
        peer_->receives_.PopFront();
        std::byte* const end =
            std::ranges::copy(request.head, into.memory.data).out;
        std::copy_n(request.tail.data, request.tail.length, end);
        peer_->core_.OnPacket(link_, request.head.size() + request.tail.length,
                              now);
      }
      core_.OnCompleted(link_, request.serial, now);
    }
    return true;
  }

 private:
  static constexpr uint32_t kDepth = 32;
  struct Request {
    enum class Kind : uint8_t { kSend, kWrite, kRead };
    uint64_t serial = 0;
    Kind kind = Kind::kSend;
    std::span<const std::byte> head{};
    LocalPiece tail{};
    RemotePlace to{};
    std::optional<uint32_t> immediate{};
  };

  SessionCore& core_;
  const uint32_t link_;
  const size_t slot_size_;
  Wire* peer_ = nullptr;
  std::vector<std::byte> slots_;
  Fifo<Request> posted_;
  Fifo<ReceiveSlot*> receives_;
};

class Pair {
 public:
  explicit Pair(const SessionLayout& layout) : layout_(layout) {
    for (size_t i = 0; i < 2; ++i) {
      sides_[i] = std::make_unique<Side>(layout, i == 0);
    }
    for (uint32_t link = 0; link < layout.links(); ++link) {
      for (const auto& side : sides_) {
        side->wires.push_back(
            std::make_unique<Wire>(side->core, link, layout.slot_size));
      }
      sides_[0]->wires[link]->set_peer(*sides_[1]->wires[link]);
      sides_[1]->wires[link]->set_peer(*sides_[0]->wires[link]);
      for (const auto& side : sides_) {
        side->core.AddLink(link, 0, *side->wires[link]);
      }
      for (const auto& side : sides_) side->core.OpenLink(link, now_);
    }
  }
  ~Pair() {
    for (const auto& side : sides_) {
      side->core.Fail(absl::CancelledError("the end"));
      for (uint32_t i = 0; i < layout_.links(); ++i) side->core.OnDrained(i);
      side->core.Pump(now_);
    }
  }

  SessionCore& core(size_t side) { return sides_[side]->core; }
  // Until nothing happens any more.
  void Run() {
    bool any = true;
    while (any) {
      any = false;
      now_ += std::chrono::microseconds(1);
      for (const auto& side : sides_) side->core.Pump(now_);
      for (const auto& side : sides_) {
        for (const auto& wire : side->wires) any |= wire->Execute(now_);
      }
    }
  }

 private:
  struct Side final : SessionEvents {
    Side(const SessionLayout& layout, bool client)
        : slot_bytes((size_t{layout.links()} * layout.slots + kSpare) *
                     layout.slot_size),
          slots(size_t{layout.links()} * layout.slots + kSpare),
          core(Options(layout, client), memory, *this) {}
    SessionCore::Options Options(const SessionLayout& layout, bool client) {
      for (size_t i = 0; i < slots.size(); ++i) {
        slots[i].memory = {.data = &slot_bytes[i * layout.slot_size],
                           .length = layout.slot_size};
      }
      return {.layout = layout,
              .client = client,
              .receive_slots = slots,
              .ahead_bytes = 3 * FixedMemory::kSize / 2};
    }
    static constexpr size_t kSpare = 4;
    FixedMemory memory{3};
    std::vector<std::byte> slot_bytes;
    std::vector<ReceiveSlot> slots;
    SessionCore core;
    std::vector<std::unique_ptr<Wire>> wires;
  };

  const SessionLayout layout_;
  std::array<std::unique_ptr<Side>, 2> sides_;
  Instant now_{};
};

// How the messages of a test are sent and taken.
struct Kind {
  const char* name;
  size_t size;
  bool registered = false;
  size_t pieces = 1;
  bool into = false;
  bool held = false;  // loans, till all have come
  bool digest = false;
  MessageClass message_class = MessageClass::kLatency;
};

class NoAllocation : public testing::TestWithParam<Kind> {};

INSTANTIATE_TEST_SUITE_P(
    , NoAllocation,
    testing::Values(
        Kind{.name = "EagerOnLoan", .size = 64},
        Kind{.name = "EagerInto", .size = 64, .into = true},
        Kind{.name = "EagerRegistered", .size = 1800, .registered = true},
        Kind{.name = "EagerInPieces", .size = 900, .pieces = 3},
        Kind{.name = "EagerWithDigest", .size = 500, .digest = true},
        Kind{.name = "EagerCopiedAside", .size = 500, .held = true},
        Kind{.name = "LongOnLoan", .size = 60'000},
        Kind{.name = "LongOnLoanHeld", .size = 60'000, .held = true},
        Kind{.name = "LongInto", .size = 60'000, .into = true},
        Kind{.name = "LongRegistered",
             .size = 60'000,
             .registered = true,
             .into = true,
             .message_class = MessageClass::kBulk},
        Kind{.name = "LongInPieces",
             .size = 60'000,
             .pieces = 4,
             .into = true,
             .digest = true}),
    [](const auto& tested) { return tested.param.name; });

TEST_P(NoAllocation, OfAWarmSession) {
  constexpr size_t kMessages = 10;  // at a time
  const Kind& kind = GetParam();
  SessionLayout layout;
  layout.slots = 8;
  layout.slot_size = 2048;
  layout.eager_limit = 2000;
  layout.stream_window = 32 << 10;
  layout.digest = kind.digest;
  Pair pair(layout);
  Stream* const from = *pair.core(0).OpenStream(kind.message_class, "s");
  pair.Run();
  Stream* const to = pair.core(1).AcceptStream();
  ASSERT_NE(to, nullptr);

  std::vector<std::byte> bytes(kind.size), memory(kind.size);
  std::vector<SendPiece> pieces;
  for (size_t i = 0; i < kind.pieces; ++i) {
    const size_t each = kind.size / kind.pieces;
    pieces.push_back({.bytes = std::span(bytes).subspan(i * each, each),
                      .registered = kind.registered});
  }
  struct State {
    size_t taken = 0;
    bool held = false;
  } state{.held = kind.held};
  std::array<SendOperation, kMessages> sends;
  std::array<ReceiveOperation, kMessages> receives;
  for (size_t i = 0; i < kMessages; ++i) {
    sends[i].set_pieces(pieces);
    if (kind.into) {
      receives[i].set_into({.bytes = memory, .registered = kind.registered});
    }
    receives[i].OnDone(
        [](Operation& operation, void* context) {
          auto& its = *static_cast<State*>(context);
          if (!operation.status().ok()) return;
          ++its.taken;
          if (its.held) return;
          static_cast<ReceiveOperation&>(operation).message().Drop();
        },
        &state);
  }
  const auto round = [&] {
    for (SendOperation& each : sends) from->Send(each);
    pair.Run();
    for (ReceiveOperation& each : receives) to->Receive(each);
    pair.Run();
    for (ReceiveOperation& each : receives) {
      each.message().Drop();
      pair.Run();
    }
  };
  for (int i = 0; i < 30; ++i) round();
  ASSERT_EQ(state.taken, 30 * kMessages);
  const uint64_t before = AllocationsOfThisThread();
  for (int i = 0; i < 100; ++i) round();
  EXPECT_EQ(AllocationsOfThisThread() - before, 0u);
  EXPECT_EQ(state.taken, 130 * kMessages);
  from->Close();
  to->Close();
}

TEST(NoAllocationOfAccesses, ToRegions) {
  Pair pair(SessionLayout{});
  Stream* const from =
      *pair.core(0).OpenStream(MessageClass::kLatency, "notified");
  pair.Run();
  Stream* const to = pair.core(1).AcceptStream();
  std::vector<std::byte> memory(100'000), bytes(50'000);
  auto state = std::make_shared<PeerRegion>();
  state->address = reinterpret_cast<uintptr_t>(memory.data());
  state->size = memory.size();
  state->access = {.read = true, .write = true, .atomic = true};
  const RemoteRegion region(state);
  AccessOperation short_read, long_read, write, add, notified;
  short_read.set_read(region, 8, {std::span(bytes).first(64)});
  long_read.set_read(region, 8, {bytes});
  write.set_write(region, 64, {.bytes = bytes});
  add.set_fetch_add(region, 0, 1);
  notified.set_write(region, 128, {.bytes = std::span(bytes).first(100)});
  ReceiveOperation receive;
  const auto round = [&] {
    for (AccessOperation* const each :
         {&short_read, &long_read, &write, &add}) {
      pair.core(0).StartAccess(*each);
    }
    from->WriteWithImmediate(notified);
    to->Receive(receive);
    pair.Run();
    if (!receive.message().notification()) ADD_FAILURE();
    for (const AccessOperation* const each :
         {&short_read, &long_read, &write, &add, &notified}) {
      if (!each->done() || !each->status().ok()) ADD_FAILURE();
    }
  };
  // As long as it takes a link to send its first Credit.
  for (int i = 0; i < 200; ++i) round();
  const uint64_t before = AllocationsOfThisThread();
  for (int i = 0; i < 100; ++i) round();
  EXPECT_EQ(AllocationsOfThisThread() - before, 0u);
  from->Close();
  to->Close();
}

}  // namespace
}  // namespace nd::transport
