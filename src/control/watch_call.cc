#include "control/watch_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "control/grpc_status.h"
#include "control/session_messages.h"

namespace nd::control {

std::shared_ptr<WatchCall> WatchCall::Create() {
  std::shared_ptr<WatchCall> call(new WatchCall());
  MutexLock lock(&call->mutex_);
  call->self_ = call;
  return call;
}

void WatchCall::Start() {
  v1::WatchEvent started;
  started.mutable_started();
  Add(std::move(started));
}

void WatchCall::Send(const SessionEvent& event) { Add(ToMessage(event)); }

void WatchCall::Add(v1::WatchEvent message) {
  {
    MutexLock lock(&mutex_);
    if (end_.has_value()) return;
    if (waiting_.size() >= kMaxWaiting) {
      waiting_.clear();
      end_ = absl::ResourceExhaustedError(
          absl::StrCat("the client reads too slowly: ", kMaxWaiting,
                       " events wait for it; watch again"));
    } else {
      waiting_.push_back(std::move(message));
    }
  }
  Proceed();
}

void WatchCall::End(const absl::Status& status) {
  {
    MutexLock lock(&mutex_);
    if (end_.has_value()) return;
    end_ = status;
  }
  Proceed();
}

void WatchCall::EndNow(const absl::Status& status) {
  {
    MutexLock lock(&mutex_);
    waiting_.clear();
    if (!end_.has_value()) end_ = status;
  }
  Proceed();
}

// gRPC may call OnWriteDone from within StartWrite, so that and Finish are
// called without the lock. writing_ and finished_ see to it that only one
// thread gets there.
void WatchCall::Proceed() {
  std::optional<absl::Status> end;
  {
    MutexLock lock(&mutex_);
    if (writing_ || finished_) return;
    if (!waiting_.empty()) {
      written_ = std::move(waiting_.front());
      waiting_.pop_front();
      writing_ = true;
    } else if (end_.has_value()) {
      finished_ = true;
      end = end_;
    } else {
      return;
    }
  }
  if (end.has_value()) {
    Finish(ToGrpcStatus(*end));
  } else {
    StartWrite(&written_);
  }
}

void WatchCall::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    writing_ = false;
  }
  if (!ok) return EndNow(absl::CancelledError("the client has gone"));
  Proceed();
}

void WatchCall::OnCancel() {
  EndNow(absl::CancelledError("the client has gone"));
}

void WatchCall::OnDone() {
  std::shared_ptr<WatchCall> self;
  MutexLock lock(&mutex_);
  self.swap(self_);
}

}  // namespace nd::control
