// One Run call at the server: the gRPC stream, and the script of the test.
#ifndef ND_NDPING_HARNESS_SERVER_CALL_H_
#define ND_NDPING_HARNESS_SERVER_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "nd/v1/harness.pb.h"
#include "ndping/harness/reception.h"
#include "ndping/harness/test_session.h"

namespace nd::ndping {

// Runs on a thread of its own from Start on; gRPC's threads only bring it
// messages. Everything that the test took is given back before a client hears
// that it went well, so that whoever runs tests one after another never meets
// the remains of his last one.
class ServerCall final
    : public grpc::ServerBidiReactor<v1::RunRequest, v1::RunResponse>,
      public PeerLink {
 public:
  struct Options {
    uint64_t id = 0;     // for the log
    std::string client;  // "10.98.0.1:40001"
    v1::Limits limits;
    Timing timing;
    Reception* reception = nullptr;
    std::function<void()> on_freed;  // the test holds nothing any more
  };
  static absl::StatusOr<std::unique_ptr<ServerCall>> Create(
      grpc::CallbackServerContext* context, Options options);

  // After finished().
  ~ServerCall() override;

  void Start();
  // Ends the test with that error, from any thread; returns at once.
  void Stop(const absl::Status& why) { session_->Stop(why); }
  // Neither gRPC nor the test's thread will touch this again.
  bool finished();
  // Waits until the test's thread has ended, which Stop makes soon.
  void Join();

  absl::Status Send(PeerMessage message) override;

 private:
  ServerCall(grpc::CallbackServerContext* context, Options options,
             std::unique_ptr<TestSession> session);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  bool AwaitWrite(Duration limit);
  void Run();
  absl::Status Script();
  absl::Status ServePhases();
  absl::Status ServePhase(uint32_t index);
  absl::Status ServeConnections();
  absl::Status AcceptConnections();
  absl::Status Connect();
  void Free();
  void End(const absl::Status& script);
  void FinishCall(const absl::Status& status, const char* ended_by);
  void LogEnd(const absl::Status& cause) const;

  grpc::CallbackServerContext* const context_;
  const Options options_;
  const std::unique_ptr<TestSession> session_;

  // Of the test's thread.
  v1::TestSpec spec_;
  std::unique_ptr<Guest> guest_;
  std::unique_ptr<TestSide> side_;
  std::unique_ptr<ConnectionWatch> watch_;
  uint64_t phases_ = 0;

  v1::RunRequest request_;    // gRPC's, from StartRead to OnReadDone
  v1::RunResponse response_;  // gRPC's, while writing_

  absl::Mutex mutex_;
  absl::CondVar changed_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // writing is in vain

  bool grpc_done_ ABSL_GUARDED_BY(mutex_) = false;
  bool script_done_ ABSL_GUARDED_BY(mutex_) = false;

  std::atomic<bool> vanished_{false};
  std::thread thread_;
};

// "lat send 64 bytes, 1000 messages, 1 QP, busy"
std::string DescribeSpec(const v1::TestSpec& spec);

}  // namespace nd::ndping

#endif  // ND_NDPING_HARNESS_SERVER_CALL_H_
