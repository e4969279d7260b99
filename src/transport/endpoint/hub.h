// What the sessions of one reactor share: its engine, and the descriptors by
// which rdma_cm and the devices tell of news.
#ifndef ND_TRANSPORT_ENDPOINT_HUB_H_
#define ND_TRANSPORT_ENDPOINT_HUB_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/mpsc_ring.h"
#include "nd/operation.h"
#include "transport/memory/budget.h"
#include "transport/reactor/engine.h"
#include "verbs/cm.h"
#include "verbs/completion.h"
#include "verbs/device.h"

namespace nd::transport {

class SessionRuntime;
class Stream;

// An open device as the reactor uses it.
struct HubDevice {
  std::shared_ptr<verbs::Context> context;
  std::shared_ptr<verbs::CompletionChannel> channel;  // of all its queues
  int numa_node = -1;
  std::atomic<bool> watched{false};  // the channel, by the engine
};

// Loans that other threads than the engine's have dropped. It outlives the
// sessions: a thread may be in Drop still when its loan, the session's last
// one, is back.
class ForeignReleases : private Submission {
 public:
  explicit ForeignReleases(Engine& engine)
      : Submission(&ForeignReleases::Run), engine_(engine) {}

  // Any thread: Stream::Release is called with it on the engine's, soon.
  void Push(Stream& stream, uint64_t number);

 private:
  struct Release {
    Stream* stream;
    uint64_t number;
  };
  static constexpr size_t kRoom = 1024;

  static void Run(Submission& self);

  Engine& engine_;
  std::atomic<bool> submitted_{false};
  // Those that find no room go the slow way.
  MpscRing<Release> ring_{kRoom};
  std::mutex more_mutex_;
  std::vector<Release> more_;  // under its mutex
};

// Of all sessions together that a reactor opens as their client; null: without
// a limit.
struct ClientMemory {
  std::shared_ptr<Budget> send{}, receive{};
};

class Hub {
 public:
  explicit Hub(std::unique_ptr<Engine> engine, ClientMemory memory = {});
  ~Hub();
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  Engine& engine() { return *engine_; }

  // --- any thread ---

  // Work in another thread that is for sessions of this reactor's, for as long
  // as the token or a copy of it lives: the hub waits for its end.
  [[nodiscard]] std::shared_ptr<void> Hold();

  // Both are made when they are first asked for. Any thread may dispatch the
  // events of the channel, waiting for an id's.
  absl::StatusOr<std::shared_ptr<verbs::CmEventChannel>> CmChannel(
      Instant deadline);
  absl::StatusOr<std::shared_ptr<HubDevice>> Device(absl::string_view name,
                                                    Instant deadline);
  ForeignReleases& releases() { return *releases_; }
  const ClientMemory& client_memory() const { return client_memory_; }

  // --- the engine's thread ---

  // The session is polled, and told of its news, from now on.
  void Attach(SessionRuntime& session);
  void Detach(SessionRuntime& session);
  // Makes the engine look for events of sessions' ids (CmId::NotifyBy); -1
  // before CmChannel.
  int cm_news() const { return cm_news_.get(); }
  // Its application is through with it: it goes when nothing of it is with
  // anyone any more.
  void Bury(std::unique_ptr<SessionRuntime> session);

 private:
  void OnCompletionEvents(HubDevice& device);
  absl::Status WatchCm();
  void DispatchCm();
  void OnCmNews();
  void DestroyBuried();

  const ClientMemory client_memory_;
  const std::unique_ptr<Engine> engine_;
  const std::unique_ptr<ForeignReleases> releases_ =
      std::make_unique<ForeignReleases>(*engine_);
  absl::Mutex mutex_;
  size_t held_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<verbs::CmEventChannel> cm_channel_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<HubDevice>, std::less<>> devices_
      ABSL_GUARDED_BY(mutex_);

  std::atomic<bool> cm_watched_{false};

  // The engine's thread's.
  std::shared_ptr<verbs::CmEventChannel> cm_events_;
  Fd cm_news_;
  absl::flat_hash_map<const verbs::CompletionQueue*, SessionRuntime*> by_queue_;
  std::vector<SessionRuntime*> sessions_;
  std::vector<std::unique_ptr<SessionRuntime>> buried_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_ENDPOINT_HUB_H_
