#include "soft/cm/manager.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "soft/cm/private_data.h"

namespace nd::soft {
namespace {

constexpr uint16_t kPkeyMask = 0x7fff;  // without the membership bit
constexpr uint8_t kMinPathMtu = 1;

// The addresses that an application sees must be the ones that the packets come
// from and go to.
bool AddressesFit(const CmReq& req, const CmDatagram& datagram,
                  const CmEndpoints& endpoints) {
  return endpoints.local.ip == req.local_gid &&
         req.local_gid == datagram.source &&
         endpoints.remote.ip == req.remote_gid;
}

ConnectionTable::MessageIds IdsOf(CommId sender, CommId receiver,
                                  const CmDatagram& datagram) {
  return {.sender = sender, .receiver = receiver, .source = datagram.source};
}

template <typename Message>
ConnectionTable::MessageIds IdsOf(const Message& message,
                                  const CmDatagram& datagram) {
  return IdsOf(message.local_id, message.remote_id, datagram);
}

void Reply(const CmDatagram& to, CmMessage message, CmTurn& turn) {
  turn.out.datagrams.push_back(
      {.source = to.destination,
       .destination = to.source,
       .mad = {.transaction_id = to.mad.transaction_id, .message = message}});
}

// Who gave a request up: the GUID that its REJ carries (IBA 12.6.7.2).
uint64_t GuidOf(const CmRej& rej) {
  ByteReader information{std::span<const uint8_t>(rej.information)};
  return information.ReadBe64();
}

absl::Status NoSuchHandle() { return absl::NotFoundError("no such handle"); }

absl::Status TooMany() {
  return absl::ResourceExhaustedError("too many connections");
}

}  // namespace

CmManager::CmManager(Options options, Random& random)
    : device_(std::move(options.device)),
      comm_ids_(options.comm_ids),
      max_connections_(options.max_connections),
      random_(random) {}

template <typename Event>
void CmManager::Tell(Connection* connection, Event event) {
  if (connection == nullptr) return;
  event(*connection);
  connections_.Settle(*connection);
}

// Commands.

CmHandle CmManager::Listen(const CmListenOptions& options) {
  const CmHandle handle = NextHandle();
  listeners_.Add(handle, options);
  return handle;
}

absl::StatusOr<CmHandle> CmManager::Connect(const CmConnectOptions& options,
                                            Instant now, CmOutput& out) {
  if (Full()) return TooMany();
  CmTurn turn{now, random_, out};
  Connection& connection = connections_.Add(
      device_, {.handle = NextHandle(), .local_id = DrawCommId()});
  const CmHandle handle = connection.handle();
  const absl::Status started = connection.Connect(options, turn);
  if (!started.ok()) connection.Abandon(turn);
  connections_.Settle(connection);
  if (!started.ok()) return started;
  return handle;
}

absl::Status CmManager::Establish(CmHandle connection, Instant now,
                                  CmOutput& out) {
  CmTurn turn{now, random_, out};
  return OnConnection(
      connection, [&turn](Connection& each) { return each.Establish(turn); });
}

absl::Status CmManager::Accept(CmHandle connection,
                               const CmAcceptOptions& options, Instant now,
                               CmOutput& out) {
  CmTurn turn{now, random_, out};
  return OnConnection(connection, [&options, &turn](Connection& each) {
    return each.Accept(options, turn);
  });
}

absl::Status CmManager::Disconnect(CmHandle connection,
                                   PrivateDataView private_data, Instant now,
                                   CmOutput& out) {
  CmTurn turn{now, random_, out};
  return OnConnection(connection, [private_data, &turn](Connection& each) {
    return each.Disconnect(private_data, turn);
  });
}

void CmManager::NotifyEstablished(CmHandle connection, Instant now,
                                  CmOutput& out) {
  CmTurn turn{now, random_, out};
  Tell(connections_.FindHandle(connection),
       [&turn](Connection& each) { each.HandleFirstPacket(turn); });
}

void CmManager::NotifyFirstPacket(Qpn local_qpn, Instant now, CmOutput& out) {
  CmTurn turn{now, random_, out};
  Tell(connections_.FindQp(local_qpn),
       [&turn](Connection& each) { each.HandleFirstPacket(turn); });
}

absl::StatusOr<CmQpParams> CmManager::QpParams(CmHandle connection,
                                               QpStage stage) const {
  const Connection* const found = connections_.FindHandle(connection);
  if (found == nullptr) return NoSuchHandle();
  return found->QpParams(stage);
}

absl::StatusOr<CmHandle> CmManager::Resolve(const SidrResolveOptions& options,
                                            Instant now, CmOutput& out) {
  if (Full()) return TooMany();
  CmTurn turn{now, random_, out};
  const CmHandle handle = NextHandle();
  if (auto status = sidr_.Resolve(handle, DrawCommId(), options, turn);
      !status.ok()) {
    return status;
  }
  return handle;
}

absl::Status CmManager::AcceptLookUp(CmHandle request,
                                     const SidrAcceptOptions& options,
                                     Instant now, CmOutput& out) {
  if (!sidr_.Contains(request)) return NoSuchHandle();
  CmTurn turn{now, random_, out};
  return sidr_.Accept(request, options, turn);
}

absl::Status CmManager::Reject(CmHandle request, PrivateDataView private_data,
                               Instant now, CmOutput& out) {
  CmTurn turn{now, random_, out};
  if (sidr_.Contains(request)) {
    return sidr_.Reject(request, private_data, turn);
  }
  return OnConnection(request, [private_data, &turn](Connection& each) {
    return each.Reject(private_data, turn);
  });
}

absl::Status CmManager::Destroy(CmHandle handle, Instant now, CmOutput& out) {
  CmTurn turn{now, random_, out};
  listeners_.Unqueue(handle);
  if (listeners_.Contains(handle)) {
    DestroyListener(handle, turn);
    return absl::OkStatus();
  }
  if (sidr_.Contains(handle)) {
    sidr_.Destroy(handle, turn);
    return absl::OkStatus();
  }
  return OnConnection(handle, [&turn](Connection& each) {
    each.Abandon(turn);
    return absl::OkStatus();
  });
}

void CmManager::DestroyListener(CmHandle listener, CmTurn& turn) {
  for (const CmHandle request : listeners_.Remove(listener)) {
    Destroy(request, turn.now, turn.out).IgnoreError();
  }
}

template <typename Command>
absl::Status CmManager::OnConnection(CmHandle handle, Command command) {
  Connection* const connection = connections_.FindHandle(handle);
  if (connection == nullptr) return NoSuchHandle();
  absl::Status status = command(*connection);
  connections_.Settle(*connection);
  return status;
}

// Messages.

void CmManager::HandleMad(const CmDatagram& datagram, Instant now,
                          CmOutput& out) {
  CmTurn turn{now, random_, out};
  std::visit([this, &datagram,
              &turn](const auto& message) { Handle(message, datagram, turn); },
             datagram.mad.message);
}

void CmManager::HandleGonePeers(IsGone gone, Instant now, CmOutput& out) {
  CmTurn turn{now, random_, out};
  for (Connection* const connection :
       connections_.FindAll([gone](const Connection& each) {
         return each.has_remote_id() && gone(each.peer(), each.remote_id());
       })) {
    Tell(connection, [&turn](Connection& each) { each.HandlePeerGone(turn); });
  }
}

// The order of the checks is Linux's.
void CmManager::Handle(const CmReq& req, const CmDatagram& datagram,
                       CmTurn& turn) {
  if (Connection* const same = connections_.FindRequest(
          {.peer = datagram.source, .guid = req.ca_guid, .id = req.local_id})) {
    same->HandleReqAgain(turn);
    return;
  }
  // IBA 12.9.8.3.1: a QP of the peer's can have one connection; it has lost the
  // other.
  if (Connection* const stale = connections_.FindRemoteQp(
          {.peer = datagram.source, .guid = req.ca_guid, .qpn = req.qpn})) {
    Refuse(req, datagram, {.reason = RejectReason::kStaleConnection}, turn);
    DisconnectStale(*stale, turn);
    return;
  }
  if (!listeners_.Serves(req.service_id)) {
    Refuse(req, datagram, {.reason = RejectReason::kInvalidServiceId}, turn);
    return;
  }
  if (const auto refusal = RefusePath(req)) {
    Refuse(req, datagram, *refusal, turn);
    return;
  }
  // What rdma_cm wants of it.
  const auto endpoints = ReadHeader(HeaderOf(req.private_data), req.service_id);
  const auto listener = listeners_.Match(
      req.service_id, req.remote_gid, static_cast<CmTransport>(req.transport));
  if (!listener || !endpoints || !AddressesFit(req, datagram, *endpoints)) {
    Refuse(req, datagram, {.reason = RejectReason::kConsumer}, turn);
    return;
  }
  AddRequest({.req = req,
              .transaction_id = datagram.mad.transaction_id,
              .listener = *listener,
              .endpoints = *endpoints},
             turn);
}

void CmManager::Handle(const CmMra& mra, const CmDatagram& datagram,
                       CmTurn& turn) {
  Tell(connections_.FindReceiver(IdsOf(mra, datagram)),
       [&mra, &turn](Connection& each) { each.HandleMra(mra, turn); });
}

void CmManager::Handle(const CmRej& rej, const CmDatagram& datagram,
                       CmTurn& turn) {
  // Who gives up a REQ that nobody answered has no id of ours to name.
  Connection* const found =
      rej.reason == RejectReason::kTimeout
          ? connections_.FindRequest({.peer = datagram.source,
                                      .guid = GuidOf(rej),
                                      .id = rej.local_id})
          : connections_.FindReceiver(IdsOf(rej, datagram));
  Tell(found, [&rej, &turn](Connection& each) { each.HandleRej(rej, turn); });
}

void CmManager::Handle(const CmRep& rep, const CmDatagram& datagram,
                       CmTurn& turn) {
  Connection* const found = connections_.FindReceiver(IdsOf(rep, datagram));
  if (found == nullptr) return;
  Connection* const other = connections_.FindRemoteQp(
      {.peer = datagram.source, .guid = rep.ca_guid, .qpn = rep.qpn});
  if (other != nullptr && other != found) {
    found->RefuseStaleRep(rep, turn);
    DisconnectStale(*other, turn);
  } else {
    found->HandleRep(rep, turn);
  }
  connections_.Settle(*found);
}

void CmManager::Handle(const CmRtu& rtu, const CmDatagram& datagram,
                       CmTurn& turn) {
  Tell(connections_.Find(IdsOf(rtu, datagram)),
       [&rtu, &turn](Connection& each) { each.HandleRtu(rtu, turn); });
}

void CmManager::Handle(const CmDreq& dreq, const CmDatagram& datagram,
                       CmTurn& turn) {
  Connection* const found = connections_.Find(IdsOf(dreq, datagram));
  if (found == nullptr) {
    // Long over here; the peer may end its side too.
    Reply(datagram,
          CmDrep{.local_id = dreq.remote_id, .remote_id = dreq.local_id}, turn);
    return;
  }
  found->HandleDreq(dreq, datagram.mad.transaction_id, turn);
  connections_.Settle(*found);
}

void CmManager::Handle(const CmDrep& drep, const CmDatagram& datagram,
                       CmTurn& turn) {
  Tell(connections_.Find(IdsOf(drep, datagram)),
       [&drep, &turn](Connection& each) { each.HandleDrep(drep, turn); });
}

void CmManager::Handle(const CmSidrReq& req, const CmDatagram& datagram,
                       CmTurn& turn) {
  if (sidr_.HandleReqAgain(req, datagram, turn)) return;
  if (!listeners_.Serves(req.service_id)) {
    Refuse(req, datagram, SidrStatus::kUnsupported, turn);
    return;
  }
  const auto endpoints = ReadHeader(HeaderOf(req.private_data), req.service_id);
  const auto listener =
      endpoints ? listeners_.Match(req.service_id, endpoints->remote.ip,
                                   CmTransport::kRc)
                : std::nullopt;
  if (!listener || endpoints->local.ip != datagram.source) {
    Refuse(req, datagram, SidrStatus::kReject, turn);
    return;
  }
  if (Full() || !listeners_.HasRoom(*listener)) return;
  const CmHandle handle = NextHandle();
  sidr_.HandleReq({.handle = handle,
                   .listener = *listener,
                   .req = req,
                   .endpoints = *endpoints,
                   .datagram = datagram},
                  turn);
  listeners_.Queue(*listener, handle);
}

void CmManager::Handle(const CmSidrRep& rep, const CmDatagram& datagram,
                       CmTurn& turn) {
  sidr_.HandleRep(rep, datagram, turn);
}

// What IB CM itself wants of a REQ.
std::optional<CmManager::Refusal> CmManager::RefusePath(
    const CmReq& req) const {
  const bool ours = std::ranges::count(device_.gids, req.remote_gid) > 0;
  if (!ours || (req.pkey & kPkeyMask) != kPkeyMask) {
    Refusal refusal{.reason = RejectReason::kInvalidGid};
    // IBA 12.6.7.2: a GID that would do.
    if (!device_.gids.empty()) {
      refusal.information = AllData(device_.gids.front());
    }
    return refusal;
  }
  if (req.path_mtu < kMinPathMtu || req.path_mtu > device_.max_path_mtu) {
    return Refusal{.reason = RejectReason::kInvalidMtu,
                   .information = {device_.max_path_mtu}};
  }
  return std::nullopt;
}

void CmManager::Refuse(const CmReq& req, const CmDatagram& datagram,
                       const Refusal& refusal, CmTurn& turn) const {
  CmRej rej{
      .remote_id = req.local_id,
      .message = kOfReq,
      .information_length = static_cast<uint8_t>(refusal.information.size()),
      .reason = refusal.reason};
  std::ranges::copy(refusal.information, rej.information.begin());
  Reply(datagram, rej, turn);
}

void CmManager::Refuse(const CmSidrReq& req, const CmDatagram& datagram,
                       SidrStatus status, CmTurn& turn) const {
  Reply(datagram,
        CmSidrRep{.request_id = req.request_id,
                  .status = static_cast<uint8_t>(status),
                  .service_id = req.service_id},
        turn);
}

void CmManager::AddRequest(const Connection::Request& request, CmTurn& turn) {
  // Not refused: the REQ comes again, and then there may be room.
  if (Full() || !listeners_.HasRoom(request.listener)) return;
  Connection& connection = connections_.Add(
      device_, {.handle = NextHandle(), .local_id = DrawCommId()});
  connection.HandleReq(request, turn);
  listeners_.Queue(request.listener, connection.handle());
  connections_.Settle(connection);
}

// IBA 12.9.8.3.1: the peer knows nothing of it any more, so it ends here too.
void CmManager::DisconnectStale(Connection& connection, CmTurn& turn) {
  connection.Disconnect({}, turn).IgnoreError();
  connections_.Settle(connection);
}

// Time.

void CmManager::Expire(Instant now, CmOutput& out) {
  CmTurn turn{now, random_, out};
  while (Connection* const due = connections_.PopDue(now)) {
    due->HandleTimeout(turn);
    connections_.Settle(*due);
  }
  sidr_.HandleTimeouts(turn);
}

std::optional<Instant> CmManager::NextDeadline() const {
  const auto connections = connections_.NextDeadline();
  const auto sidr = sidr_.NextDeadline();
  if (!connections || !sidr) return connections ? connections : sidr;
  return std::min(*connections, *sidr);
}

CommId CmManager::DrawCommId() {
  for (;;) {
    const uint64_t low = random_.Below(uint64_t{1} << comm_ids_.bits);
    const CommId id{comm_ids_.first | static_cast<uint32_t>(low)};
    const bool used = connections_.InUse(id) || sidr_.InUse(id);
    if (id != CommId{} && !used) return id;
  }
}

}  // namespace nd::soft
