// The communication manager of one device: IB CM over QP1 (IBA vol. 1, ch. 12)
// with rdma_cm's addresses on top (annex A11), behind what rdma_cm's character
// device asks of the kernel.
#ifndef ND_SOFT_CM_MANAGER_H_
#define ND_SOFT_CM_MANAGER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/random.h"
#include "soft/cm/commands.h"
#include "soft/cm/connection_table.h"
#include "soft/cm/events.h"
#include "soft/cm/listeners.h"
#include "soft/cm/sidr.h"

namespace nd::soft {

// Takes commands, MADs and the time; appends MADs to send and events to `out`.
// Its caller calls Expire() once NextDeadline() has passed.
//
// Every handle, those in kConnectRequest too, lives until it is destroyed;
// after that it has no events. Commands fail with NotFound for a handle that is
// none of the right kind, FailedPrecondition at the wrong time and
// InvalidArgument for too much private data; one that fails does nothing.
//
// One thread at a time.
class CmManager {
 public:
  // The comm ids that this manager gives out, so that whoever distributes MADs
  // to several managers can tell them apart by the upper bits. There must be
  // more of them than max_connections.
  struct CommIdRange {
    uint32_t first = 0;
    int bits = 32;
  };
  struct Options {
    CmDevice device{};
    CommIdRange comm_ids{};
    // Connections and look-ups, those in timewait included. What would exceed
    // it is not connected, and the REQ or SIDR_REQ of a peer is ignored: it
    // comes again.
    size_t max_connections = size_t{1} << 16;
  };

  // `random` must outlive the manager.
  CmManager(Options options, Random& random);
  CmManager(const CmManager&) = delete;
  CmManager& operator=(const CmManager&) = delete;

  // What listens for RDMA_PS_UDP gets look-ups, what else connections. The
  // address is the caller's: see PortTable.
  CmHandle Listen(const CmListenOptions& options);
  // The application has seen this kConnectRequest: room for another.
  void RequestFetched(CmHandle request) { listeners_.Unqueue(request); }

  absl::StatusOr<CmHandle> Connect(const CmConnectOptions& options, Instant now,
                                   CmOutput& out);
  absl::Status Establish(CmHandle connection, Instant now, CmOutput& out);
  absl::Status Accept(CmHandle connection, const CmAcceptOptions& options,
                      Instant now, CmOutput& out);
  absl::Status Disconnect(CmHandle connection, PrivateDataView private_data,
                          Instant now, CmOutput& out);
  // A packet came to the connection's QP, or the application says that one
  // did. Does nothing unless an RTU is missing.
  void NotifyEstablished(CmHandle connection, Instant now, CmOutput& out);
  void NotifyFirstPacket(Qpn local_qpn, Instant now, CmOutput& out);
  absl::StatusOr<CmQpParams> QpParams(CmHandle connection, QpStage stage) const;

  absl::StatusOr<CmHandle> Resolve(const SidrResolveOptions& options,
                                   Instant now, CmOutput& out);
  absl::Status AcceptLookUp(CmHandle request, const SidrAcceptOptions& options,
                            Instant now, CmOutput& out);

  // Of a connection or a look-up.
  absl::Status Reject(CmHandle request, PrivateDataView private_data,
                      Instant now, CmOutput& out);
  // Of anything. With a listener go the requests that were not fetched.
  absl::Status Destroy(CmHandle handle, Instant now, CmOutput& out);

  // Of a peer, by its address and comm id: whether its process has ended.
  using IsGone = absl::FunctionRef<bool(const Gid& address, CommId id)>;
  // Ends the connections of such peers as their host's kernel would, which
  // destroys what a process leaves behind.
  void HandleGonePeers(IsGone gone, Instant now, CmOutput& out);

  void HandleMad(const CmDatagram& datagram, Instant now, CmOutput& out);
  void Expire(Instant now, CmOutput& out);
  std::optional<Instant> NextDeadline() const;

  // Whether a QP with this number has a connection, or had one and is in
  // timewait: no other QP may have the number.
  bool HoldsQpn(Qpn local_qpn) const {
    return connections_.HoldsQpn(local_qpn);
  }
  // Connections and look-ups, destroyed ones that are not over included.
  size_t size() const { return connections_.size() + sidr_.size(); }
  void set_gids(std::vector<Gid> gids) { device_.gids = std::move(gids); }

 private:
  // Why a REQ is refused.
  struct Refusal {
    RejectReason reason{};
    std::vector<uint8_t> information{};
  };

  void Handle(const CmReq& req, const CmDatagram& datagram, CmTurn& turn);
  void Handle(const CmMra& mra, const CmDatagram& datagram, CmTurn& turn);
  void Handle(const CmRej& rej, const CmDatagram& datagram, CmTurn& turn);
  void Handle(const CmRep& rep, const CmDatagram& datagram, CmTurn& turn);
  void Handle(const CmRtu& rtu, const CmDatagram& datagram, CmTurn& turn);
  void Handle(const CmDreq& dreq, const CmDatagram& datagram, CmTurn& turn);
  void Handle(const CmDrep& drep, const CmDatagram& datagram, CmTurn& turn);
  void Handle(const CmSidrReq& req, const CmDatagram& datagram, CmTurn& turn);
  void Handle(const CmSidrRep& rep, const CmDatagram& datagram, CmTurn& turn);

  std::optional<Refusal> RefusePath(const CmReq& req) const;
  void Refuse(const CmReq& req, const CmDatagram& datagram,
              const Refusal& refusal, CmTurn& turn) const;
  void Refuse(const CmSidrReq& req, const CmDatagram& datagram,
              SidrStatus status, CmTurn& turn) const;
  void AddRequest(const Connection::Request& request, CmTurn& turn);
  void DisconnectStale(Connection& connection, CmTurn& turn);
  void DestroyListener(CmHandle listener, CmTurn& turn);

  bool Full() const { return size() >= max_connections_; }
  CommId DrawCommId();
  CmHandle NextHandle() { return CmHandle{++last_handle_}; }
  // Tells a connection of an event, and settles it; null does nothing.
  template <typename Event>
  void Tell(Connection* connection, Event event);
  // Runs `command` on a connection.
  template <typename Command>
  absl::Status OnConnection(CmHandle handle, Command command);

  CmDevice device_;
  const CommIdRange comm_ids_;
  const size_t max_connections_;
  Random& random_;

  uint64_t last_handle_ = 0;
  Listeners listeners_;
  ConnectionTable connections_;
  SidrTable sidr_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_CM_MANAGER_H_
