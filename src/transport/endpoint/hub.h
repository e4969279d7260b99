// What the sessions of one reactor share: its engine, and the descriptors by
// which rdma_cm and the devices tell of news.
#ifndef ND_TRANSPORT_ENDPOINT_HUB_H_
#define ND_TRANSPORT_ENDPOINT_HUB_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "transport/reactor/engine.h"
#include "verbs/cm.h"
#include "verbs/completion.h"
#include "verbs/device.h"

namespace nd::transport {

class SessionRuntime;

// An open device as the reactor uses it.
struct HubDevice {
  std::shared_ptr<verbs::Context> context;
  std::shared_ptr<verbs::CompletionChannel> channel;  // of all its queues
  int numa_node = -1;
};

class Hub {
 public:
  explicit Hub(std::unique_ptr<Engine> engine);
  ~Hub();
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  Engine& engine() { return *engine_; }

  // --- any thread ---

  // Both are made when they are first asked for.
  absl::StatusOr<std::shared_ptr<verbs::CmEventChannel>> CmChannel(
      Instant deadline);
  absl::StatusOr<std::shared_ptr<HubDevice>> Device(absl::string_view name,
                                                    Instant deadline);

  // --- the engine's thread ---

  // The session is polled, and told of its news, from now on.
  void Attach(SessionRuntime& session);
  void Detach(SessionRuntime& session);
  // Its application is through with it: it goes when nothing of it is with
  // anyone any more.
  void Bury(std::unique_ptr<SessionRuntime> session);

 private:
  void OnCompletionEvents(HubDevice& device);
  void OnCmEvents();
  void DestroyBuried();

  const std::unique_ptr<Engine> engine_;
  absl::Mutex mutex_;
  std::shared_ptr<verbs::CmEventChannel> cm_channel_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<HubDevice>, std::less<>> devices_
      ABSL_GUARDED_BY(mutex_);

  // The engine's thread's.
  verbs::CmEventChannel* cm_events_ = nullptr;
  absl::flat_hash_map<const verbs::CompletionQueue*, SessionRuntime*> by_queue_;
  std::vector<SessionRuntime*> sessions_;
  std::vector<std::unique_ptr<SessionRuntime>> buried_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_ENDPOINT_HUB_H_
