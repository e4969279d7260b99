// What each command does. Each changes all it has to before it delivers, which
// may bring events.
#include <infiniband/verbs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "soft/abi/ucma.h"
#include "soft/cm/timing.h"

namespace nd::soft {
namespace {

using State = UcmaId::State;

constexpr uint8_t kHopLimit = 64;
constexpr uint8_t kMostRetries = 7;
constexpr int kMostAckTimeout = 31;  // five bits
constexpr uint32_t kMostBacklog = 1024;
constexpr uint8_t kVendorOptionNotSupported = 35;

template <typename T>
std::span<const std::byte> BytesOf(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

int ErrnoOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kAlreadyExists:
      return -EADDRINUSE;
    case absl::StatusCode::kResourceExhausted:
      return -ENOMEM;
    case absl::StatusCode::kPermissionDenied:
      return -EACCES;
    case absl::StatusCode::kUnavailable:
      return -ENETUNREACH;
    default:
      return -EINVAL;
  }
}

// As of Linux's cma_check_port, and where there is no port to pick.
int PortErrnoOf(const absl::Status& status) {
  const bool none =
      absl::IsFailedPrecondition(status) || absl::IsResourceExhausted(status);
  return none ? -EADDRNOTAVAIL : ErrnoOf(status);
}

std::optional<UcmaQpType> QpTypeOf(const rdma_ucm_create_id& command) {
  switch (command.ps) {
    case RDMA_PS_TCP:
      return UcmaQpType::kRc;
    case RDMA_PS_UDP:
    case RDMA_PS_IPOIB:
      return UcmaQpType::kUd;
    case RDMA_PS_IB:
      break;
    default:
      return std::nullopt;
  }
  switch (static_cast<UcmaQpType>(command.qp_type)) {
    case UcmaQpType::kRc:
    case UcmaQpType::kUc:
    case UcmaQpType::kUd:
      return static_cast<UcmaQpType>(command.qp_type);
  }
  return std::nullopt;
}

CmTransport TransportOf(const UcmaId& id) {
  return id.type == UcmaQpType::kUc ? CmTransport::kUc : CmTransport::kRc;
}

std::optional<PortSpace> KnownSpace(uint64_t value) {
  switch (static_cast<PortSpace>(value)) {
    case PortSpace::kTcp:
    case PortSpace::kUdp:
    case PortSpace::kIb:
      if (value <= UINT16_MAX) return static_cast<PortSpace>(value);
  }
  return std::nullopt;
}

// An AF_IB address names the space in its service id; an id of RDMA_PS_IB may
// use any, others only their own.
std::optional<PortSpace> SpaceOf(const UcmaId& id,
                                 const UcmaSockaddr& address) {
  if (address.family != kIbFamily) return KnownSpace(id.space);
  const uint64_t named = (address.service_id & address.service_id_mask) >> 16;
  if (id.space != RDMA_PS_IB && named != id.space) return std::nullopt;
  return KnownSpace(named);
}

UcmaSockaddr LoopbackOf(const UcmaSockaddr& any) {
  UcmaSockaddr loopback = any;
  Gid& ip = loopback.endpoint.ip;
  if (IsIpv4(ip)) ip[12] = 127;
  ip[15] = 1;
  return loopback;
}

PrivateDataView PrivateDataOf(const rdma_ucm_conn_param& param) {
  return PrivateDataView(param.private_data).first(param.private_data_len);
}

Qpn QpnOf(const rdma_ucm_conn_param& param) {
  return Qpn{param.qp_num & Psn::kMask};
}

std::optional<QpStage> StageOf(uint32_t qp_state) {
  switch (qp_state) {
    case IBV_QPS_INIT:
      return QpStage::kInit;
    case IBV_QPS_RTR:
      return QpStage::kRtr;
    case IBV_QPS_RTS:
      return QpStage::kRts;
    default:
      return std::nullopt;
  }
}

}  // namespace

// Ids.

int Ucma::CreateId(UcmaFile file, const rdma_ucm_create_id& command,
                   rdma_ucm_create_id_resp& answer) {
  const auto type = QpTypeOf(command);
  if (!type) return -EINVAL;
  UcmaId* const id = AddId(file);
  if (id == nullptr) return -ENOMEM;
  id->uid = command.uid;
  id->space = command.ps;
  id->type = *type;
  answer.id = id->number;
  return 0;
}

int Ucma::DestroyId(UcmaId& id, const rdma_ucm_destroy_id&,
                    rdma_ucm_destroy_id_resp& answer) {
  answer.events_reported = id.events_reported;
  CmOutput output;
  Release(id, output);
  Deliver(output);
  return 0;
}

// Addresses.

int Ucma::BindIp(UcmaId& id, const rdma_ucm_bind_ip& command) {
  const auto address = UcmaSockaddr::Read(BytesOf(command.addr));
  return address ? BindTo(id, *address, /*announced=*/true) : -EINVAL;
}

int Ucma::Bind(UcmaId& id, const rdma_ucm_bind& command) {
  const auto address = UcmaSockaddr::Read(BytesOf(command.addr));
  if (!address || address->size() != command.addr_size) return -EINVAL;
  if (command.reserved != 0) return -EINVAL;
  return BindTo(id, *address, /*announced=*/true);
}

int Ucma::BindTo(UcmaId& id, const UcmaSockaddr& address, bool announced) {
  if (id.state != State::kIdle) return -EINVAL;
  const auto space = SpaceOf(id, address);
  if (!space) return -EPROTONOSUPPORT;
  CmEndpoint local = address.endpoint;
  const bool any = address.IsAny();
  if (!any) {
    if (const int error = FindLocalGid(address, local.ip)) return error;
  }
  const auto bound = host_.BindPort({.space = *space,
                                     .local = local,
                                     .reuse_address = id.reuse_address,
                                     .ipv6_only = id.ipv6_only,
                                     .loopback = address.IsLoopback()},
                                    announced);
  if (!bound.ok()) return PortErrnoOf(bound.status());
  id.claim = bound->claim;
  id.announced = announced;
  if (!any) id.source = local.ip;
  id.local = address;
  id.local.endpoint.port = bound->port;
  if (address.family == kIbFamily) {
    id.local.service_id = ServiceId(*space, bound->port);
    id.local.service_id_mask = ~uint64_t{0};
  }
  id.state = State::kBound;
  return 0;
}

// Which of the device's addresses is meant: the one that loopback leads to, or
// this very one.
int Ucma::FindLocalGid(const UcmaSockaddr& address, Gid& gid) {
  gid = address.endpoint.ip;
  if (host_.GidIndex(gid) >= 0) return 0;
  if (address.IsLoopback()) {
    const auto source = host_.SourceFor(gid);
    if (!source.ok() || host_.GidIndex(*source) < 0) return -ENODEV;
    gid = *source;
    return 0;
  }
  return host_.IsLocal(gid) ? -ENODEV : -EADDRNOTAVAIL;
}

int Ucma::ResolveIp(UcmaId& id, const rdma_ucm_resolve_ip& command) {
  const auto source = UcmaSockaddr::Read(BytesOf(command.src_addr));
  const auto destination = UcmaSockaddr::Read(BytesOf(command.dst_addr));
  if (command.src_addr.sin6_family != 0 && !source) return -EINVAL;
  if (!destination) return -EINVAL;
  return Resolve(
      id, {.source = source ? &*source : nullptr, .destination = *destination});
}

int Ucma::ResolveAddr(UcmaId& id, const rdma_ucm_resolve_addr& command) {
  const auto source = UcmaSockaddr::Read(BytesOf(command.src_addr));
  const auto destination = UcmaSockaddr::Read(BytesOf(command.dst_addr));
  if (command.src_size != 0 &&
      (!source || source->size() != command.src_size)) {
    return -EINVAL;
  }
  if (!destination || destination->size() != command.dst_size) return -EINVAL;
  if (command.reserved != 0) return -EINVAL;
  return Resolve(
      id, {.source = source ? &*source : nullptr, .destination = *destination});
}

// No route is an error at once, as on Linux; a route that does not lead over
// the device is an event.
int Ucma::Resolve(UcmaId& id, const Resolution& resolution) {
  const UcmaSockaddr& destination = resolution.destination;
  // Its requests would carry no addresses that the manager knows.
  if (destination.family == kIbFamily) return -EAFNOSUPPORT;
  if (Full(id.file)) return -ENOMEM;
  if (id.state == State::kIdle) {
    const UcmaSockaddr any = UcmaSockaddr::Wildcard(destination.family);
    const UcmaSockaddr& source =
        resolution.source != nullptr ? *resolution.source : any;
    if (const int error = BindTo(id, source, /*announced=*/false)) return error;
  }
  if (id.state != State::kBound || id.local.family != destination.family) {
    return -EINVAL;
  }
  // 0.0.0.0 means this host, as 127.0.0.1 does.
  const UcmaSockaddr target =
      destination.IsAny() ? LoopbackOf(destination) : destination;
  // Datagrams to a group leave by the interface of their address.
  const bool to_group = IsMulticast(target.endpoint.ip);
  const auto route = to_group && id.source
                         ? absl::StatusOr<Gid>(*id.source)
                         : host_.SourceFor(target.endpoint.ip);
  if (!route.ok()) return ErrnoOf(route.status());
  const Gid source = id.source.value_or(*route);
  if (host_.GidIndex(source) < 0) {
    Push(id, UcmaEventType::kAddrError, -ENODEV);
    return 0;
  }
  id.destination = target.IsLoopback() ? source : target.endpoint.ip;
  id.source = source;
  if (id.local.IsAny()) id.local.endpoint.ip = source;
  id.remote = destination;
  if (destination.IsAny()) id.remote.endpoint.ip = source;
  id.state = State::kAddressResolved;
  Push(id, UcmaEventType::kAddrResolved);
  return 0;
}

int Ucma::ResolveRoute(UcmaId& id, const rdma_ucm_resolve_route& command) {
  if (id.state != State::kAddressResolved) return -EINVAL;
  if (command.timeout_ms == 0) return -EINVAL;
  id.path = PathOf(id);
  id.state = State::kRouteResolved;
  Push(id, UcmaEventType::kRouteResolved);
  return 0;
}

UcmaPath Ucma::PathOf(const UcmaId& id) {
  UcmaPath path{.source = *id.source,
                .destination = *id.destination,
                .flow_label = FlowLabel(
                    {.local = id.local.endpoint, .remote = id.remote.endpoint}),
                .traffic_class = id.tos,
                .hop_limit = kHopLimit,
                .mtu = host_.path_mtu(),
                .packet_life_time = kPacketLifeTime};
  // The QP's timeout is that of the way there and back; 0 is none.
  if (id.ack_timeout.value_or(0) > 0) {
    path.packet_life_time = *id.ack_timeout - 1;
  }
  return path;
}

// Queries.

int Ucma::QueryRoute(UcmaId& id, const rdma_ucm_query&,
                     rdma_ucm_query_route_resp& answer) {
  answer = DescribeRoute(id, Device());
  return 0;
}

int Ucma::QueryAddr(UcmaId& id, const rdma_ucm_query&,
                    rdma_ucm_query_addr_resp& answer) {
  answer = DescribeAddresses(id, Device());
  return 0;
}

int Ucma::QueryGid(UcmaId& id, const rdma_ucm_query&,
                   rdma_ucm_query_addr_resp& answer) {
  answer = DescribeGids(id, Device());
  return 0;
}

int Ucma::QueryPath(UcmaId& id, const rdma_ucm_query&, UcmaPathAnswer& answer) {
  answer.num_paths = id.path ? 1 : 0;
  if (id.path) answer.path = DescribePath(*id.path);
  return 0;
}

// Connections.

int Ucma::Connect(UcmaId& id, const rdma_ucm_connect& command) {
  if (command.conn_param.valid == 0) return -EINVAL;
  if (id.state != State::kRouteResolved) return -EINVAL;
  const CmConnectOptions options = ConnectOptions(id, command.conn_param);
  CmOutput output;
  const auto handle =
      id.datagram()
          ? host_.manager().Resolve({.space = options.space,
                                     .endpoints = options.endpoints,
                                     .private_data = options.private_data},
                                    host_.Now(), output)
          : host_.manager().Connect(options, host_.Now(), output);
  if (!handle.ok()) return ErrnoOf(handle.status());
  SetHandle(id, *handle);
  id.state = State::kConnected;
  Deliver(output);
  return 0;
}

CmConnectOptions Ucma::ConnectOptions(const UcmaId& id,
                                      const rdma_ucm_conn_param& param) const {
  return {
      .space = static_cast<PortSpace>(id.space),
      .transport = TransportOf(id),
      .endpoints = {.local = {.ip = *id.source, .port = id.local.endpoint.port},
                    .remote = {.ip = *id.destination,
                               .port = id.remote.endpoint.port}},
      .qpn = QpnOf(param),
      .srq = param.srq != 0,
      .responder_resources = param.responder_resources,
      .initiator_depth = param.initiator_depth,
      .flow_control = param.flow_control != 0,
      .retry_count = std::min(param.retry_count, kMostRetries),
      .rnr_retry_count = std::min(param.rnr_retry_count, kMostRetries),
      .path_mtu = id.path->mtu,
      .traffic_class = id.path->traffic_class,
      .hop_limit = id.path->hop_limit,
      .packet_life_time = id.path->packet_life_time,
      .private_data = PrivateDataOf(param)};
}

int Ucma::Listen(UcmaId& id, const rdma_ucm_listen& command) {
  if (id.state == State::kIdle) {
    const UcmaSockaddr any = UcmaSockaddr::Wildcard(AF_INET);
    if (const int error = BindTo(id, any, /*announced=*/true)) return error;
  }
  if (id.state != State::kBound || !id.announced) return -EINVAL;
  if (id.local.family == kIbFamily) return -EOPNOTSUPP;
  if (const auto status = host_.ListenOnPort(*id.claim); !status.ok()) {
    return PortErrnoOf(status);
  }
  const uint32_t backlog = std::min(command.backlog, kMostBacklog);
  SetHandle(id, host_.manager().Listen(
                    {.space = static_cast<PortSpace>(id.space),
                     .transport = TransportOf(id),
                     .local = {.ip = id.source.value_or(id.local.endpoint.ip),
                               .port = id.local.endpoint.port},
                     .ipv6_only = id.ipv6_only,
                     .backlog = static_cast<int>(backlog)}));
  id.state = State::kListening;
  return 0;
}

// The requester's librdmacm accepts too, without parameters: its QP is ready.
int Ucma::Accept(UcmaId& id, const rdma_ucm_accept& command) {
  if (id.state != State::kConnected) return -EINVAL;
  CmOutput output;
  const absl::Status status = AcceptWith(id, command.conn_param, output);
  if (!status.ok()) {
    // As Linux does: who cannot accept refuses.
    host_.manager().Reject(id.handle, {}, host_.Now(), output).IgnoreError();
  } else if (command.conn_param.valid != 0) {
    id.uid = command.uid;
  }
  Deliver(output);
  return ErrnoOf(status);
}

absl::Status Ucma::AcceptWith(UcmaId& id, const rdma_ucm_conn_param& param,
                              CmOutput& output) {
  CmManager& manager = host_.manager();
  const Instant now = host_.Now();
  if (id.datagram()) {
    return manager.AcceptLookUp(id.handle,
                                {.qpn = QpnOf(param),
                                 .qkey = Qkey{kUdpQkey},
                                 .private_data = PrivateDataOf(param)},
                                now, output);
  }
  if (param.valid == 0) return manager.Establish(id.handle, now, output);
  return manager.Accept(
      id.handle,
      {.qpn = QpnOf(param),
       .srq = param.srq != 0,
       .responder_resources = param.responder_resources,
       .initiator_depth = param.initiator_depth,
       .flow_control = param.flow_control != 0,
       .rnr_retry_count = std::min(param.rnr_retry_count, kMostRetries),
       .private_data = PrivateDataOf(param)},
      now, output);
}

int Ucma::Reject(UcmaId& id, const rdma_ucm_reject& command) {
  switch (command.reason) {
    case 0:
    case static_cast<uint8_t>(RejectReason::kConsumer):
    case kVendorOptionNotSupported:  // told as kConsumer
      break;
    default:
      return -EINVAL;
  }
  if (id.state != State::kConnected) return -EINVAL;
  CmOutput output;
  const absl::Status status = host_.manager().Reject(
      id.handle,
      PrivateDataView(command.private_data).first(command.private_data_len),
      host_.Now(), output);
  Deliver(output);
  return ErrnoOf(status);
}

// Once there was an attempt to connect it succeeds, whatever became of that.
int Ucma::Disconnect(UcmaId& id, const rdma_ucm_disconnect&) {
  if (id.state != State::kConnected) return -EINVAL;
  CmOutput output;
  host_.manager().Disconnect(id.handle, {}, host_.Now(), output).IgnoreError();
  Deliver(output);
  return 0;
}

int Ucma::InitQpAttr(UcmaId& id, const rdma_ucm_init_qp_attr& command,
                     ib_uverbs_qp_attr& answer) {
  if (!id.on_device() || command.qp_state > IBV_QPS_ERR) return -EINVAL;
  if (id.datagram() || id.state != State::kConnected) {
    answer = DescribeQp(id, command.qp_state);
  } else {
    const auto stage = StageOf(command.qp_state);
    if (!stage) return -EINVAL;
    const auto params = host_.manager().QpParams(id.handle, *stage);
    if (!params.ok()) return -EINVAL;
    const int gid_index = host_.GidIndex(params->source);
    if (gid_index < 0) return -EINVAL;  // the address has gone
    answer = DescribeQp(id, *stage, *params, gid_index);
  }
  return 0;
}

int Ucma::Notify(UcmaId& id, const rdma_ucm_notify& command) {
  if (!id.on_device()) return 0;
  if (command.event != IBV_EVENT_COMM_EST) return -EINVAL;
  if (id.state != State::kConnected) return -EINVAL;
  CmOutput output;
  host_.manager().NotifyEstablished(id.handle, host_.Now(), output);
  Deliver(output);
  return 0;
}

// Multicast. Whether datagrams come is up to the queue pair that librdmacm, or
// the program, attaches to the group; an id that joined tells where to send.

int Ucma::JoinIpMcast(UcmaId& id, const rdma_ucm_join_ip_mcast& command,
                      rdma_ucm_create_id_resp& answer) {
  const auto address = UcmaSockaddr::Read(BytesOf(command.addr));
  if (!address) return -EINVAL;
  return JoinGroup(id, address->endpoint.ip, command.uid, answer);
}

int Ucma::JoinMcast(UcmaId& id, const rdma_ucm_join_mcast& command,
                    rdma_ucm_create_id_resp& answer) {
  const auto address = UcmaSockaddr::Read(BytesOf(command.addr));
  if (!address || address->size() != command.addr_size) return -EINVAL;
  if (command.join_flags != RDMA_MC_JOIN_FLAG_FULLMEMBER &&
      command.join_flags != RDMA_MC_JOIN_FLAG_SENDONLY_FULLMEMBER) {
    return -EINVAL;
  }
  return JoinGroup(id, address->endpoint.ip, command.uid, answer);
}

int Ucma::JoinGroup(UcmaId& id, const Gid& group, uint64_t uid,
                    rdma_ucm_create_id_resp& answer) {
  if (!id.on_device() || !id.datagram() || !IsMulticast(group)) return -EINVAL;
  if (id.state != State::kBound && id.state != State::kAddressResolved) {
    return -EINVAL;
  }
  if (Full(id.file) || joins_.size() == kMaxJoins) return -ENOMEM;
  do {
    ++last_join_;
  } while (last_join_ == 0 || joins_.contains(last_join_));
  joins_[last_join_] = {.owner = id.number};
  id.joins.push_back(last_join_);
  answer.id = last_join_;
  const UcmaGroup joined{.number = last_join_, .uid = uid, .group = group};
  Push(id.file,
       {.owner = id.number,
        .join = last_join_,
        .answer = DescribeJoin(id, joined, host_.GidIndex(*id.source))});
  return 0;
}

int Ucma::LeaveMcast(UcmaFile file, const rdma_ucm_destroy_id& command,
                     rdma_ucm_destroy_id_resp& answer) {
  const auto join = joins_.find(command.id);
  if (join == joins_.end()) return -ENOENT;
  UcmaId& id = *ids_.at(join->second.owner);
  if (id.file != file) return -EINVAL;
  answer.events_reported = join->second.events_reported;
  TakeEvents(id, command.id);
  std::erase(id.joins, command.id);
  joins_.erase(join);
  return 0;
}

// Options.

int Ucma::SetOption(UcmaId& id, const rdma_ucm_set_option& command) {
  if (command.optval == 0 && command.optlen != 0) return -EFAULT;
  const std::span<const std::byte> value(ApplicationMemory(command.optval),
                                         command.optlen);
  switch (command.level) {
    case RDMA_OPTION_ID:
      return SetIdOption(id, command.optname, value);
    case RDMA_OPTION_IB:
      return command.optname == RDMA_OPTION_IB_PATH ? SetIbPath(id, value)
                                                    : -ENOSYS;
    default:
      return -ENOSYS;
  }
}

int Ucma::SetIdOption(UcmaId& id, uint32_t name,
                      std::span<const std::byte> value) {
  const bool byte =
      name == RDMA_OPTION_ID_TOS || name == RDMA_OPTION_ID_ACK_TIMEOUT;
  if (name > RDMA_OPTION_ID_ACK_TIMEOUT) return -ENOSYS;
  if (value.size() != (byte ? sizeof(uint8_t) : sizeof(int))) return -EINVAL;
  int number = 0;
  if (byte) {
    number = std::to_integer<uint8_t>(value.front());
  } else {
    std::memcpy(&number, value.data(), sizeof(number));
  }
  switch (name) {
    case RDMA_OPTION_ID_TOS:
      id.tos = static_cast<uint8_t>(number);
      return 0;
    case RDMA_OPTION_ID_REUSEADDR:
      if (id.state != State::kIdle &&
          (number == 0 || id.state == State::kListening)) {
        return -EINVAL;
      }
      id.reuse_address = number != 0;
      return 0;
    case RDMA_OPTION_ID_AFONLY:
      if (id.state > State::kBound) return -EINVAL;
      id.ipv6_only = number != 0;
      return 0;
    case RDMA_OPTION_ID_ACK_TIMEOUT:
      if (id.type != UcmaQpType::kRc || number > kMostAckTimeout) {
        return -EINVAL;
      }
      id.ack_timeout = static_cast<uint8_t>(number);
      return 0;
    default:
      return -ENOSYS;
  }
}

// What the records say does not count: the way is where the addresses lead.
int Ucma::SetIbPath(UcmaId& id, std::span<const std::byte> records) {
  constexpr uint32_t kWanted =
      IB_PATH_GMP | IB_PATH_PRIMARY | IB_PATH_BIDIRECTIONAL;
  constexpr size_t kRecord = sizeof(ib_path_rec_data);
  if (records.size() % kRecord != 0) return -EINVAL;
  for (; !records.empty(); records = records.subspan(kRecord)) {
    uint32_t flags = 0;
    std::memcpy(&flags, records.data(), sizeof(flags));
    if (flags == kWanted) break;
  }
  if (records.empty() || id.state != State::kAddressResolved) return -EINVAL;
  id.path = PathOf(id);
  id.state = State::kRouteResolved;
  Push(id, UcmaEventType::kRouteResolved);
  return 0;
}

}  // namespace nd::soft
