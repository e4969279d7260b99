#include "ndping/harness/client_call.h"

#include <string>
#include <utility>

#include "base/mutex.h"
#include "control/grpc_status.h"
#include "ndping/harness/harness_internal.h"

namespace nd::ndping {

ClientCall::ClientCall(v1::Harness::Stub& stub, TestSession& session)
    : session_(session),
      stream_(stub.Run(&context_)),
      reader_([this] { Read(); }) {}

ClientCall::~ClientCall() {
  context_.TryCancel();
  reader_.join();
}

absl::Status ClientCall::Send(PeerMessage message) {
  const v1::RunRequest request = ToRequest(std::move(message));
  MutexLock lock(&write_mutex_);
  if (writable_ && stream_->Write(request)) return absl::OkStatus();
  return absl::CancelledError("the call has ended");
}

void ClientCall::CloseWrites() {
  MutexLock lock(&write_mutex_);
  if (writable_) stream_->WritesDone();
  writable_ = false;
}

void ClientCall::Read() {
  v1::RunResponse response;
  while (stream_->Read(&response)) {
    session_.OnMessage(FromResponse(std::move(response)));
    response.Clear();
  }
  {
    // gRPC wants no write to be under way when a call is finished.
    MutexLock lock(&write_mutex_);
    writable_ = false;
  }
  TellEnd(stream_->Finish());
}

void ClientCall::TellEnd(const grpc::Status& status) {
  if (status.ok()) return session_.OnClosed();
  const auto& trailers = context_.GetServerTrailingMetadata();
  const auto ended_by = trailers.find(kEndedByKey);
  if (ended_by == trailers.end()) {
    // gRPC's own word, but for a call that the server refused at once.
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE &&
        status.error_code() != grpc::StatusCode::CANCELLED) {
      return session_.OnEnded(control::FromGrpcStatus(status));
    }
    return session_.OnVanished(status.error_message());
  }
  // The server only repeats what this side told it.
  if (ended_by->second == kEndedByClient) return session_.OnClosed();
  session_.OnEnded(control::FromGrpcStatus(status));
}

absl::Status ClientCall::Conclude(const absl::Status& error, bool connected) {
  session_.Settle(error,
                  connected ? session_.timing().local_grace : Duration::zero());
  if (!session_.ended()) {
    const absl::Status local = session_.LocalCause().value_or(error);
    v1::Failure failure;
    failure.set_code(static_cast<int>(local.code()));
    failure.set_message(std::string(local.message()));
    if (Send(std::move(failure)).ok()) CloseWrites();
    // If that failed, why the call has ended is about to be known.
    session_.AwaitEnd();
  }
  return session_.Cause(error);
}

}  // namespace nd::ndping
