#include "control/session_messages.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"

namespace nd::control {
namespace {

constexpr int kMaxVersions = 16;
constexpr uint32_t kMaxCode = 16;  // UNAUTHENTICATED

EagerMode FromEnum(v1::EagerMode mode) {
  switch (mode) {
    case v1::EAGER_MODE_SEND:
      return EagerMode::kSend;
    case v1::EAGER_MODE_RING:
      return EagerMode::kRing;
    default:
      return EagerMode{0};  // which CheckLayout refuses
  }
}

std::string CutText(absl::string_view text) {
  if (text.size() <= kMaxText) return std::string(text);
  size_t size = kMaxText;
  // Bytes 10xxxxxx continue a character of UTF-8 (RFC 3629, 3).
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) {
    --size;
  }
  return std::string(text.substr(0, size));
}

Duration ToDuration(uint64_t ns) {
  return Duration(std::min<uint64_t>(
      ns, static_cast<uint64_t>(std::numeric_limits<int64_t>::max())));
}

}  // namespace

SessionLayout FromMessage(const v1::SessionLayout& message) {
  return {.latency_connections = message.latency_connections(),
          .bulk_connections = message.bulk_connections(),
          .slots = message.slots(),
          .slot_size = message.slot_size(),
          .eager_limit = message.eager_limit(),
          .eager_mode = FromEnum(message.eager_mode()),
          .digest = message.digest(),
          .keepalive_ns = message.keepalive_ns(),
          .stream_window = message.stream_window(),
          .max_streams = message.max_streams(),
          .receive_budget = message.receive_budget()};
}

v1::SessionLayout ToMessage(const SessionLayout& layout) {
  const auto to32 = [](uint64_t value) {
    // What does not fit is out of its range, and so is this.
    return static_cast<uint32_t>(
        std::min<uint64_t>(value, std::numeric_limits<uint32_t>::max()));
  };
  v1::SessionLayout message;
  message.set_latency_connections(to32(layout.latency_connections));
  message.set_bulk_connections(to32(layout.bulk_connections));
  message.set_slots(to32(layout.slots));
  message.set_slot_size(to32(layout.slot_size));
  message.set_eager_limit(to32(layout.eager_limit));
  message.set_eager_mode(static_cast<v1::EagerMode>(layout.eager_mode));
  message.set_digest(layout.digest);
  message.set_keepalive_ns(layout.keepalive_ns);
  message.set_stream_window(to32(layout.stream_window));
  message.set_max_streams(to32(layout.max_streams));
  message.set_receive_budget(layout.receive_budget);
  return message;
}

LinkLayout FromMessage(const v1::LinkLayout& message) {
  return {.send_depth = message.send_depth(),
          .receive_depth = message.receive_depth(),
          .ring_address = message.ring_address(),
          .ring_rkey = message.ring_rkey(),
          .ring_size = message.ring_size(),
          .max_rd_atomic = message.max_rd_atomic(),
          .max_dest_rd_atomic = message.max_dest_rd_atomic(),
          .path_mtu = message.path_mtu()};
}

v1::LinkLayout ToMessage(const LinkLayout& layout) {
  v1::LinkLayout message;
  message.set_send_depth(static_cast<uint32_t>(layout.send_depth));
  message.set_receive_depth(static_cast<uint32_t>(layout.receive_depth));
  message.set_ring_address(layout.ring_address);
  message.set_ring_rkey(layout.ring_rkey);
  message.set_ring_size(layout.ring_size);
  message.set_max_rd_atomic(static_cast<uint32_t>(layout.max_rd_atomic));
  message.set_max_dest_rd_atomic(
      static_cast<uint32_t>(layout.max_dest_rd_atomic));
  message.set_path_mtu(static_cast<uint32_t>(layout.path_mtu));
  return message;
}

LinkId FromMessage(const v1::Link& message) {
  return {.number = message.number(), .incarnation = message.incarnation()};
}

v1::Link ToMessage(const LinkId& link) {
  v1::Link message;
  message.set_number(link.number);
  message.set_incarnation(link.incarnation);
  return message;
}

Region FromMessage(const v1::Region& message) {
  return {.id = message.id(),
          .address = message.address(),
          .size = message.size(),
          .rkey = message.rkey(),
          .access = {.read = message.access().read(),
                     .write = message.access().write(),
                     .atomic = message.access().atomic()}};
}

v1::Region ToMessage(const Region& region) {
  v1::Region message;
  message.set_id(region.id);
  message.set_address(region.address);
  message.set_size(region.size);
  message.set_rkey(region.rkey);
  message.mutable_access()->set_read(region.access.read);
  message.mutable_access()->set_write(region.access.write);
  message.mutable_access()->set_atomic(region.access.atomic);
  return message;
}

absl::StatusOr<LinkPass> FromMessage(const v1::Pass& message,
                                     const verbs::SocketAddress& reached) {
  ND_RETURN_IF_ERROR(CheckRange("pass.port", message.port(), 1, 65535));
  LinkPass pass;
  pass.endpoint = reached;
  if (!message.address().empty()) {
    ND_ASSIGN_OR_RETURN(pass.endpoint,
                        verbs::SocketAddress::Parse(message.address(), 0));
  }
  pass.endpoint.set_port(static_cast<uint16_t>(message.port()));
  ND_ASSIGN_OR_RETURN(pass.token, Token::FromBytes(message.token()));
  pass.token_lifetime = ToDuration(message.token_lifetime_ns());
  for (const v1::Link& link : message.links()) {
    pass.links.push_back(FromMessage(link));
  }
  return pass;
}

v1::Pass ToMessage(const LinkPass& pass) {
  v1::Pass message;
  if (!pass.endpoint.is_wildcard()) message.set_address(pass.endpoint.host());
  message.set_port(pass.endpoint.port());
  message.set_token(pass.token.bytes());
  message.set_token_lifetime_ns(
      static_cast<uint64_t>(pass.token_lifetime.count()));
  for (const LinkId& link : pass.links) *message.add_links() = ToMessage(link);
  return message;
}

v1::Reason ToMessage(const absl::Status& why) {
  v1::Reason reason;
  reason.set_code(static_cast<uint32_t>(why.code()));
  reason.set_text(CutText(why.message()));
  return reason;
}

absl::Status CheckReason(const v1::Reason& reason) {
  ND_RETURN_IF_ERROR(CheckRange("reason.code", reason.code(), 0, kMaxCode));
  return CheckRange("reason.text", reason.text().size(), 0, kMaxText);
}

absl::Status FromMessage(const v1::Reason& reason) {
  return absl::Status(reason.code() > kMaxCode
                          ? absl::StatusCode::kUnknown
                          : static_cast<absl::StatusCode>(reason.code()),
                      reason.text());
}

v1::WatchEvent ToMessage(const SessionEvent& event) {
  v1::WatchEvent message;
  if (const auto* draining = std::get_if<Draining>(&event)) {
    message.mutable_draining()->set_text(CutText(draining->text));
    message.mutable_draining()->set_grace_ns(static_cast<uint64_t>(
        std::max(Duration::zero(), draining->grace).count()));
  } else if (const auto* region = std::get_if<RegionWithdrawn>(&event)) {
    message.mutable_region_withdrawn()->set_name(region->name);
    message.mutable_region_withdrawn()->set_id(region->id);
  } else {
    *message.mutable_session_closed()->mutable_reason() =
        ToMessage(std::get<SessionClosed>(event).why);
  }
  return message;
}

std::optional<SessionEvent> FromMessage(const v1::WatchEvent& message) {
  switch (message.event_case()) {
    case v1::WatchEvent::kDraining:
      return Draining{.text = message.draining().text(),
                      .grace = ToDuration(message.draining().grace_ns())};
    case v1::WatchEvent::kRegionWithdrawn:
      return RegionWithdrawn{.name = message.region_withdrawn().name(),
                             .id = message.region_withdrawn().id()};
    case v1::WatchEvent::kSessionClosed:
      return SessionClosed{FromMessage(message.session_closed().reason())};
    case v1::WatchEvent::kStarted:
    case v1::WatchEvent::EVENT_NOT_SET:
      return std::nullopt;
  }
  return std::nullopt;
}

absl::StatusOr<uint32_t> ChooseVersion(const v1::OpenSessionRequest& request) {
  ND_RETURN_IF_ERROR(CheckRange("versions",
                                static_cast<uint64_t>(request.versions_size()),
                                1, kMaxVersions));
  if (std::ranges::find(request.versions(), kSessionVersion) !=
      request.versions().end()) {
    return kSessionVersion;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "versions: ", absl::StrJoin(request.versions(), ", "),
      ", of which this server speaks none, only ", kSessionVersion));
}

}  // namespace nd::control
