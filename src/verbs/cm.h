// rdma_cm: connections by address, as events with deadlines.
//
// A CmId never owns a QP: the QueuePair is made on nd's own Context and moved
// with the attributes that the CM hands out, so each failure names its step and
// objects can go in any order.
//
// How these calls fail, with the addresses, the step and the cause in words:
//   DEADLINE_EXCEEDED    the deadline passed, CANCELLED  it was given up
//   UNAVAILABLE          no route, the host does not answer, nobody listens
//                        there, the peer went away, the device went away
//   ABORTED              the application there said no and why: RejectionOf
//   RESOURCE_EXHAUSTED   the peer has no QP or memory left
//   FAILED_PRECONDITION  no RDMA device here for that address; the peer's CM
//                        refused what was asked; the id is in another state
//   INVALID_ARGUMENT     a parameter is out of its limits
// After a failed Resolve, Connect or Accept the id is good for nothing but
// destruction.
#ifndef ND_VERBS_CM_H_
#define ND_VERBS_CM_H_

#include <rdma/rdma_cma.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "base/wait.h"
#include "verbs/address.h"
#include "verbs/queue_pair.h"

namespace nd::verbs {

class CmId;
struct CmInbox;

// Private data that fits into each message (RDMA_PS_TCP). Its length does not
// travel: the receiver sees as many bytes, padded with zeros.
inline constexpr size_t kMaxConnectData = 56;  // REQ
inline constexpr size_t kMaxAcceptData = 196;  // REP
inline constexpr size_t kMaxRejectData = 148;  // REJ

// What travels with a REQ or REP.
struct ConnectParams {
  std::span<const std::byte> private_data = {};
  // READs and atomics: lowered to what the device can and the peer agrees to.
  uint8_t responder_resources = 1;  // served at a time
  uint8_t initiator_depth = 1;      // and sent at a time
  uint8_t retry_count = 7;  // of both sides; only the connecting one is asked
  uint8_t rnr_retry_count = 7;  // of the peer's sends to this side; 7: for ever
};

// The peer's refusal.
struct CmRejection {
  int reason =
      0;  // 8: nobody listens, 28: the application; ExplainRejectReason
  std::vector<std::byte> private_data;  // the application's, with its padding
};

// The refusal that made Connect or Accept fail, for whoever knows what the
// private data means. Annotate keeps it.
std::optional<CmRejection> RejectionOf(const absl::Status& status);

// An event, copied and already acknowledged, so that nothing waits for whoever
// holds it.
struct CmEvent {
  rdma_cm_event_type type{};
  int status = 0;  // negative errno, or the reject reason of the IB CM
  std::vector<std::byte> private_data;
  uint8_t responder_resources = 0;  // as this side sees them
  uint8_t initiator_depth = 0;
  std::unique_ptr<CmId> request;  // of CONNECT_REQUEST

  // "RDMA_CM_EVENT_REJECTED: nobody listens at that port (reason 8)"
  std::string ToString() const;

  // Why the event ends a wait for another one; a rejection carries its payload.
  absl::Status ToStatus(absl::string_view context) const;
};

// Where CM events of many ids arrive. Thread-safe: whoever waits for an event
// of one id reads the events of all and files them with their ids.
class CmEventChannel : public std::enable_shared_from_this<CmEventChannel> {
 public:
  // FAILED_PRECONDITION when this host has no RDMA device.
  static absl::StatusOr<std::shared_ptr<CmEventChannel>> Create();

  ~CmEventChannel();
  CmEventChannel(const CmEventChannel&) = delete;
  CmEventChannel& operator=(const CmEventChannel&) = delete;

  // Readable when events wait to be dispatched: for a reactor.
  int fd() const { return channel_->fd; }

  // Files the events that wait with their ids, without blocking. fd() stays
  // readable when there were so many that some are left.
  absl::Status Dispatch();

 private:
  friend class CmId;

  explicit CmEventChannel(rdma_event_channel* channel);
  void File(const rdma_cm_event& raw) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  rdma_event_channel* const channel_;
  // Held while librdmacm fills an id in, which it does in calls of the id's
  // owner and when an event is read, and until the event is filed.
  absl::Mutex mutex_;
};

// One end of a connection, a connection request, or a listener. Used by one
// thread at a time. May be destroyed at any moment: the peer of a connection
// then sees a disconnect, the sender of a request a rejection.
class CmId {
 public:
  // `channel` may be shared; null makes one for this id alone.
  static absl::StatusOr<std::unique_ptr<CmId>> Create(
      std::shared_ptr<CmEventChannel> channel = nullptr);

  ~CmId();
  CmId(const CmId&) = delete;
  CmId& operator=(const CmId&) = delete;

  // Type of service of the connection's packets (RFC 2474); before Resolve.
  absl::Status SetTypeOfService(uint8_t tos);
  // IB local ACK timeout code (4.096 us * 2^n); before Connect or Accept.
  absl::Status SetAckTimeout(uint8_t code);

  // Active side. Each waits for its event; see Expect for how it can end.
  // Resolve finds the local device by the route to `to`, or by `from`.
  absl::Status Resolve(const SocketAddress& to,
                       const std::optional<SocketAddress>& from,
                       const Deadline& deadline, const Cancellation* cancel);

  // Changes what ibv_modify_qp will be given for a step of a QP, such as
  // path_mtu or min_rnr_timer (RTR), timeout (RTS) or qp_access_flags (INIT).
  // nd proposes what the CM says, but a min_rnr_timer of 0.64 ms where the CM
  // has 655 ms, and all remote access, so that the R_Keys alone decide. May be
  // null.
  using Tune = std::function<void(ibv_qp_state to, ibv_qp_attr& attr)>;

  // Moves a QP from RESET to INIT, so that receives can be posted before the
  // peer sends; after Resolve, or for a request. Connect and Accept do it where
  // it was not done.
  absl::Status PrepareQp(QueuePair& qp, const Tune& tune = nullptr);

  // Sends the REQ for `qp` and waits for the REP; then moves the QP to RTS and
  // sends the RTU. Returns the REP's event. The peer that is not answered to
  // because the QP could not be moved gets a rejection.
  absl::StatusOr<CmEvent> Connect(QueuePair& qp, const ConnectParams& params,
                                  const Tune& tune, const Deadline& deadline,
                                  const Cancellation* cancel);

  // Passive side: answers a request. Accept moves the QP to RTS, sends the REP
  // and waits until the peer's RTU (or first data) made the connection.
  // UNAVAILABLE also when the client has taken its request back, or was
  // connected and has already left.
  absl::Status Accept(QueuePair& qp, const ConnectParams& params,
                      const Tune& tune, const Deadline& deadline,
                      const Cancellation* cancel);
  absl::Status Reject(std::span<const std::byte> private_data);

  // Sends a DREQ, or the DREP when the peer's DREQ made the DISCONNECTED event.
  // Does not wait: the DISCONNECTED event tells that the peer answered, or that
  // the CM gave up waiting for it. The QP is left as it is. Safe to repeat.
  absl::Status Disconnect();

  // Tells the CM that data came before the RTU (IBV_EVENT_COMM_EST). Also from
  // another thread, while Accept waits.
  absl::Status NotifyCommunicationEstablished();

  // The next event of this id. DEADLINE_EXCEEDED or CANCELLED, both without a
  // message, when none came.
  absl::StatusOr<CmEvent> NextEvent(const Deadline& deadline,
                                    const Cancellation* cancel);
  // The same without waiting.
  absl::StatusOr<std::optional<CmEvent>> PollEvent();
  // One that a Dispatch of the channel has filed, on any thread.
  std::optional<CmEvent> TakeEvent();
  // CmEventChannel::Dispatch of its channel.
  absl::Status DispatchChannel() { return channel_->Dispatch(); }
  // From now on `eventfd` becomes readable with each event that is filed, for
  // who does not wait by NextEvent, which ends that. -1: no more.
  void NotifyBy(int eventfd);

  // The id now reads its events from `channel`; those already filed stay.
  absl::Status Migrate(std::shared_ptr<CmEventChannel> channel);

  int fd() const { return channel_->fd(); }
  // The device that the id was bound to by Resolve or by the request; open a
  // Context by that name. Empty before.
  std::string device_name() const;
  uint8_t port_number() const;  // of that device
  SocketAddress local() const;
  SocketAddress peer() const;
  std::string ToString() const;  // "10.0.0.1:40001 -> 10.0.0.2:9999"
  rdma_cm_id* get() const { return id_; }

 private:
  friend class CmEventChannel;
  friend class Listener;

  CmId(std::shared_ptr<CmEventChannel> channel, rdma_cm_id* id);

  absl::Status CallError(absl::string_view call, int error) const;
  absl::Status SetOption(int option, void* value, size_t size,
                         absl::string_view name);
  absl::Status ResolveAddress(const SocketAddress& to,
                              const std::optional<SocketAddress>& from,
                              const Deadline& deadline,
                              const Cancellation* cancel);
  absl::StatusOr<CmEvent> NegotiateConnect(QueuePair& qp,
                                           const ConnectParams& params,
                                           const Deadline& deadline,
                                           const Cancellation* cancel);
  absl::Status CheckQp(const QueuePair& qp, const ConnectParams& params,
                       size_t max_private_data) const;
  void LowerDepths(uint8_t responder_resources, uint8_t initiator_depth);
  void LowerDepthsTo(const ConnectParams& params,
                     const ibv_device_attr& limits);
  rdma_conn_param ConnParam(const QueuePair& qp,
                            const ConnectParams& params) const;
  void SetPeer(QueuePair& qp) const;
  absl::Status MoveQp(QueuePair& qp, ibv_qp_state state, const Tune& tune);
  absl::Status MoveQpToRts(QueuePair& qp, const Tune& tune);

  // Waits for `type`. Any other event ends the wait with its cause, but for
  // TIMEWAIT_EXIT, which tells nothing.
  absl::StatusOr<CmEvent> Expect(rdma_cm_event_type type,
                                 absl::string_view doing,
                                 const Deadline& deadline,
                                 const Cancellation* cancel);

  std::shared_ptr<CmEventChannel> channel_;
  rdma_cm_id* const id_;
  const std::unique_ptr<CmInbox> inbox_;  // what id_->context points to
  std::optional<SocketAddress> to_;       // before librdmacm knows it
  bool is_request_ = false;
  uint8_t responder_resources_ = 0xff;  // agreed so far
  uint8_t initiator_depth_ = 0xff;
};

}  // namespace nd::verbs

#endif  // ND_VERBS_CM_H_
