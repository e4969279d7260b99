// Connections that move no data, for the connect test.
#ifndef ND_NDPING_HARNESS_BARE_CONNECTOR_H_
#define ND_NDPING_HARNESS_BARE_CONNECTOR_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/wait.h"
#include "control/connection_broker.h"
#include "ndping/harness/reception.h"
#include "verbs/completion.h"
#include "verbs/memory.h"

namespace nd::ndping {

// Makes the connections of one test; what they share on a device (protection
// domain, completion queue) is made once. One thread at a time.
class BareConnector {
 public:
  absl::StatusOr<std::unique_ptr<BareConnection>> Connect(
      const v1::TestSpec& spec, const Dialer::Target& target, uint32_t index,
      const Deadline& deadline, const Cancellation* cancel);
  absl::StatusOr<std::unique_ptr<BareConnection>> Accept(
      const v1::TestSpec& spec, control::Invitation::Request request,
      const Deadline& deadline, const Cancellation* cancel);

 private:
  struct Shared {
    std::shared_ptr<verbs::ProtectionDomain> pd;
    std::shared_ptr<verbs::CompletionQueue> cq;
  };
  absl::StatusOr<std::unique_ptr<verbs::QueuePair>> CreateQp(
      const std::string& device);

  std::map<std::string, Shared> devices_;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_HARNESS_BARE_CONNECTOR_H_
