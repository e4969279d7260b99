// All connections of a device, found by what a message names them with.
#ifndef ND_SOFT_CM_CONNECTION_TABLE_H_
#define ND_SOFT_CM_CONNECTION_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "soft/cm/connection.h"
#include "soft/cm/deadline_queue.h"

namespace nd::soft {

// Owns the connections. After each call to one, Settle() brings its indices
// and its deadline up to date and, once it is closed and abandoned, ends it.
// One thread at a time.
class ConnectionTable {
 public:
  // A peer's connection or QP, as the peer numbers it. Its address keeps one
  // peer from speaking for another.
  struct RemoteId {
    Gid peer{};
    uint64_t guid = 0;
    CommId id{};

    bool operator==(const RemoteId&) const = default;
    template <typename H>
    friend H AbslHashValue(H h, const RemoteId& key) {
      return H::combine(std::move(h), key.peer, key.guid, key.id);
    }
  };
  struct RemoteQp {
    Gid peer{};
    uint64_t guid = 0;
    Qpn qpn{};

    bool operator==(const RemoteQp&) const = default;
    template <typename H>
    friend H AbslHashValue(H h, const RemoteQp& key) {
      return H::combine(std::move(h), key.peer, key.guid, key.qpn);
    }
  };
  // What a message says: the sender's id, the receiver's, and who sent it.
  struct MessageIds {
    CommId sender{};
    CommId receiver{};
    Gid source{};
  };

  // A new one in kIdle, to be started and settled at once. Its id is free.
  Connection& Add(const CmDevice& device, Connection::Identity identity);
  void Settle(Connection& connection);

  bool InUse(CommId local_id) const { return connections_.contains(local_id); }
  size_t size() const { return connections_.size(); }

  // Each null if there is none.
  Connection* FindHandle(CmHandle handle) const;
  // By both ids.
  Connection* Find(const MessageIds& ids) const;
  // By the receiver's alone, if the peer's is not known yet or is the sender's.
  Connection* FindReceiver(const MessageIds& ids) const;
  // The acceptor's side of a request.
  Connection* FindRequest(const RemoteId& id) const;
  // A connection that is not in timewait.
  Connection* FindRemoteQp(const RemoteQp& qp) const;
  // With this QP of ours, not in timewait.
  Connection* FindQp(Qpn local_qpn) const;
  // Whether a connection has this QP of ours, or had it and is in timewait.
  bool HoldsQpn(Qpn local_qpn) const;

  std::vector<Connection*> FindAll(
      absl::FunctionRef<bool(const Connection&)> wanted) const;

  std::optional<Instant> NextDeadline() const { return deadlines_.Next(); }
  // One whose deadline has passed, to be told and settled; or null.
  Connection* PopDue(Instant now);

 private:
  template <typename Map, typename Key>
  Connection* Lookup(const Map& map, const Key& key) const;

  absl::flat_hash_map<CommId, std::unique_ptr<Connection>> connections_;
  absl::flat_hash_map<CmHandle, CommId> by_handle_;
  absl::flat_hash_map<RemoteId, CommId> by_request_;
  absl::flat_hash_map<RemoteQp, CommId> by_remote_qp_;
  absl::flat_hash_map<Qpn, CommId> by_qp_;
  absl::flat_hash_map<Qpn, CommId> timewait_qps_;
  DeadlineQueue<CommId> deadlines_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_CM_CONNECTION_TABLE_H_
