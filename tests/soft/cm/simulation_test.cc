// Two managers over a network that loses, duplicates and reorders, with
// applications that connect, accept, reject, disconnect and destroy at any
// moment. Time and chance are simulated: a seed repeats a run.
//
//   ND_CM_SEED=17 soft_cm_test --gtest_filter='CmSimulation.*'
//
// and ND_CM_SEEDS=10000 takes more of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "base/bytes.h"
#include "base/environment.h"
#include "base/random.h"
#include "soft/cm/manager.h"

namespace nd::soft {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kSeeds = 500;
constexpr uint16_t kPort = 7471;
constexpr Gid kIp[] = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1},
                       {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2}};

// Names a connection or look-up at both ends: its requester's private data.
using Number = uint32_t;

std::vector<uint8_t> ToPrivateData(Number number) {
  std::vector<uint8_t> data(4);
  ByteWriter(std::span<uint8_t>(data)).WriteBe32(number);
  return data;
}
Number ToNumber(const std::vector<uint8_t>& data) {
  return ByteReader(std::span<const uint8_t>(data)).ReadBe32();
}

// What an application knows of one handle.
struct Id {
  enum class Kind { kRequester, kLookUp, kAcceptor, kLookedUp };
  Kind kind{};
  Number number = 0;
  Qpn qpn{};
  bool fetched = false;   // an acceptor's, by the application
  bool accepted = false;  // and so
  int outcomes = 0;
  bool up = false;
  int ends = 0;  // DISCONNECTED, or REJECTED after it was up
  bool exited = false;
  bool destroyed = false;
};

struct Side {
  Side(int index, uint64_t seed)
      : random(seed),
        cm({.device = {.guid = 100u + static_cast<uint64_t>(index),
                       .gids = {kIp[index]}}},
           random) {}

  SeededRandom random;
  CmManager cm;
  CmOutput out;
  std::vector<CmHandle> listeners;
  std::map<CmHandle, Id> ids;
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : random_(seed),
        loss_(0.25 * random_.Fraction()),
        duplicates_(0.3 * random_.Fraction()),
        max_delay_(milliseconds(1 + random_.Below(3000))),
        sides_{Side(0, random_.Next()), Side(1, random_.Next())} {
    if (random_.OneIn(5)) {
      blackout_ = now_ + milliseconds(random_.Below(60000));
    }
  }

  void Run() {
    for (int side : {0, 1}) Listen(side);
    for (int i = 0; i < 60; ++i) {
      After(milliseconds(random_.Below(90000)), [this] { ActAtRandom(); });
    }
    RunUntilIdle();
    CheckOutcomes();
    if (!blackout_) CheckAgreement();
    for (int side : {0, 1}) DestroyAll(side);
    RunUntilIdle();
    CheckNothingLeft();
  }

 private:
  // The clock and what it brings.

  void After(Duration delay, std::function<void()> task) {
    tasks_.emplace(now_ + delay, std::move(task));
  }
  Duration Soon() {
    return random_.OneIn(4) ? milliseconds(random_.Below(20000))
                            : milliseconds(random_.Below(300));
  }

  void RunUntilIdle() {
    while (const auto next = NextInstant()) {
      ASSERT_LT(*next - Instant(), std::chrono::hours(1)) << "never idle";
      now_ = *next;
      for (int side : {0, 1}) {
        sides_[side].cm.Expire(now_, sides_[side].out);
        Flush(side);
      }
      while (!tasks_.empty() && tasks_.begin()->first <= now_) {
        const auto task = std::move(tasks_.begin()->second);
        tasks_.erase(tasks_.begin());
        task();
      }
    }
  }

  std::optional<Instant> NextInstant() const {
    std::optional<Instant> next;
    if (!tasks_.empty()) next = tasks_.begin()->first;
    for (const Side& side : sides_) {
      const auto deadline = side.cm.NextDeadline();
      if (deadline && (!next || *deadline < *next)) next = deadline;
    }
    return next;
  }

  // The network.

  bool InBlackout() const {
    return blackout_ && now_ >= *blackout_ && now_ < *blackout_ + seconds(200);
  }

  void Flush(int side) {
    CmOutput out = std::exchange(sides_[side].out, {});
    for (const CmDatagram& datagram : out.datagrams) Transmit(datagram);
    for (const CmEvent& event : out.events) HandleEvent(side, event);
  }

  void Transmit(const CmDatagram& datagram) {
    const int copies = random_.WithProbability(duplicates_) ? 2 : 1;
    for (int copy = 0; copy < copies; ++copy) {
      if (InBlackout() || random_.WithProbability(loss_)) continue;
      After(Duration(random_.Below(max_delay_.count())),
            [this, datagram] { Deliver(datagram); });
    }
  }

  // Through its bytes, as on the wire.
  void Deliver(const CmDatagram& datagram) {
    std::array<std::byte, kMadBytes> bytes;
    WriteCmMad(datagram.mad, bytes);
    const int side = datagram.destination == kIp[0] ? 0 : 1;
    sides_[side].cm.HandleMad({.source = datagram.source,
                               .destination = datagram.destination,
                               .mad = *ParseCmMad(bytes)},
                              now_, sides_[side].out);
    Flush(side);
  }

  // The applications.

  void Listen(int side) {
    for (const PortSpace space : {PortSpace::kTcp, PortSpace::kUdp}) {
      sides_[side].listeners.push_back(sides_[side].cm.Listen(
          {.space = space, .local = {.port = kPort}, .backlog = 3}));
    }
  }

  void ActAtRandom() {
    const int side = static_cast<int>(random_.Below(2));
    switch (random_.Below(10)) {
      case 0:
        return LookUp(side);
      case 1:
      case 2:
        return DisconnectOne(side);
      case 3:
        return DestroyOne(side);
      case 4:
        if (random_.OneIn(4)) return ListenAnew(side);
        return LookUp(side);
      default:
        return Connect(side);
    }
  }

  void Connect(int side) {
    Side& us = sides_[side];
    const Number number = ++last_number_;
    const auto data = ToPrivateData(number);
    const Qpn qpn = NewQpn(side);
    const auto handle = us.cm.Connect(
        {.endpoints = {.local = {.ip = kIp[side], .port = 40000},
                       .remote = {.ip = kIp[1 - side], .port = kPort}},
         .qpn = qpn,
         .responder_resources = 1,
         .initiator_depth = 1,
         .private_data = data},
        now_, us.out);
    ASSERT_TRUE(handle.ok());
    us.ids[*handle] = {
        .kind = Id::Kind::kRequester, .number = number, .qpn = qpn};
    Flush(side);
    // Some lose patience.
    if (random_.OneIn(10)) {
      After(Soon(), [=, this] { Destroy(side, *handle); });
    }
  }

  void LookUp(int side) {
    Side& us = sides_[side];
    const Number number = ++last_number_;
    const auto data = ToPrivateData(number);
    const auto handle = us.cm.Resolve(
        {.endpoints = {.local = {.ip = kIp[side], .port = 40000},
                       .remote = {.ip = kIp[1 - side], .port = kPort}},
         .private_data = data},
        now_, us.out);
    ASSERT_TRUE(handle.ok());
    us.ids[*handle] = {.kind = Id::Kind::kLookUp, .number = number};
    Flush(side);
  }

  // Few numbers, so that they are used again.
  Qpn NewQpn(int side) {
    uint32_t qpn = 16;
    while (sides_[side].cm.HoldsQpn(Qpn(qpn)) || InUse(side, Qpn(qpn))) ++qpn;
    return Qpn(qpn);
  }
  // A QP lives as long as the application has the connection.
  bool InUse(int side, Qpn qpn) const {
    return std::ranges::any_of(sides_[side].ids, [qpn](const auto& each) {
      return each.second.qpn == qpn && !each.second.destroyed;
    });
  }

  void HandleEvent(int side, const CmEvent& event) {
    if (event.type == CmEventType::kConnectRequest) {
      return HandleRequest(side, event);
    }
    ASSERT_TRUE(sides_[side].ids.contains(event.handle));
    Id& id = sides_[side].ids[event.handle];
    EXPECT_FALSE(id.destroyed) << "an event after the end";
    switch (event.type) {
      case CmEventType::kConnectRequest:
        return;
      case CmEventType::kConnectResponse:
        EXPECT_EQ(id.kind, Id::Kind::kRequester);
        EXPECT_EQ(id.outcomes, 0);
        After(Soon(), [=, this] { AnswerResponse(side, event.handle); });
        return;
      case CmEventType::kEstablished:
        ++id.outcomes;
        id.up = id.kind == Id::Kind::kAcceptor;
        return;
      case CmEventType::kRejected:
      case CmEventType::kUnreachable:
        if (id.up) {
          End(id);
        } else {
          ++id.outcomes;
        }
        return;
      case CmEventType::kDisconnected:
        // Its RTU may have been lost, and then it was never up.
        if (!id.up) ++id.outcomes;
        End(id);
        if (random_.OneIn(3)) {
          After(Soon(), [=, this] { Destroy(side, event.handle); });
        } else {
          After(Soon(), [=, this] { Disconnect(side, event.handle); });
        }
        return;
      case CmEventType::kTimewaitExit:
        EXPECT_EQ(id.ends, 1);
        EXPECT_FALSE(id.exited);
        id.exited = true;
        return;
    }
  }

  static void End(Id& id) {
    ++id.ends;
    id.up = false;
  }

  void HandleRequest(int side, const CmEvent& event) {
    Side& us = sides_[side];
    const bool datagram = std::ranges::find(us.listeners, event.listener) -
                              us.listeners.begin() ==
                          1;
    us.ids[event.handle] = {
        .kind = datagram ? Id::Kind::kLookedUp : Id::Kind::kAcceptor,
        .number = ToNumber(event.private_data)};
    After(Soon(), [=, this] { AnswerRequest(side, event.handle); });
  }

  // The application may be slow to fetch it, and the listener gone.
  void AnswerRequest(int side, CmHandle handle) {
    Side& us = sides_[side];
    Id& id = us.ids[handle];
    if (id.destroyed) return;
    us.cm.RequestFetched(handle);
    id.fetched = true;
    switch (random_.Below(10)) {
      case 0:
        return Destroy(side, handle);
      case 1:
        us.cm.Reject(handle, {}, now_, us.out).IgnoreError();
        break;
      default:
        Accept(side, handle);
    }
    Flush(side);
  }

  void Accept(int side, CmHandle handle) {
    Side& us = sides_[side];
    Id& id = us.ids[handle];
    if (id.kind == Id::Kind::kLookedUp) {
      EXPECT_TRUE(us.cm.AcceptLookUp(handle, {}, now_, us.out).ok());
      return;
    }
    id.qpn = NewQpn(side);
    id.accepted = us.cm.Accept(handle, {.qpn = id.qpn}, now_, us.out).ok();
  }

  void AnswerResponse(int side, CmHandle handle) {
    Side& us = sides_[side];
    Id& id = us.ids[handle];
    if (id.destroyed) return;
    if (random_.OneIn(8)) {
      if (us.cm.Reject(handle, {}, now_, us.out).ok()) ++id.outcomes;
    } else if (us.cm.Establish(handle, now_, us.out).ok()) {
      ++id.outcomes;
      id.up = true;
      SendData(side, id.number);
    }
    Flush(side);
  }

  // Data may overtake the RTU, or make up for it.
  void SendData(int side, Number number) {
    if (random_.OneIn(2) || InBlackout()) return;
    After(Duration(random_.Below(max_delay_.count())), [=, this] {
      Side& peer = sides_[1 - side];
      for (const auto& [handle, id] : peer.ids) {
        if (id.number != number || id.destroyed || !id.accepted) continue;
        peer.cm.NotifyFirstPacket(id.qpn, now_, peer.out);
      }
      Flush(1 - side);
    });
  }

  void Disconnect(int side, CmHandle handle) {
    Side& us = sides_[side];
    if (us.ids[handle].destroyed) return;
    us.cm.Disconnect(handle, {}, now_, us.out).IgnoreError();
    Flush(side);
  }

  void Destroy(int side, CmHandle handle) {
    Side& us = sides_[side];
    Id& id = us.ids[handle];
    if (id.destroyed) return;
    EXPECT_TRUE(us.cm.Destroy(handle, now_, us.out).ok());
    Forget(id);
    Flush(side);
  }
  static void Forget(Id& id) {
    id.destroyed = true;
    id.up = false;
  }

  std::optional<CmHandle> PickOne(int side) {
    if (sides_[side].ids.empty()) return std::nullopt;
    return std::next(
               sides_[side].ids.begin(),
               static_cast<ptrdiff_t>(random_.Below(sides_[side].ids.size())))
        ->first;
  }
  void DisconnectOne(int side) {
    if (const auto handle = PickOne(side)) Disconnect(side, *handle);
  }
  void DestroyOne(int side) {
    if (const auto handle = PickOne(side)) Destroy(side, *handle);
  }

  void ListenAnew(int side) {
    Side& us = sides_[side];
    for (const CmHandle listener : us.listeners) {
      EXPECT_TRUE(us.cm.Destroy(listener, now_, us.out).ok());
    }
    us.listeners.clear();
    // What was not fetched has gone with them.
    for (auto& [handle, id] : us.ids) {
      if (!id.fetched && id.kind >= Id::Kind::kAcceptor) Forget(id);
    }
    Flush(side);
    Listen(side);
  }

  void DestroyAll(int side) {
    std::vector<CmHandle> handles = sides_[side].listeners;
    for (const auto& [handle, id] : sides_[side].ids) {
      if (!id.destroyed) handles.push_back(handle);
    }
    for (const CmHandle handle : handles) {
      EXPECT_TRUE(sides_[side].cm.Destroy(handle, now_, sides_[side].out).ok());
    }
    Flush(side);
  }

  // What must hold.

  void CheckOutcomes() {
    for (const Side& side : sides_) {
      for (const auto& [handle, id] : side.ids) {
        EXPECT_LE(id.ends, 1) << id.number;
        EXPECT_LE(id.outcomes, 1) << id.number;
        const bool wants = id.kind == Id::Kind::kRequester ||
                           id.kind == Id::Kind::kLookUp || id.accepted;
        if (!wants || id.destroyed) continue;
        EXPECT_EQ(id.outcomes, 1) << id.number;
      }
    }
  }

  void CheckAgreement() {
    for (int side : {0, 1}) {
      for (const auto& [handle, id] : sides_[side].ids) {
        if (id.kind != Id::Kind::kRequester) continue;
        EXPECT_EQ(AcceptorsUp(1 - side, id.number), id.up ? 1 : 0)
            << "connection " << id.number;
      }
    }
  }
  int AcceptorsUp(int side, Number number) const {
    return static_cast<int>(
        std::ranges::count_if(sides_[side].ids, [number](const auto& each) {
          const Id& id = each.second;
          return id.kind == Id::Kind::kAcceptor && id.number == number && id.up;
        }));
  }

  void CheckNothingLeft() {
    for (const Side& side : sides_) {
      EXPECT_EQ(side.cm.size(), 0u);
      EXPECT_FALSE(side.cm.NextDeadline());
      for (const auto& [handle, id] : side.ids) {
        EXPECT_FALSE(side.cm.HoldsQpn(id.qpn));
      }
    }
  }

  SeededRandom random_;
  const double loss_;
  const double duplicates_;
  const Duration max_delay_;
  std::optional<Instant> blackout_;
  Instant now_{};
  std::multimap<Instant, std::function<void()>> tasks_;
  Side sides_[2];
  Number last_number_ = 0;
};

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  uint64_t value = 0;
  return absl::SimpleAtoi(Environment(name), &value) ? value : otherwise;
}

TEST(CmSimulation, BothSidesAgreeAndNothingIsLeft) {
  const uint64_t one = FromEnvironment("ND_CM_SEED", 0);
  const uint64_t first = one == 0 ? 1 : one;
  const uint64_t last = one == 0 ? FromEnvironment("ND_CM_SEEDS", kSeeds) : one;
  for (uint64_t seed = first; seed <= last; ++seed) {
    Simulation(seed).Run();
    ASSERT_FALSE(HasFailure()) << "replay with ND_CM_SEED=" << seed;
  }
}

}  // namespace
}  // namespace nd::soft
