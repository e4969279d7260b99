#include "soft/net/wire.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

namespace nd::soft {
namespace {

// How long the port may be nobody's after its holder's death.
constexpr Duration kHoldEvery = std::chrono::milliseconds(200);
// A socket may be writable and yet the device's queue full.
constexpr Duration kFlushEvery = std::chrono::milliseconds(1);

// Which flow a packet belongs to: that of its label, as rdma_cm gives one to
// each connection, or without one that of the QP. Spread over all numbers.
uint32_t FlowOf(const Path& path, Qpn destination) {
  constexpr uint32_t kGoldenRatio = 0x9e3779b1;
  const uint32_t name =
      path.flow_label != 0 ? path.flow_label : ToUint(destination);
  return name * kGoldenRatio;
}

EventToken SenderToken(uint32_t index) {
  return {.kind = EventToken::Kind::kUdpSender, .number = index};
}

}  // namespace

Wire::Wire(uint16_t port, std::span<const Gid> addresses, EventSet& events,
           NetCounters& counters)
    : port_(port), events_(events), counters_(counters) {
  for (const Gid& address : addresses) ports_.emplace_back(address, port);
  readable_.resize(ports_.size());
}

void Wire::OpenSenders(Random& random) {
  for (const IpFamily family : {IpFamily::kIpv4, IpFamily::kIpv6}) {
    const auto index = static_cast<uint32_t>(family);
    auto sender = UdpSender::Open(family, port_, random);
    if (!sender.ok()) continue;
    if (!std::ranges::all_of(sender->sockets(), [&](const auto& socket) {
          return events_.Add(socket.fd.get(), SenderToken(index)).ok();
        })) {
      continue;
    }
    senders_[index].socket.emplace(*std::move(sender));
  }
}

void Wire::SetLocal(std::span<const Gid> gids) {
  interfaces_.clear();
  std::set<Interface> all;
  const std::vector<uint32_t> interfaces = InterfacesOf(gids);
  for (size_t i = 0; i < gids.size(); ++i) {
    if (interfaces[i] == 0) continue;
    interfaces_.emplace_back(gids[i], interfaces[i]);
    all.insert({.family = FamilyOf(gids[i]), .index = interfaces[i]});
  }
  memberships_.SetInterfaces(std::move(all));
}

uint32_t Wire::InterfaceFor(const Path& path) const {
  if (!IsLinkLocal(path.destination) && !IsMulticast(path.destination)) {
    return 0;
  }
  for (const auto& [gid, interface] : interfaces_) {
    if (gid == path.source) return interface;
  }
  return 0;
}

size_t Wire::Room(const Path& path) {
  Sender& sender = SenderOf(path.destination);
  // Without a way there, packets vanish.
  if (!sender.socket.has_value()) return UdpSender::kQueueLength;
  const size_t room = sender.socket->room();
  sender.starved = room == 0;
  return room;
}

bool Wire::Rest() {
  bool relieved = false;
  for (Sender& sender : senders_) {
    if (!sender.starved || sender.socket->room() == 0) continue;
    sender.starved = false;
    relieved = true;
  }
  return !relieved;
}

bool Wire::Send(const Path& path, Qpn destination, const PacketSource& packet) {
  Sender& sender = SenderOf(path.destination);
  if (!sender.socket.has_value()) {
    ++counters_.dropped_send_failed;
    return true;
  }
  if (sender.socket->room() == 0) return false;
  sender.socket->Send(path, InterfaceFor(path), FlowOf(path, destination),
                      packet);
  queued_ = true;
  return true;
}

void Wire::Flush(Instant now) {
  if (!queued_) return;
  queued_ = false;
  for (uint32_t i = 0; i < senders_.size(); ++i) {
    if (!senders_[i].blocked) FlushSender(i);
    if (!senders_[i].blocked) continue;
    senders_[i].socket->Keep();
    queued_ = true;
    if (!flush_at_.has_value()) flush_at_ = now + kFlushEvery;
  }
}

void Wire::FlushSender(uint32_t index) {
  Sender& sender = senders_[index];
  if (!sender.socket.has_value()) return;
  const std::optional<int> blocked = sender.socket->Flush(counters_);
  const std::optional<int> before = std::exchange(sender.blocked, blocked);
  if (before == blocked) return;
  if (before) events_.WatchWritable(*before, SenderToken(index), false);
  if (blocked) events_.WatchWritable(*blocked, SenderToken(index), true);
}

void Wire::set_wanted(bool wanted, Instant now) {
  wanted_ = wanted;
  if (wanted) TryToHold(now);
  if (!wanted) hold_at_.reset();
}

bool Wire::held() const {
  return std::ranges::all_of(ports_,
                             [](const auto& port) { return port.held(); });
}

void Wire::TryToHold(Instant now) {
  hold_at_.reset();
  for (uint32_t i = 0; i < ports_.size(); ++i) {
    WirePort& port = ports_[i];
    if (port.held()) continue;
    if (const absl::Status held = port.Hold(); !held.ok()) {
      // What the host does not have it will not get by asking.
      if (absl::IsAlreadyExists(held)) hold_at_ = now + kHoldEvery;
      continue;
    }
    const EventToken token{.kind = EventToken::Kind::kWirePort, .number = i};
    if (!events_.Add(port.fd(), token).ok()) {
      port.Release();
      hold_at_ = now + kHoldEvery;
    }
  }
}

size_t Wire::Receive(size_t budget, WireSink sink) {
  size_t received = 0;
  for (size_t i = 0; i < ports_.size() && received < budget; ++i) {
    if (!readable_[i]) continue;
    const size_t count = ports_[i].Receive(budget - received, counters_, sink);
    readable_[i] = count > 0;
    received += count;
  }
  return received;
}

void Wire::OnEvent(const Event& event, Instant now) {
  if (event.token.kind == EventToken::Kind::kWirePort) {
    if (event.token.number < readable_.size()) {
      readable_[event.token.number] = true;
    }
    return;
  }
  const uint32_t index = event.token.number % senders_.size();
  // Errors of earlier datagrams are of no use, and are gone once read.
  if (senders_[index].socket.has_value()) senders_[index].socket->Drain();
  if (event.writable) {
    FlushSender(index);
    Flush(now);
  }
}

std::optional<Instant> Wire::NextDeadline() const {
  if (!hold_at_.has_value()) return flush_at_;
  if (!flush_at_.has_value()) return hold_at_;
  return std::min(*hold_at_, *flush_at_);
}

void Wire::OnTime(Instant now) {
  if (hold_at_.has_value() && now >= *hold_at_) TryToHold(now);
  if (flush_at_.has_value() && now >= *flush_at_) {
    flush_at_.reset();
    for (uint32_t i = 0; i < senders_.size(); ++i) FlushSender(i);
    Flush(now);
  }
}

}  // namespace nd::soft
