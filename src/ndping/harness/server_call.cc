#include "ndping/harness/server_call.h"

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status.h"
#include "control/grpc_status.h"
#include "ndping/harness/harness_internal.h"
#include "ndping/text/spec_names.h"
#include "ndping/text/units.h"
#include "ndping/text/version.h"

namespace nd::ndping {
namespace {

// A peer that reads nothing lets a write wait for ever.
constexpr Duration kWriteLimit = std::chrono::seconds(10);
// Until gRPC has handed the last message to the kernel.
constexpr Duration kFinishLimit = std::chrono::seconds(2);

}  // namespace

std::string DescribeSpec(const v1::TestSpec& spec) {
  if (spec.kind() == v1::TEST_KIND_CONNECT) {
    return absl::StrCat("connect, ", spec.connections(),
                        spec.hold() ? " connections at once" : " connections");
  }
  const bool latency = spec.kind() == v1::TEST_KIND_LATENCY;
  std::string text =
      absl::StrCat(latency ? "lat " : "bw ", WhatIsSent(spec), " ");
  if (spec.sizes_size() > 0) {
    absl::StrAppend(&text, FormatSize(spec.sizes(0)));
    if (spec.sizes_size() > 1) {
      absl::StrAppend(&text, "..",
                      FormatSize(spec.sizes(spec.sizes_size() - 1)));
    }
  }
  absl::StrAppend(&text, " bytes, ");
  if (spec.iterations() > 0) {
    absl::StrAppend(&text, spec.iterations(), " messages");
  } else {
    absl::StrAppend(&text, FormatTime(static_cast<double>(spec.duration_ns())));
  }
  absl::StrAppend(&text, ", ", QueuesOf(spec), ", ",
                  CqModeName(spec.cq_mode()));
  if (spec.bidirectional()) absl::StrAppend(&text, ", bidirectional");
  if (spec.verify()) absl::StrAppend(&text, ", verified");
  return text;
}

absl::StatusOr<std::unique_ptr<ServerCall>> ServerCall::Create(
    grpc::CallbackServerContext* context, Options options) {
  ND_ASSIGN_OR_RETURN(
      std::unique_ptr<TestSession> session,
      TestSession::Create(absl::StrCat("client ", options.client),
                          options.timing));
  return std::unique_ptr<ServerCall>(
      new ServerCall(context, std::move(options), std::move(session)));
}

ServerCall::ServerCall(grpc::CallbackServerContext* context, Options options,
                       std::unique_ptr<TestSession> session)
    : context_(context),
      options_(std::move(options)),
      session_(std::move(session)) {}

ServerCall::~ServerCall() { Join(); }

void ServerCall::Start() {
  StartRead(&request_);
  thread_ = std::thread([this] { Run(); });
}

void ServerCall::Join() {
  if (thread_.joinable()) thread_.join();
}

void ServerCall::OnReadDone(bool ok) {
  if (!ok) return session_->OnClosed();
  session_->OnMessage(FromRequest(std::move(request_)));
  request_.Clear();
  StartRead(&request_);
}

void ServerCall::OnWriteDone(bool ok) {
  MutexLock lock(&mutex_);
  writing_ = false;
  if (!ok) broken_ = true;
  changed_.SignalAll();
}

void ServerCall::OnCancel() {
  vanished_ = true;
  session_->OnVanished("");
}

void ServerCall::OnDone() {
  MutexLock lock(&mutex_);
  grpc_done_ = true;
  changed_.SignalAll();
}

// gRPC may call OnWriteDone from within StartWrite and TryCancel, so both are
// called without the lock.
absl::Status ServerCall::Send(PeerMessage message) {
  {
    MutexLock lock(&mutex_);
    if (broken_) return absl::CancelledError("the call has ended");
    response_ = ToResponse(std::move(message));
    writing_ = true;
  }
  StartWrite(&response_);
  if (!AwaitWrite(kWriteLimit)) {
    context_->TryCancel();  // which ends the write
    while (!AwaitWrite(kWriteLimit)) continue;
  }
  MutexLock lock(&mutex_);
  return broken_ ? absl::CancelledError("the call has ended")
                 : absl::OkStatus();
}

bool ServerCall::AwaitWrite(Duration limit) {
  const Deadline deadline = Deadline::After(limit);
  MutexLock lock(&mutex_);
  while (writing_ && !deadline.Passed()) {
    changed_.WaitWithTimeout(&mutex_, absl::FromChrono(deadline.Remaining()));
  }
  return !writing_;
}

bool ServerCall::finished() {
  MutexLock lock(&mutex_);
  return grpc_done_ && script_done_;
}

void ServerCall::Run() {
  End(Script());
  MutexLock lock(&mutex_);
  script_done_ = true;
}

absl::Status ServerCall::Script() {
  ND_ASSIGN_OR_RETURN(v1::Open open,
                      session_->Receive<v1::Open>(session_->timing().message));
  spec_ = std::move(*open.mutable_spec());
  ND_RETURN_IF_ERROR(CheckSpec(spec_, options_.limits));
  ND_LOG(kInfo, "test ", options_.id, " of ", session_->peer(), ": ",
         DescribeSpec(spec_));
  const bool bare = spec_.kind() == v1::TEST_KIND_CONNECT;
  if (spec_.has_session()) {
    ND_ASSIGN_OR_RETURN(guest_, options_.reception->InviteSession(
                                    spec_, options_.limits.max_memory()));
  } else {
    ND_ASSIGN_OR_RETURN(
        guest_,
        options_.reception->Invite(
            bare ? static_cast<uint32_t>(spec_.connections()) : spec_.qps()));
  }
  v1::Opened opened;
  opened.set_port(options_.reception->address().port());
  opened.set_token(guest_->token());
  opened.set_session_port(guest_->session_port());
  opened.set_server_version(kVersion);
  ND_RETURN_IF_ERROR(Send(std::move(opened)));
  return bare ? ServeConnections() : ServePhases();
}

absl::Status ServerCall::Connect() {
  const Duration limit = ConnectLimit(spec_, options_.limits, options_.timing);
  ND_RETURN_IF_ERROR(session_->Perform(
      {.doing = "accepting the connections",
       // The job's own deadline passes first and says what was missing.
       .limit = limit + options_.timing.message,
       .check = nullptr},
      [&]() -> absl::Status {
        ND_ASSIGN_OR_RETURN(
            side_,
            guest_->Accept({.spec = spec_,
                            .client = false,
                            .max_memory = options_.limits.max_memory()},
                           Deadline::After(limit), session_->cancellation()));
        return absl::OkStatus();
      }));
  ND_ASSIGN_OR_RETURN(watch_, ConnectionWatch::Start(*side_, *session_));
  ND_ASSIGN_OR_RETURN(const v1::Layout layout, session_->Receive<v1::Layout>(
                                                   session_->timing().message));
  ND_RETURN_IF_ERROR(side_->SetPeerLayout(layout));
  return Send(side_->layout());
}

absl::Status ServerCall::ServePhases() {
  ND_RETURN_IF_ERROR(Connect());
  for (uint32_t next = 0;; ++next) {
    ND_ASSIGN_OR_RETURN(const std::optional<v1::StartPhase> start,
                        session_->NextPhase());
    if (!start.has_value()) return absl::OkStatus();
    if (start->index() != next ||
        next >= static_cast<uint32_t>(spec_.sizes_size())) {
      return absl::FailedPreconditionError(
          absl::StrCat(session_->peer(), " starts phase ", start->index(),
                       "; the next is ", next, " of ", spec_.sizes_size()));
    }
    ND_RETURN_IF_ERROR(ServePhase(next));
    ++phases_;
  }
}

absl::Status ServerCall::ServePhase(uint32_t index) {
  ND_RETURN_IF_ERROR(session_->Perform({.doing = "preparing the buffers",
                                        .limit = options_.timing.prepare,
                                        .check = nullptr},
                                       [&] { return side_->Prepare(index); }));
  session_->ArmPhase();
  ND_RETURN_IF_ERROR(Send(v1::PhaseReady()));
  const uint64_t size = spec_.sizes(static_cast<int>(index));
  const PhaseLimits limits =
      LimitsOfPhase(spec_, size, options_.limits, options_.timing);
  ND_ASSIGN_OR_RETURN(TestSession::PhaseOutcome outcome,
                      session_->RunPhase(*side_,
                                         {.link = this,
                                          .index = index,
                                          .size = size,
                                          .initiates = spec_.bidirectional(),
                                          .silence = limits.silence,
                                          .longest = limits.longest,
                                          .interrupt = nullptr,
                                          .on_tick = nullptr},
                                         nullptr));
  return Send(std::move(outcome.report));
}

absl::Status ServerCall::ServeConnections() {
  ND_RETURN_IF_ERROR(session_->Perform(
      {.doing = "accepting the connections",
       .limit = ConnectLimit(spec_, options_.limits, options_.timing),
       .check = nullptr,
       .may_close = true},
      [this] { return AcceptConnections(); }));
  return session_->AwaitClose(options_.timing.message);
}

// A client holds what it has connected for as long as its test says, or lets
// each go before it makes the next.
absl::Status ServerCall::AcceptConnections() {
  const Duration silence = options_.timing.silence;
  const Duration held = silence + WireDuration(spec_.duration_ns());
  std::deque<std::unique_ptr<BareConnection>> open;
  for (uint64_t i = 0; i < spec_.connections(); ++i) {
    ND_ASSIGN_OR_RETURN(std::unique_ptr<BareConnection> connection,
                        guest_->AcceptBare(spec_, Deadline::After(silence),
                                           session_->cancellation()));
    if (spec_.hold()) {
      open.push_back(std::move(connection));
    } else {
      ND_RETURN_IF_ERROR(connection->AwaitDisconnect(Deadline::After(silence),
                                                     session_->cancellation()));
    }
  }
  for (; !open.empty(); open.pop_front()) {
    ND_RETURN_IF_ERROR(open.front()->AwaitDisconnect(Deadline::After(held),
                                                     session_->cancellation()));
  }
  return absl::OkStatus();
}

void ServerCall::Free() {
  watch_.reset();
  side_.reset();
  guest_.reset();
  options_.on_freed();
}

// In good order the client is told last; of a failure it is told first, before
// its connections break because of it.
void ServerCall::End(const absl::Status& script) {
  if (script.ok()) {
    watch_.reset();
    if (side_ != nullptr) side_->Disconnect();
    Free();
    FinishCall(absl::OkStatus(), nullptr);
    LogEnd(vanished_ ? absl::UnavailableError(
                           absl::StrCat(session_->peer(), " vanished"))
                     : absl::OkStatus());
    return;
  }
  // Where there are connections, others may know more.
  session_->Settle(
      script, side_ != nullptr ? options_.timing.peer_grace : Duration::zero());
  const absl::Status cause = session_->Cause(script);
  if (const auto local = session_->LocalCause(); local.has_value()) {
    FinishCall(*local, kEndedByServer);
  } else {
    FinishCall(absl::AbortedError("ended by the client"), kEndedByClient);
  }
  Free();
  LogEnd(cause);
}

void ServerCall::FinishCall(const absl::Status& status, const char* ended_by) {
  if (ended_by != nullptr) {
    context_->AddTrailingMetadata(kEndedByKey, ended_by);
  }
  Finish(control::ToGrpcStatus(status));
  const Deadline deadline = Deadline::After(kFinishLimit);
  MutexLock lock(&mutex_);
  while (!grpc_done_ && !deadline.Passed()) {
    changed_.WaitWithTimeout(&mutex_, absl::FromChrono(deadline.Remaining()));
  }
  // A client that does not take even its status is not waited for; gRPC gives
  // it up when it shows no sign of life.
}

void ServerCall::LogEnd(const absl::Status& cause) const {
  if (cause.ok()) {
    ND_LOG(kInfo, "test ", options_.id, " of ", session_->peer(),
           ": done, phases: ", phases_);
  } else {
    ND_LOG(kWarning, "test ", options_.id, " of ", session_->peer(),
           " failed: ", cause.ToString());
  }
}

}  // namespace nd::ndping
