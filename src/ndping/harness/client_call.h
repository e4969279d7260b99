// One Run call at the client.
#ifndef ND_NDPING_HARNESS_CLIENT_CALL_H_
#define ND_NDPING_HARNESS_CLIENT_CALL_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "nd/v1/harness.grpc.pb.h"
#include "ndping/harness/test_session.h"

namespace nd::ndping {

// Brings the server's messages to the session on a thread of its own. Ends the
// call, if it has not ended, when destroyed.
class ClientCall final : public PeerLink {
 public:
  // Both outlive the call.
  ClientCall(v1::Harness::Stub& stub, TestSession& session);
  ~ClientCall() override;

  absl::Status Send(PeerMessage message) override;
  void CloseWrites();

  // Why the test ends. Tells the server first what this side found, unless it
  // has ended the call itself. `connected`: others may know more.
  absl::Status Conclude(const absl::Status& error, bool connected);

 private:
  void Read();
  void TellEnd(const grpc::Status& status);

  TestSession& session_;
  grpc::ClientContext context_;
  const std::unique_ptr<
      grpc::ClientReaderWriter<v1::RunRequest, v1::RunResponse>>
      stream_;
  absl::Mutex write_mutex_;
  bool writable_ ABSL_GUARDED_BY(write_mutex_) = true;
  std::thread reader_;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_HARNESS_CLIENT_CALL_H_
