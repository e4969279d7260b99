// A Watch call at the server.
#ifndef ND_CONTROL_WATCH_CALL_H_
#define ND_CONTROL_WATCH_CALL_H_

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "control/session.h"
#include "nd/v1/control.pb.h"

namespace nd::control {

// Lives until gRPC and its holders are done with it. Keeps up to kMaxWaiting
// events for a client that reads slowly; one more ends it. Thread-safe.
class WatchCall final : public grpc::ServerWriteReactor<v1::WatchEvent> {
 public:
  static constexpr size_t kMaxWaiting = 1024;

  static std::shared_ptr<WatchCall> Create();

  // WatchStarted, before anything else.
  void Start();
  void Send(const SessionEvent& event);
  // Ends the call behind what was sent; the first end counts.
  void End(const absl::Status& status);

 private:
  WatchCall() = default;

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void Add(v1::WatchEvent message);
  void EndNow(const absl::Status& status);
  void Proceed();

  absl::Mutex mutex_;
  std::deque<v1::WatchEvent> waiting_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<WatchCall> self_ ABSL_GUARDED_BY(mutex_);  // until OnDone

  v1::WatchEvent written_;  // gRPC's, while writing_
};

}  // namespace nd::control

#endif  // ND_CONTROL_WATCH_CALL_H_
