// Two connection managers whose applications do what the input says, over a
// network that the input is master of: it drops, repeats, changes and invents
// messages, and says when time passes.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/random.h"
#include "fuzz/choices.h"
#include "soft/cm/manager.h"

namespace nd::soft {
namespace {

constexpr size_t kMostSteps = 200;
constexpr size_t kMostInFlight = 64;
constexpr size_t kMostConnections = 12;
constexpr size_t kMostListeners = 6;
constexpr size_t kMostAnswers = 4;  // to one message
constexpr int kTimersToRest = 10'000;
constexpr uint16_t kFirstPort = 7000;
constexpr Gid kIp[] = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1},
                       {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2}};

// What an application knows of a handle.
struct Handle {
  bool listens = false;
  bool destroyed = false;
  bool fetched = true;
  CmHandle listener{};
  int outcomes = 0;
  int ends = 0;
  int exits = 0;
};

struct Side {
  explicit Side(size_t index)
      : random(index + 1),
        cm({.device = {.guid = 100 + index, .gids = {kIp[index]}},
            .max_connections = kMostConnections},
           random) {}

  SeededRandom random;
  CmManager cm;
  CmOutput out;
  std::map<CmHandle, Handle> handles;
  std::vector<CmHandle> order;
  size_t listeners = 0;
};

class Run {
 public:
  explicit Run(std::span<const uint8_t> input)
      : choices_(input), sides_{Side(0), Side(1)} {
    for (const size_t side : {0, 1}) {
      for (const PortSpace space : {PortSpace::kTcp, PortSpace::kUdp}) {
        Listen(side,
               {.space = space, .local = {.port = kFirstPort}, .backlog = 3});
      }
    }
  }

  void All() {
    for (size_t i = 0; i < kMostSteps && !choices_.empty(); ++i) {
      const size_t side = choices_.Below(2);
      Step(side);
      Flush(0);
      Flush(1);
    }
    for (const size_t side : {0, 1}) Finish(side);
  }

 private:
  void Step(size_t index) {
    Side& side = sides_[index];
    switch (choices_.Below(24)) {
      case 0:
      case 1:
      case 2:
        return Connect(index);
      case 3:
        return Resolve(index);
      case 4:
        return Listen(index, ChooseListen(index));
      case 5:
      case 6:
      case 7:
        return Deliver();
      case 8:
      case 9:
        return Forge(index);
      case 10:
        now_ += std::chrono::milliseconds(choices_.Word());
        side.cm.Expire(now_, side.out);
        return;
      case 11:
        if (const auto next = side.cm.NextDeadline()) {
          now_ = std::max(now_, *next);
          side.cm.Expire(now_, side.out);
        }
        return;
      case 12:
      case 13:
        return Replay(index);
      case 14:
        side.cm.NotifyFirstPacket(Qpn(choices_.Below(32)), now_, side.out);
        return;
      case 15:
        return Destroy(index, ChooseHandle(side));
      default:
        return Command(index, ChooseHandle(side));
    }
  }

  // ---- What applications do.

  PrivateDataView ChooseData() { return choices_.Bytes(choices_.Below(256)); }
  Qpn ChooseQpn() { return Qpn(choices_.Below(32)); }
  CmHandle ChooseHandle(const Side& side) {
    const size_t choice = choices_.Byte();
    if (choice >= 0xf0) return CmHandle{choice};
    return side.order[side.order.size() - 1 - choice % side.order.size()];
  }
  CmEndpoint ChooseEndpoint(size_t index) {
    CmEndpoint endpoint{
        .ip = kIp[index],
        .port = static_cast<uint16_t>(kFirstPort + choices_.Below(3))};
    if (choices_.OneIn(16)) endpoint.ip = Gid{};
    if (choices_.OneIn(16)) endpoint.ip[15] = choices_.Byte();
    return endpoint;
  }
  CmListenOptions ChooseListen(size_t index) {
    return {
        .space = choices_.OneIn(4) ? PortSpace::kUdp : PortSpace::kTcp,
        .transport = choices_.OneIn(4) ? CmTransport::kUc : CmTransport::kRc,
        .local = ChooseEndpoint(index),
        .backlog = static_cast<int>(choices_.Below(4))};
  }

  void Add(Side& side, CmHandle handle, const Handle& what) {
    Require(side.handles.emplace(handle, what).second, "a handle used twice");
    side.order.push_back(handle);
  }

  void Listen(size_t index, const CmListenOptions& options) {
    Side& side = sides_[index];
    if (side.listeners == kMostListeners) return;
    ++side.listeners;
    Add(side, side.cm.Listen(options), {.listens = true});
  }

  void Connect(size_t index) {
    Side& side = sides_[index];
    const size_t size_before = side.cm.size();
    const auto handle = side.cm.Connect(
        {.space = PortSpace::kTcp,
         .transport = choices_.OneIn(8) ? CmTransport::kUc : CmTransport::kRc,
         .endpoints = {.local = ChooseEndpoint(index),
                       .remote = ChooseEndpoint(1 - index)},
         .qpn = ChooseQpn(),
         .responder_resources = choices_.Byte(),
         .initiator_depth = choices_.Byte(),
         .retry_count = static_cast<uint8_t>(choices_.Below(8)),
         .private_data = ChooseData()},
        now_, side.out);
    if (handle.ok()) {
      Add(side, *handle, {});
    } else {
      Require(side.cm.size() == size_before, "what failed left something");
    }
  }

  void Resolve(size_t index) {
    Side& side = sides_[index];
    const auto handle =
        side.cm.Resolve({.endpoints = {.local = ChooseEndpoint(index),
                                       .remote = ChooseEndpoint(1 - index)},
                         .private_data = ChooseData()},
                        now_, side.out);
    if (handle.ok()) Add(side, *handle, {});
  }

  void Command(size_t index, CmHandle handle) {
    Side& side = sides_[index];
    switch (choices_.Below(10)) {
      case 0:
      case 1:
        side.cm.Establish(handle, now_, side.out).IgnoreError();
        return;
      case 2:
        side.cm.Reject(handle, ChooseData(), now_, side.out).IgnoreError();
        return;
      case 3:
        side.cm.Disconnect(handle, ChooseData(), now_, side.out).IgnoreError();
        return;
      case 4:
        side.cm.NotifyEstablished(handle, now_, side.out);
        return;
      case 5:
        (void)side.cm.QpParams(handle, static_cast<QpStage>(choices_.Below(3)));
        return;
      case 6:
        Fetch(side, handle);
        side.cm
            .AcceptLookUp(handle,
                          {.qpn = ChooseQpn(), .private_data = ChooseData()},
                          now_, side.out)
            .IgnoreError();
        return;
      case 7:
        return Fetch(side, handle);
      default:
        Fetch(side, handle);
        side.cm
            .Accept(handle,
                    {.qpn = ChooseQpn(),
                     .responder_resources = choices_.Byte(),
                     .initiator_depth = choices_.Byte(),
                     .private_data = ChooseData()},
                    now_, side.out)
            .IgnoreError();
        return;
    }
  }

  void Fetch(Side& side, CmHandle handle) {
    const auto found = side.handles.find(handle);
    if (found == side.handles.end()) return;
    side.cm.RequestFetched(handle);
    found->second.fetched = true;
  }

  void Destroy(size_t index, CmHandle handle) {
    Side& side = sides_[index];
    const bool done = side.cm.Destroy(handle, now_, side.out).ok();
    const auto found = side.handles.find(handle);
    Require(done == (found != side.handles.end() && !found->second.destroyed),
            "what there is can be destroyed, and nothing else");
    if (!done) return;
    found->second.destroyed = true;
    if (!found->second.listens) return;
    --side.listeners;
    for (auto& [other, known] : side.handles) {
      if (known.listener == handle && !known.fetched) known.destroyed = true;
    }
  }

  // ---- What becomes of it.

  void Flush(size_t index) {
    Side& side = sides_[index];
    CmOutput out = std::exchange(side.out, {});
    for (const CmDatagram& datagram : out.datagrams) Transmit(datagram);
    for (const CmEvent& event : out.events) OnEvent(side, event);
    Require(side.cm.size() <= kMostConnections, "too many connections");
  }

  void Transmit(const CmDatagram& datagram) {
    std::array<std::byte, kMadBytes> bytes;
    WriteCmMad(datagram.mad, bytes);
    Require(ParseCmMad(bytes) == datagram.mad, "a message does not survive");
    if (const auto* const req = std::get_if<CmReq>(&datagram.mad.message)) {
      Know(req->local_id);
    } else if (const auto* const rep =
                   std::get_if<CmRep>(&datagram.mad.message)) {
      Know(rep->local_id);
    } else if (const auto* const sidr =
                   std::get_if<CmSidrReq>(&datagram.mad.message)) {
      Know(sidr->request_id);
    }
    if (in_flight_.size() < kMostInFlight) in_flight_.push_back(datagram);
  }
  void Know(CommId id) {
    if (ids_.empty() || ids_.back() != id) ids_.push_back(id);
  }

  void OnEvent(Side& side, const CmEvent& event) {
    if (event.type == CmEventType::kConnectRequest) {
      const auto listener = side.handles.find(event.listener);
      Require(listener != side.handles.end() && listener->second.listens &&
                  !listener->second.destroyed,
              "a request for nobody");
      return Add(side, event.handle,
                 {.fetched = false, .listener = event.listener});
    }
    const auto found = side.handles.find(event.handle);
    Require(found != side.handles.end(), "an event of nothing");
    Handle& handle = found->second;
    Require(!handle.listens && !handle.destroyed, "an event after the end");
    switch (event.type) {
      case CmEventType::kConnectRequest:
        return;
      case CmEventType::kConnectResponse:
        return Require(handle.outcomes == 0, "a response after the outcome");
      case CmEventType::kEstablished:
        return Require(++handle.outcomes == 1, "established twice");
      case CmEventType::kRejected:
      case CmEventType::kUnreachable:
      case CmEventType::kDisconnected:
        return Require(++handle.ends == 1, "ended twice");
      case CmEventType::kTimewaitExit:
        return Require(handle.ends == 1 && ++handle.exits == 1,
                       "out of timewait twice, or before the end");
    }
  }

  // ---- The network.

  void Deliver() {
    if (in_flight_.empty()) return;
    const size_t at = choices_.Below(8) % in_flight_.size();
    CmDatagram datagram = in_flight_[at];
    const uint32_t fate = choices_.Below(8);
    if (fate != 1) {
      in_flight_.erase(in_flight_.begin() + static_cast<ptrdiff_t>(at));
    }
    if (fate == 2) return;
    if (fate == 3) {
      std::array<std::byte, kMadBytes> bytes;
      WriteCmMad(datagram.mad, bytes);
      bytes[choices_.Byte()] ^= std::byte{choices_.Byte()};
      const auto mad = ParseCmMad(bytes);
      if (!mad) return;
      datagram.mad = *mad;
    }
    Arrive(datagram.destination == kIp[0] ? 0 : 1, datagram);
  }

  void Arrive(size_t index, const CmDatagram& datagram) {
    Side& side = sides_[index];
    Flush(index);
    side.cm.HandleMad(datagram, now_, side.out);
    Require(side.out.datagrams.size() <= kMostAnswers, "too many answers");
  }

  CommId ChooseId() {
    const uint32_t choice = choices_.Byte();
    if (ids_.empty() || choice >= 0xf0) return CommId(choice);
    return ids_[ids_.size() - 1 - choice % ids_.size()];
  }
  CmDatagram From(size_t peer, const CmMad& mad) {
    CmDatagram datagram{
        .source = kIp[peer], .destination = kIp[1 - peer], .mad = mad};
    if (choices_.OneIn(16)) datagram.source[15] = 9;
    return datagram;
  }

  // Messages whose ids are somebody's.
  void Forge(size_t index) {
    const CommId ids[] = {ChooseId(), ChooseId()};
    const Qpn qpn = ChooseQpn();
    CmMessage message = CmRtu{.local_id = ids[0], .remote_id = ids[1]};
    switch (choices_.Below(9)) {
      case 0:
        message = ForgeReq(index, ids[0], qpn);
        break;
      case 1:
        message = CmMra{.local_id = ids[0],
                        .remote_id = ids[1],
                        .message = static_cast<uint8_t>(choices_.Below(4)),
                        .service_timeout = choices_.Byte()};
        break;
      case 2:
        message = CmRej{.local_id = ids[0],
                        .remote_id = ids[1],
                        .message = static_cast<uint8_t>(choices_.Below(4)),
                        .information_length = choices_.Byte(),
                        .reason = RejectReason{choices_.Byte()}};
        break;
      case 3:
        message = CmRep{.local_id = ids[0],
                        .remote_id = ids[1],
                        .qpn = qpn,
                        .starting_psn = Psn(choices_.Byte()),
                        .responder_resources = choices_.Byte(),
                        .initiator_depth = choices_.Byte(),
                        .target_ack_delay = choices_.Byte(),
                        .ca_guid = 100 + choices_.Below(3)};
        break;
      case 4:
        break;
      case 5:
        message =
            CmDreq{.local_id = ids[0], .remote_id = ids[1], .remote_qpn = qpn};
        break;
      case 6:
        message = CmDrep{.local_id = ids[0], .remote_id = ids[1]};
        break;
      case 7: {
        CmSidrReq req{.request_id = ids[0],
                      .service_id = ServiceId(PortSpace::kUdp, kFirstPort)};
        SetHeader(index, req.private_data);
        message = req;
        break;
      }
      default:
        message = CmSidrRep{.request_id = ids[0],
                            .status = static_cast<uint8_t>(choices_.Below(4)),
                            .qpn = qpn};
    }
    Arrive(index, From(1 - index, {.transaction_id = choices_.Byte(),
                                   .message = message}));
  }

  CmReq ForgeReq(size_t index, CommId id, Qpn qpn) {
    CmReq req{.local_id = id,
              .service_id = ServiceId(PortSpace::kTcp, kFirstPort),
              .ca_guid = 100 + choices_.Below(3),
              .qpn = qpn,
              .responder_resources = choices_.Byte(),
              .initiator_depth = choices_.Byte(),
              .remote_response_timeout = choices_.Byte(),
              .transport = static_cast<uint8_t>(choices_.Below(4)),
              .starting_psn = Psn(choices_.Byte()),
              .local_response_timeout = choices_.Byte(),
              .retry_count = choices_.Byte(),
              .path_mtu = static_cast<uint8_t>(choices_.Below(8)),
              .max_cm_retries = choices_.Byte(),
              .local_gid = kIp[1 - index],
              .remote_gid = kIp[index],
              .subnet_local = true,
              .local_ack_timeout = choices_.Byte()};
    SetHeader(index, req.private_data);
    return req;
  }

  template <size_t kBytes>
  void SetHeader(size_t index, std::array<uint8_t, kBytes>& data) {
    RdmaCmHeader header = MakeHeader(
        {.local = ChooseEndpoint(1 - index), .remote = ChooseEndpoint(index)});
    if (choices_.OneIn(16)) header.version = choices_.Byte();
    if (choices_.OneIn(16)) header.ip_version = choices_.Byte() & 15;
    header.Write(std::span(data).template first<RdmaCmHeader::kSize>());
  }

  // A message as it was captured, its ids made those of somebody here.
  void Replay(size_t index) {
    const auto bytes = std::as_bytes(choices_.Bytes(choices_.Word() % 260));
    auto mad = ParseCmMad(bytes);
    if (!mad) return;
    const CommId local = ChooseId();
    const CommId remote = ChooseId();
    std::visit([&](auto& message) { Rename(message, local, remote, index); },
               mad->message);
    Arrive(index, From(1 - index, *mad));
  }

  template <typename Message>
  static void Rename(Message& message, CommId local, CommId remote, size_t) {
    message.local_id = local;
    message.remote_id = remote;
  }
  // New connections bring their own ids.
  static void Rename(CmReq& req, CommId, CommId, size_t index) {
    req.service_id = ServiceId(PortSpace::kTcp, kFirstPort);
    req.local_gid = kIp[1 - index];
    req.remote_gid = kIp[index];
  }
  static void Rename(CmSidrReq& req, CommId, CommId, size_t) {
    req.service_id = ServiceId(PortSpace::kUdp, kFirstPort);
  }
  static void Rename(CmSidrRep& rep, CommId local, CommId, size_t) {
    rep.request_id = local;
  }

  // Everything is given up, and nothing is heard any more.
  void Finish(size_t index) {
    Side& side = sides_[index];
    const std::vector<CmHandle> handles = side.order;
    for (const CmHandle handle : handles) {
      if (!side.handles[handle].destroyed) Destroy(index, handle);
      Flush(index);
    }
    for (int timers = 0; const auto next = side.cm.NextDeadline(); ++timers) {
      Require(timers < kTimersToRest, "it does not come to rest");
      now_ = std::max(now_, *next);
      side.cm.Expire(now_, side.out);
      Flush(index);
    }
    Require(side.cm.size() == 0, "a connection is left");
  }

  Choices choices_;
  Instant now_{};
  std::array<Side, 2> sides_;
  std::deque<CmDatagram> in_flight_;
  std::vector<CommId> ids_;
};

}  // namespace
}  // namespace nd::soft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nd::soft::Run(std::span(data, size)).All();
  return 0;
}
