#include "soft/net/host_network.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "soft/wire/burst.h"
#include "soft/wire/packet.h"

namespace nd::soft {
namespace {

constexpr uint32_t kSlots = 1 << kSlotBits;  // 0 is nobody's

// Packets that one Receive hands out, more or less.
constexpr size_t kBudget = 64;
// While rings bring packets, sockets are looked at once in so many rounds.
constexpr uint32_t kQuietRounds = 64;
// Messages that are taken from a socket at a time.
constexpr size_t kMessages = 16;
// Looks at sockets after which all is taken that their buffers held.
constexpr uint32_t kLooksForAll = 64;

constexpr size_t kLoopbackBytes = size_t{1} << 20;

// The least ring in which the largest frame always finds a place.
constexpr size_t kMinRingBytes = size_t{16} << 10;
static_assert(kMinRingBytes > 2 * (kMaxFrameBytes + 16));

absl::Status Check(const HostNetworkOptions& options) {
  if (options.ring_bytes < kMinRingBytes ||
      options.ring_bytes > kMaxRingBytes ||
      !IsRingSize(kRingControlBytes + options.ring_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a ring of ", options.ring_bytes,
                     " bytes: has to be a power of two, from ", kMinRingBytes,
                     " to ", kMaxRingBytes));
  }
  if (options.first_slot.has_value() &&
      (*options.first_slot == 0 || *options.first_slot >= kSlots)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "slot ", *options.first_slot, ": has to be from 1 to ", kSlots - 1));
  }
  return absl::OkStatus();
}

std::optional<Instant> Earlier(std::optional<Instant> a,
                               std::optional<Instant> b) {
  if (!a.has_value()) return b;
  if (!b.has_value()) return a;
  return std::min(*a, *b);
}

// Those that look all the time look at sockets, which takes a system call, the
// less often the longer it was in vain: once in so many polls.
constexpr uint32_t PollsApart(uint32_t vain_looks) {
  if (vain_looks < 64) return 1;
  return vain_looks < 4096 ? 32 : 512;
}

bool IsShortMessage(const Packet& packet) {
  const OpcodeFacts& facts = packet.facts();
  return packet.packets == 1 && facts.first && facts.last &&
         !facts.is_response();
}

bool IsOfferOfLink(std::span<const std::byte> message) {
  return std::ranges::equal(message, kLinkOffer);
}

}  // namespace

absl::StatusOr<HostNetwork::ClaimedSlot> HostNetwork::ClaimSlot(
    const HostNetworkOptions& options, Random& random) {
  const HostNames names(options.prefix);
  // Not the same again soon: packets to a slot's last owner may be about.
  const uint32_t first = options.first_slot.value_or(
      static_cast<uint32_t>(1 + random.Below(kSlots - 1)));
  for (uint32_t i = 0; i < kSlots - 1; ++i) {
    const uint32_t slot = 1 + (first - 1 + i) % (kSlots - 1);
    auto socket = UnixSocket::Bind(names.Slot(slot));
    if (socket.ok()) {
      return ClaimedSlot{.socket = *std::move(socket), .slot = slot};
    }
    if (!absl::IsAlreadyExists(socket.status())) return socket.status();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("all ", kSlots - 1, " slots of ", options.prefix,
                   " are taken by other processes"));
}

absl::StatusOr<std::unique_ptr<HostNetwork>> HostNetwork::Open(
    const HostNetworkOptions& options, Random& random) {
  ND_RETURN_IF_ERROR(Check(options));
  ND_ASSIGN_OR_RETURN(EventSet events, EventSet::Create());
  ND_ASSIGN_OR_RETURN(ClaimedSlot claimed, ClaimSlot(options, random));
  ND_RETURN_IF_ERROR(
      events.Add(claimed.socket.fd(), {.kind = EventToken::Kind::kSlot}));
  std::unique_ptr<HostNetwork> network(
      new HostNetwork(options, std::move(claimed), std::move(events)));
  network->wire_.OpenSenders(random);
  return network;
}

HostNetwork::HostNetwork(const HostNetworkOptions& options, ClaimedSlot claimed,
                         EventSet events)
    : slot_(claimed.slot),
      names_(options.prefix),
      events_(std::move(events)),
      slot_socket_(std::move(claimed.socket)),
      loopback_(kLoopbackBytes),
      peers_(options.ring_bytes, options.max_links, options.lends, names_,
             slot_socket_, events_, counters_),
      inbound_(options.max_links, options.fetches, events_),
      services_(names_, events_),
      groups_(names_, slot_, slot_socket_),
      wire_(options.udp_port, options.wire_addresses, events_, counters_) {}

bool HostNetwork::IsLocal(const Gid& gid) const {
  if (last_local_ < local_gids_.size() &&
      SameGid(local_gids_[last_local_], gid)) [[likely]] {
    return true;
  }
  for (size_t i = 0; i < local_gids_.size(); ++i) {
    if (!SameGid(local_gids_[i], gid)) continue;
    last_local_ = i;
    return true;
  }
  return false;
}

absl::Status HostNetwork::JoinGroup(const Gid& group) {
  ND_RETURN_IF_ERROR(groups_.Join(group));
  wire_.Join(group);
  return absl::OkStatus();
}

void HostNetwork::LeaveGroup(const Gid& group) {
  wire_.Leave(group);
  groups_.Leave(group);
}

// Processes of the host that are slow in taking what is for their group do not
// hold up the others: they lose it.
ABSL_ATTRIBUTE_HOT size_t HostNetwork::Room(const Path& path, Qpn destination) {
  if (!IsLocal(path.destination)) {
    return IsMulticast(path.destination)
               ? std::min(wire_.Room(path), loopback_.Room())
               : wire_.Room(path);
  }
  if (destination == kGsiQpn) return std::min(mail_.room(), loopback_.Room());
  const uint32_t slot = SlotOf(destination);
  return slot == slot_ ? loopback_.Room() : peers_.Room(slot, now_);
}

ABSL_ATTRIBUTE_HOT BurstBytes HostNetwork::Bursts(const Path& path,
                                                  Qpn destination) {
  if (!IsLocal(path.destination)) return {};
  const uint32_t slot = SlotOf(destination);
  BurstBytes bursts = slot == slot_
                          ? BurstBytes{.copied = loopback_.burst_bytes()}
                          : peers_.Bursts(slot);
  bursts.beside_short = short_messages_.ForOthers(destination, now_);
  return bursts;
}

ABSL_ATTRIBUTE_HOT void HostNetwork::Send(const Path& path,
                                          const Outgoing& outgoing) {
  const PacketSource packet(outgoing);
  if (packet.size() > MostBytesOf(outgoing.packet.packets)) {
    ++counters_.dropped_malformed;
    return;
  }
  ++counters_.sent;
  if (FamilyOf(path.source) != FamilyOf(path.destination)) {
    ++counters_.dropped_bad_address;
    return;
  }
  const Qpn destination = outgoing.packet.bth.destination;
  const FrameHeader header{.path = path,
                           .lent = outgoing.loan != nullptr,
                           .packets = outgoing.packet.packets};
  if (IsLocal(path.destination)) {
    if (IsShortMessage(outgoing.packet)) {
      short_messages_.OnMessage(destination, now_);
    }
    return SendLocally(destination, header, packet);
  }
  const bool to_group = destination == kMulticastQpn;
  if (to_group != IsMulticast(path.destination)) {
    ++counters_.dropped_bad_qpn;
    return;
  }
  if (to_group) SendToGroup(header, packet);
  if (!wire_.Send(path, destination, packet)) {
    ++counters_.dropped_no_room;
  }
}

void HostNetwork::SendLocally(Qpn destination, const FrameHeader& header,
                              const PacketSource& packet) {
  if (destination == kGsiQpn) {
    SendToGsi(header, packet);
  } else if (SlotOf(destination) == 0 || destination == kMulticastQpn) {
    ++counters_.dropped_bad_qpn;
  } else if (!SendToSlot(SlotOf(destination), header, packet)) {
    ++counters_.dropped_no_room;
  }
}

void HostNetwork::SendToGroup(const FrameHeader& header,
                              const PacketSource& packet) {
  if (groups_.Has(header.path.destination) && !loopback_.Send(header, packet)) {
    ++counters_.dropped_no_room;
  }
  (void)SendToOthersInGroup(header, packet);
}

size_t HostNetwork::SendToOthersInGroup(const FrameHeader& header,
                                        const PacketSource& packet) {
  const auto others = groups_.Others(header.path.destination);
  for (const uint32_t slot : others) {
    if (!peers_.Send(slot, now_, header, packet)) ++counters_.dropped_no_room;
  }
  return others.size();
}

void HostNetwork::SendToGsi(const FrameHeader& header,
                            const PacketSource& packet) {
  std::array<std::byte, kMaxPacketBytes> buffer;
  const auto bytes = std::span(buffer).first(packet.size());
  packet.CopyTo(bytes);
  Packet parsed;
  if (Parse(bytes, parsed) != PacketFault::kNone) {
    ++counters_.dropped_malformed;
    return;
  }
  const GsiTarget target = gsi_router_.TargetOf(parsed.payload);
  const PacketSource copy(bytes);
  if (!SendTo(target, header, copy) &&
      !mail_.Keep(target, header, copy, now_)) {
    ++counters_.dropped_no_room;
  }
}

bool HostNetwork::SendTo(const GsiTarget& target, const FrameHeader& header,
                         const PacketSource& packet) {
  if (const auto* slot = std::get_if<SlotTarget>(&target)) {
    return SendToSlot(slot->slot, header, packet);
  }
  if (const auto* service = std::get_if<ServiceTarget>(&target)) {
    return SendToService(service->service_id, header, packet);
  }
  ++counters_.dropped_unroutable;
  return true;
}

bool HostNetwork::SendToSlot(uint32_t slot, const FrameHeader& header,
                             const PacketSource& packet) {
  return slot == slot_ ? loopback_.Send(header, packet)
                       : peers_.Send(slot, now_, header, packet);
}

bool HostNetwork::SendToService(uint64_t service_id, const FrameHeader& header,
                                const PacketSource& packet) {
  const auto claims = ServicesFor(service_id, header.path.destination);
  if (std::ranges::any_of(claims, [this](const HostService& service) {
        return services_.Has(service);
      })) {
    return loopback_.Send(header, packet);
  }
  std::array<std::byte, kMaxFrameBytes> buffer;
  const auto frame =
      std::span(buffer).first(FrameHeader::kSize + packet.size());
  WriteFrame(header, packet, frame);
  for (const HostService& service : claims) {
    const int error = slot_socket_.SendTo(names_.Service(service), frame);
    if (error == 0) return true;
    if (error == EAGAIN || error == ENOBUFS) return false;
  }
  // Whom nobody serves we refuse ourselves.
  return loopback_.Send(header, packet);
}

ABSL_ATTRIBUTE_HOT void HostNetwork::Flush() {
  peers_.Flush();
  wire_.Flush(now_);
}

ABSL_ATTRIBUTE_HOT bool HostNetwork::MayHaveArrivals() {
  return !loopback_.empty() || !lent_.empty() || !inbound_.empty() ||
         ++polls_ >= PollsApart(vain_looks_);
}

ABSL_ATTRIBUTE_HOT size_t HostNetwork::Receive(Instant now, ArrivalSink& sink) {
  now_ = now;
  peers_.OnTime(now);
  wire_.OnTime(now);
  mail_.Retry(now, [this](const GsiMail::Letter& letter) {
    return SendTo(letter.target, letter.header, PacketSource(letter.packet));
  });
  size_t received = ReceiveQuietly(sink);
  if (received == 0 || looks_owed_ > 0 || ++quiet_rounds_ >= kQuietRounds) {
    quiet_rounds_ = polls_ = 0;
    const size_t of_sockets = ReceiveEvents(sink);
    if (looks_owed_ > 0) --looks_owed_;
    if (of_sockets < kMessages) looks_owed_ = 0;  // none had more
    vain_looks_ = of_sockets == 0 ? vain_looks_ + 1 : 0;
    received += of_sockets;
  }
  Flush();
  // Otherwise there may be more of what they sent.
  if (received == 0) {
    for (const uint32_t slot : peers_.TakeGone()) {
      groups_.ForgetOthers();
      sink.OnPeerGone(slot);
    }
  }
  return received;
}

// What comes without system calls.
ABSL_ATTRIBUTE_HOT size_t HostNetwork::ReceiveQuietly(ArrivalSink& sink) {
  const auto on_frame = [this, &sink](const PeerFrame& frame) {
    OnFrame(frame, sink);
    return !sink.has_enough();
  };
  size_t received = 0;
  if (!loopback_.empty()) [[unlikely]]
    received = loopback_.Receive(kBudget, on_frame);
  if (sink.has_enough()) return received;
  received += inbound_.Receive(kBudget, on_frame);
  inbound_.Invite(!company_.any(now_));
  if (lent_.empty() || sink.has_enough()) [[likely]]
    return received;
  lent_.HandOutSome(sink);
  return received + 1;
}

ABSL_ATTRIBUTE_HOT size_t HostNetwork::ReceiveEvents(ArrivalSink& sink) {
  size_t received = 0;
  std::array<Event, EventSet::kMaxEvents> events;
  for (const Event& event : events_.Poll(events)) {
    switch (event.token.kind) {
      case EventToken::Kind::kSlot:
        received += ReceiveMessages(slot_socket_, sink);
        break;
      case EventToken::Kind::kService:
        if (const auto* socket = services_.SocketOf(event.token.number)) {
          received += ReceiveMessages(*socket, sink);
        }
        break;
      case EventToken::Kind::kOutbound:
        peers_.OnBell(event.token.number, event.hung_up, now_);
        break;
      case EventToken::Kind::kInbound:
        inbound_.OnBell(event.token.number, event.hung_up);
        break;
      case EventToken::Kind::kWirePort:
      case EventToken::Kind::kUdpSender:
        wire_.OnEvent(event, now_);
        break;
    }
  }
  received += wire_.Receive(
      kBudget,
      [this, &sink](const Path& path, std::span<const std::byte> packet) {
        OnWirePacket(path, packet, sink);
      });
  if (received > 0) ReceiveQuietly(sink);  // what came for this process
  return received;
}

size_t HostNetwork::ReceiveMessages(const UnixSocket& socket,
                                    ArrivalSink& sink) {
  std::array<std::byte, kMaxFrameBytes> buffer;
  size_t received = 0;
  for (; received < kMessages; ++received) {
    auto message = socket.Receive(buffer);
    if (!message.has_value()) break;
    OnMessage(*std::move(message), sink);
  }
  return received;
}

void HostNetwork::OnMessage(UnixMessage message, ArrivalSink& sink) {
  const bool trusted = message.uid == getuid() || message.uid == 0;
  if (!IsOfferOfLink(message.bytes)) {
    OnFrame({.trusted = trusted, .bytes = message.bytes}, sink);
  } else if (!names_.SlotFrom(message.sender).has_value() ||
             !inbound_.Adopt(std::move(message.fds), trusted, message.pid)
                  .ok()) {
    ++counters_.refused_links;
  }
}

bool HostNetwork::MayCome(const FrameHeader& header, bool trusted) {
  if (!header.from_wire && !trusted) [[unlikely]] {
    ++counters_.dropped_untrusted;
    return false;
  }
  if (header.from_wire == IsLocal(header.path.source) ||
      !(IsLocal(header.path.destination) ||
        IsMulticast(header.path.destination))) [[unlikely]] {
    ++counters_.dropped_bad_address;
    return false;
  }
  return true;
}

bool HostNetwork::IsForUs(const Path& path, Qpn destination) const {
  if (destination == kMulticastQpn) [[unlikely]]
    return groups_.Has(path.destination);
  return !IsMulticast(path.destination) &&
         (destination == kGsiQpn || SlotOf(destination) == slot_);
}

ABSL_ATTRIBUTE_HOT void HostNetwork::OnFrame(const PeerFrame& frame,
                                             ArrivalSink& sink) {
  std::span<const std::byte> bytes = frame.bytes;
  const auto header = FrameHeader::Read(bytes, frame.ends);
  if (!header || header->packets == 0 ||
      bytes.size() > MostBytesOf(header->packets)) [[unlikely]] {
    ++counters_.dropped_malformed;
    return;
  }
  if (!MayCome(*header, frame.trusted)) [[unlikely]]
    return;
  if (header->lent) [[unlikely]]
    return OnLentFrame(*header, frame, bytes, sink);
  HeaderCopy copy;
  Packet packet;
  if (!TakePacket(*header, bytes, copy, packet)) [[unlikely]]
    return;
  const Arrival arrival{.path = header->path, .packet = packet};
  if (lent_.empty() || !lent_.TakeBehind(arrival, sink)) [[likely]] {
    sink.OnArrival(arrival);
  }
}

ABSL_ATTRIBUTE_HOT bool HostNetwork::TakePacket(
    const FrameHeader& header, std::span<const std::byte> bytes,
    HeaderCopy& copy, Packet& packet) {
  if (ParseShared(bytes, copy, packet) != PacketFault::kNone) [[unlikely]] {
    ++counters_.dropped_malformed;
    return false;
  }
  packet.packets = header.packets;
  if (!IsForUs(header.path, packet.bth.destination)) [[unlikely]] {
    ++counters_.dropped_bad_qpn;
    return false;
  }
  ++counters_.received;
  company_.OnPacket(packet.bth.destination, now_);
  return true;
}

void HostNetwork::OnLentFrame(const FrameHeader& header, const PeerFrame& frame,
                              std::span<const std::byte> bytes,
                              ArrivalSink& sink) {
  const auto loan = TakeLoan(bytes);
  if (!loan) {
    ++counters_.dropped_malformed;
    return;
  }
  HeaderCopy copy;
  Packet packet;
  if (!TakePacket(header, bytes, copy, packet)) return;
  if (!IsBurst(packet) || !packet.payload.empty()) {
    ++counters_.dropped_malformed;
    return;
  }
  // It did not come by a ring, on which the sender is told that it may lend.
  if (frame.lender == nullptr) {
    ++counters_.dropped_loans;
    return;
  }
  lent_.Push(header.path, packet, *loan, *frame.lender, sink);
}

void HostNetwork::OnWirePacket(const Path& path,
                               std::span<const std::byte> packet,
                               ArrivalSink& sink) {
  Packet parsed;
  if (Parse(packet, parsed) != PacketFault::kNone) {
    ++counters_.dropped_malformed;
    return;
  }
  const FrameHeader header{.path = path, .from_wire = true};
  if (!MayCome(header, /*trusted=*/true)) return;
  const Qpn destination = parsed.bth.destination;
  const bool for_us = destination != kGsiQpn && IsForUs(path, destination);
  if (for_us) {
    ++counters_.received;
    company_.OnPacket(destination, now_);
    sink.OnArrival({.path = path, .packet = parsed});
  }
  if (!for_us || IsMulticast(path.destination)) {
    HandOn(destination, header, PacketSource(packet));
  }
}

void HostNetwork::HandOn(Qpn destination, const FrameHeader& header,
                         const PacketSource& packet) {
  if (!IsMulticast(header.path.destination)) {
    ++counters_.handed_on;
    SendLocally(destination, header, packet);
  } else if (destination != kMulticastQpn) {
    ++counters_.dropped_bad_qpn;
  } else if (SendToOthersInGroup(header, packet) > 0) {
    ++counters_.handed_on;
  } else if (!groups_.Has(header.path.destination)) {
    ++counters_.dropped_no_peer;
  }
}

std::optional<Instant> HostNetwork::NextDeadline() const {
  return Earlier(Earlier(peers_.retry_at(), mail_.NextDeadline()),
                 wire_.NextDeadline());
}

void HostNetwork::Mark() {
  loopback_.Mark();
  inbound_.Mark();
  lent_.Mark();
  looks_owed_ = kLooksForAll;
}

bool HostNetwork::Rest() {
  return loopback_.empty() && lent_.empty() && !peers_.any_gone() &&
         wire_.Rest() && inbound_.Rest();
}

}  // namespace nd::soft
