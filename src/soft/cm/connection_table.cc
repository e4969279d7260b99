#include "soft/cm/connection_table.h"

namespace nd::soft {
namespace {

using State = Connection::State;

ConnectionTable::RemoteId RequestOf(const Connection& connection) {
  return {.peer = connection.peer(),
          .guid = connection.remote_guid(),
          .id = connection.remote_id()};
}

ConnectionTable::RemoteQp RemoteQpOf(const Connection& connection) {
  return {.peer = connection.peer(),
          .guid = connection.remote_guid(),
          .qpn = connection.remote_qpn()};
}

// Whether a REQ again is this connection's own.
bool HoldsRequest(const Connection& connection) {
  return !connection.requester() && connection.has_remote_id() &&
         !connection.closed();
}

// Whether another connection with the same QP of the peer is stale.
bool HoldsRemoteQp(const Connection& connection) {
  return connection.has_remote_id() && !connection.closed() &&
         !connection.abandoned() && connection.state() != State::kTimewait;
}

bool HasQp(const Connection& connection) {
  return connection.local_qpn() != Qpn{} && !connection.closed();
}

// Adds or takes away `key`, but never what another connection put there.
template <typename Map, typename Key>
void SetIndex(Map& map, const Key& key, CommId id, bool holds) {
  if (holds) {
    map.try_emplace(key, id);
    return;
  }
  const auto found = map.find(key);
  if (found != map.end() && found->second == id) map.erase(found);
}

}  // namespace

Connection& ConnectionTable::Add(const CmDevice& device,
                                 Connection::Identity identity) {
  by_handle_.emplace(identity.handle, identity.local_id);
  auto& slot = connections_[identity.local_id];
  slot = std::make_unique<Connection>(device, identity);
  return *slot;
}

void ConnectionTable::Settle(Connection& connection) {
  const CommId id = connection.local_id();
  SetIndex(by_request_, RequestOf(connection), id, HoldsRequest(connection));
  SetIndex(by_remote_qp_, RemoteQpOf(connection), id,
           HoldsRemoteQp(connection));
  const bool waits = connection.state() == State::kTimewait;
  SetIndex(by_qp_, connection.local_qpn(), id, HasQp(connection) && !waits);
  SetIndex(timewait_qps_, connection.local_qpn(), id,
           HasQp(connection) && waits);
  deadlines_.Set(id, connection.deadline());
  if (!connection.abandoned()) return;
  by_handle_.erase(connection.handle());
  if (connection.closed()) connections_.erase(id);
}

Connection* ConnectionTable::FindHandle(CmHandle handle) const {
  return Lookup(by_handle_, handle);
}

Connection* ConnectionTable::Find(const MessageIds& ids) const {
  Connection* const connection = FindReceiver(ids);
  return connection != nullptr && connection->has_remote_id() ? connection
                                                              : nullptr;
}

Connection* ConnectionTable::FindReceiver(const MessageIds& ids) const {
  const auto found = connections_.find(ids.receiver);
  if (found == connections_.end()) return nullptr;
  Connection& connection = *found->second;
  if (connection.peer() != ids.source) return nullptr;
  if (connection.has_remote_id() && connection.remote_id() != ids.sender) {
    return nullptr;
  }
  return &connection;
}

Connection* ConnectionTable::FindRequest(const RemoteId& id) const {
  return Lookup(by_request_, id);
}

Connection* ConnectionTable::FindRemoteQp(const RemoteQp& qp) const {
  return Lookup(by_remote_qp_, qp);
}

Connection* ConnectionTable::FindQp(Qpn local_qpn) const {
  return Lookup(by_qp_, local_qpn);
}

bool ConnectionTable::HoldsQpn(Qpn local_qpn) const {
  return by_qp_.contains(local_qpn) || timewait_qps_.contains(local_qpn);
}

std::vector<Connection*> ConnectionTable::FindAll(
    absl::FunctionRef<bool(const Connection&)> wanted) const {
  std::vector<Connection*> found;
  for (const auto& [id, connection] : connections_) {
    if (wanted(*connection)) found.push_back(connection.get());
  }
  return found;
}

Connection* ConnectionTable::PopDue(Instant now) {
  const std::optional<CommId> id = deadlines_.PopDue(now);
  return id ? connections_.at(*id).get() : nullptr;
}

template <typename Map, typename Key>
Connection* ConnectionTable::Lookup(const Map& map, const Key& key) const {
  const auto found = map.find(key);
  return found == map.end() ? nullptr : connections_.at(found->second).get();
}

}  // namespace nd::soft
