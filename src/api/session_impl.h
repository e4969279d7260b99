// A session as applications hold it: the runtime on its reactor, and what keeps
// it going.
#ifndef ND_API_SESSION_IMPL_H_
#define ND_API_SESSION_IMPL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "api/regions.h"
#include "base/clock.h"
#include "nd/session.h"
#include "transport/endpoint/hub.h"
#include "transport/endpoint/session_runtime.h"

namespace nd::api {

// Thread-safe. Lives as long as its application's handles, and those of its
// streams; the runtime outlives it where it has to.
class SessionImpl final : public std::enable_shared_from_this<SessionImpl> {
 public:
  struct Options {
    uint64_t id = 0;
    std::string name;
    SessionLayout layout;  // for the application
    transport::SessionRuntime::Options runtime;
    // What else there is to do, on the reactor's thread: must not block.
    std::function<void(uint32_t link)> on_link_free{};
    std::function<void(const SessionEvent&)> on_event{};
    // When the last handle has gone, on any thread: must not block.
    std::function<void()> on_gone{};
    std::shared_ptr<RegionDirectory> directory{};
  };
  SessionImpl(transport::Hub& hub, Options options);
  ~SessionImpl();
  SessionImpl(const SessionImpl&) = delete;
  SessionImpl& operator=(const SessionImpl&) = delete;

  uint64_t id() const { return options_.id; }
  const std::string& name() const { return options_.name; }
  const SessionLayout& layout() const { return options_.layout; }
  transport::Hub& hub() { return hub_; }
  transport::Engine& engine() { return hub_.engine(); }
  RegionDirectory& directory() { return *options_.directory; }
  PeerRegions& peer_regions() { return peer_regions_; }

  // Its device is known: makes the runtime, where there is none. All
  // connections of a session are of one device.
  absl::Status Begin(std::shared_ptr<transport::HubDevice> device,
                     Instant deadline);

  // Calls it with the runtime on the reactor's thread, and waits for that.
  absl::Status OnReactor(
      absl::FunctionRef<void(transport::SessionRuntime&)> work,
      Instant deadline);
  // Null before Begin. But for what is any thread's, on the reactor's.
  transport::SessionRuntime* runtime() { return runtime_.get(); }

  // The link had a connection, and has none any more.
  absl::Status AwaitLinkFree(uint32_t link, Instant deadline);
  // Polls the reactor where this is its thread.
  bool AwaitEnd(Instant deadline);
  // Ends it, from any thread.
  void Fail(const absl::Status& why);
  // Calls on_event with it, if there is one; from any thread.
  void Tell(SessionEvent event);
  // on_event is not called any more. Waits for a call that runs in another
  // thread.
  void TellNoMore();
  absl::Status status() const;

 private:
  class Events;
  struct Burial;

  void CallOnEvent(const SessionEvent& event);
  void SetEnded(const absl::Status& why);
  void OnLinkFree(uint32_t link);

  transport::Hub& hub_;
  // The last to go: until then the hub waits, for threads of the control plane
  // may have the session a moment longer than its application.
  const std::shared_ptr<void> hold_ = hub_.Hold();
  const Options options_;
  PeerRegions peer_regions_;
  absl::Mutex begin_mutex_;
  std::unique_ptr<Events> events_;
  // Made once; then the reactor's.
  std::unique_ptr<transport::SessionRuntime> runtime_;
  mutable absl::Mutex mutex_;
  absl::CondVar changed_;
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status why_ ABSL_GUARDED_BY(mutex_);
  uint64_t links_freed_ ABSL_GUARDED_BY(mutex_) = 0;
  bool tells_ ABSL_GUARDED_BY(mutex_) = true;
  bool in_on_event_ ABSL_GUARDED_BY(mutex_) = false;
};

// Starts an operation from any thread: `run` is called on the reactor's.
void Start(transport::Engine& engine, Operation& operation,
           transport::Stream* stream, transport::Submission::Run run);

// FAILED_PRECONDITION in a callback of the reactor's, which cannot go on while
// one waits there.
absl::Status MayBlock(const transport::Engine& engine);

// Does what blocks, but for the reactor: where this is its thread, it is polled
// meanwhile.
absl::Status Blocking(transport::Engine& engine,
                      absl::FunctionRef<void()> work);

// Waits for an operation, polling the reactor where this is its thread. It has
// a deadline, and the caller may block.
void Await(transport::Engine& engine, const Operation& operation);

inline Instant After(std::chrono::nanoseconds timeout) {
  return Deadline::After(timeout).at();
}

}  // namespace nd::api

#endif  // ND_API_SESSION_IMPL_H_
