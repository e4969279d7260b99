// The connections of one side of a test: N queue pairs on one device, in one
// protection domain, on one completion queue.
#ifndef ND_NDPING_ENGINE_CONNECTIONS_H_
#define ND_NDPING_ENGINE_CONNECTIONS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/wait.h"
#include "control/connection_broker.h"
#include "control/token.h"
#include "ndping/engine/buffers.h"
#include "ndping/engine/plan.h"
#include "ndping/engine/queue.h"
#include "verbs/cm.h"
#include "verbs/completion.h"

namespace nd::ndping {

// Made and used by one thread at a time, but for Watch. Destroying it at any
// moment disconnects and frees everything.
class Connections {
 public:
  struct Options {
    v1::TestSpec spec;
    const TestPlan* plan = nullptr;  // outlives this
    bool client = false;
  };

  struct Target {
    verbs::SocketAddress server;
    std::optional<verbs::SocketAddress> from;
    control::Token token;
  };
  static absl::StatusOr<std::unique_ptr<Connections>> Connect(
      const Options& options, const Target& target, const Deadline& deadline,
      const Cancellation* cancel);
  static absl::StatusOr<std::unique_ptr<Connections>> Accept(
      const Options& options, control::Invitation& invitation,
      const Deadline& deadline, const Cancellation* cancel);

  // In the order of the connections' indices.
  std::vector<Queue> MakeQueues() const;
  const std::shared_ptr<verbs::CompletionQueue>& cq() const { return cq_; }

  // Waits until a connection or the device is lost, and says which and why.
  // Otherwise DEADLINE_EXCEEDED or CANCELLED, without a message. From a thread
  // of its own, while another one uses the queues; it ends by `cancel`, and
  // must have before Disconnect or the destruction.
  absl::Status Watch(const Deadline& deadline, const Cancellation* cancel);

  // Tells the peer of the end of all, takes back what is posted, and waits
  // until the peer has followed or the deadline has passed.
  void Disconnect(const Deadline& deadline);

 private:
  struct Link {
    std::unique_ptr<verbs::QueuePair> qp;
    std::unique_ptr<verbs::CmId> id;
    bool disconnected = false;  // the CM said so
  };

  explicit Connections(const Options& options) : options_(options) {}

  absl::Status OpenDevice(const std::string& name);
  absl::StatusOr<std::unique_ptr<verbs::QueuePair>> CreateQp();
  absl::Status CheckMtu(const verbs::CmId& id) const;
  absl::Status PrepareLink(uint32_t index, std::unique_ptr<verbs::CmId> id);
  absl::Status ConnectOne(uint32_t index, const Target& target,
                          const Deadline& deadline, const Cancellation* cancel);
  absl::Status AcceptOne(control::Invitation& invitation,
                         const Deadline& deadline, const Cancellation* cancel);
  verbs::ConnectParams Params() const;
  verbs::CmId::Tune Tune() const;
  absl::Status HandleCmEvents();
  absl::Status HandleAsyncEvents();
  absl::Status Judge(const verbs::AsyncEvent& event);
  Link* Find(std::optional<uint32_t> qpn);

  const Options options_;
  std::shared_ptr<verbs::CmEventChannel> cm_channel_;
  std::shared_ptr<verbs::Context> context_;
  std::shared_ptr<verbs::ProtectionDomain> pd_;
  std::shared_ptr<verbs::CompletionQueue> cq_;
  std::unique_ptr<Buffers> buffers_;
  std::vector<Link> links_;  // by index
};

}  // namespace nd::ndping

#endif  // ND_NDPING_ENGINE_CONNECTIONS_H_
