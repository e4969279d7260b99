#include "control/session_client.h"

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status.h"
#include "control/grpc_status.h"
#include "control/session_messages.h"
#include "control/session_table.h"
#include "nd/v1/control.grpc.pb.h"

namespace nd::control {
namespace {

using Stub = v1::Control::Stub;

// gRPC answers a cancelled call soon; who waits for it waits again.
constexpr Duration kCancelledCallEnds = std::chrono::seconds(10);

// Something that a thread of gRPC's makes happen once.
class Happening {
 public:
  static absl::StatusOr<Happening> Create() {
    Fd fd(eventfd(0, EFD_CLOEXEC));
    if (!fd.valid()) return ErrnoStatus(errno, "eventfd");
    return Happening(std::move(fd));
  }

  void Happen() const {
    const uint64_t one = 1;
    // Cannot fail: the count is 0.
    [[maybe_unused]] const ssize_t written = write(fd_.get(), &one, sizeof one);
  }
  absl::Status Await(const Deadline& deadline,
                     const Cancellation* cancel) const {
    return WaitReadable(fd_.get(), deadline, cancel);
  }
  void AwaitSurely() const {
    while (!Await(Deadline::After(kCancelledCallEnds), nullptr).ok()) continue;
    Take();
  }
  // What was done before Happen is seen after this. It has happened.
  void Take() const {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = read(fd_.get(), &count, sizeof count);
  }

 private:
  explicit Happening(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

void SetDeadline(grpc::ClientContext& context, const Deadline& deadline) {
  // A deadline at the end of the time line would be beyond gRPC's.
  const Duration left =
      std::min<Duration>(deadline.Remaining(), std::chrono::hours(24 * 365));
  context.set_deadline(
      std::chrono::system_clock::now() +
      std::chrono::duration_cast<std::chrono::system_clock::duration>(left));
}

// WaitReadable's errors have no words of their own.
absl::Status Explain(const absl::Status& waited) {
  if (!waited.message().empty()) return waited;
  if (absl::IsCancelled(waited)) return absl::CancelledError("given up");
  if (absl::IsDeadlineExceeded(waited)) {
    return absl::DeadlineExceededError("no answer in time");
  }
  return waited;
}

// Makes a unary call: start(context, done) begins it.
template <typename Start>
absl::Status MakeCall(const Start& start, const Deadline& deadline,
                      const Cancellation* cancel) {
  // Nobody would wait for the answer; it might come before that is noticed.
  if (deadline.Passed()) return Explain(absl::DeadlineExceededError(""));
  ND_ASSIGN_OR_RETURN(const Happening answered, Happening::Create());
  grpc::ClientContext context;
  SetDeadline(context, deadline);
  absl::Status status;
  start(&context, [&](const grpc::Status& answer) {
    status = FromGrpcStatus(answer);
    answered.Happen();
  });
  const absl::Status waited = answered.Await(deadline, cancel);
  if (!waited.ok()) context.TryCancel();
  answered.AwaitSurely();
  if (!waited.ok()) return Explain(waited);
  if (context.GetServerTrailingMetadata().contains(kTryAgain.data())) {
    status.SetPayload(kTryAgain, absl::Cord());
  }
  return status;
}

absl::Status PauseInRealTime(Duration pause, const Cancellation* cancel) {
  if (cancel == nullptr) {
    std::this_thread::sleep_for(pause);
    return absl::OkStatus();
  }
  const absl::Status waited =
      WaitReadable(cancel->fd(), Deadline::After(pause), cancel);
  return absl::IsDeadlineExceeded(waited) ? absl::OkStatus() : waited;
}

class WatchReader final : public SessionWatch,
                          public grpc::ClientReadReactor<v1::WatchEvent> {
 public:
  WatchReader(std::function<void(const SessionEvent&)> on_event,
              std::function<void(const absl::Status&)> on_end,
              Happening started, Happening ended)
      : on_event_(std::move(on_event)),
        on_end_(std::move(on_end)),
        started_(std::move(started)),
        ended_(std::move(ended)) {}
  ~WatchReader() override {
    destroyed_ = true;
    context_.TryCancel();
    ended_.AwaitSurely();
  }

  void Start(Stub& stub, const v1::WatchRequest& request) {
    stub.async()->Watch(&context_, &request, this);
    StartRead(&event_);
    StartCall();
  }

  // OK once WatchStarted has come; otherwise why the call has ended.
  absl::Status AwaitStart(const Deadline& deadline,
                          const Cancellation* cancel) {
    if (absl::Status waited = started_.Await(deadline, cancel); !waited.ok()) {
      return Explain(waited);
    }
    started_.Take();
    MutexLock lock(&mutex_);
    return started_with_;
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return;  // OnDone says why
    if (event_.has_started()) {
      Begin(absl::OkStatus());
    } else if (const auto event = FromMessage(event_);
               event.has_value() && begun_ && !destroyed_) {
      closed_ |= std::holds_alternative<SessionClosed>(*event);
      on_event_(*event);
    }
    StartRead(&event_);
  }

  void OnDone(const grpc::Status& status) override {
    absl::Status why = FromGrpcStatus(status);
    if (why.ok() && !closed_) {
      why = absl::UnavailableError("the server ended it without a word");
    }
    if (!begun_) {
      Begin(why);
    } else if (!destroyed_) {
      on_end_(why);
    }
    ended_.Happen();  // `this` may be gone
  }

  void Begin(const absl::Status& status) {
    if (std::exchange(begun_, true)) return;
    {
      MutexLock lock(&mutex_);
      started_with_ = status;
    }
    started_.Happen();
  }

  const std::function<void(const SessionEvent&)> on_event_;
  const std::function<void(const absl::Status&)> on_end_;
  grpc::ClientContext context_;
  v1::WatchEvent event_;
  bool begun_ = false;   // gRPC's thread's, as is
  bool closed_ = false;  // SessionClosed has come
  std::atomic<bool> destroyed_{false};
  absl::Mutex mutex_;
  absl::Status started_with_ ABSL_GUARDED_BY(mutex_);
  const Happening started_;
  const Happening ended_;
};

class SessionClientImpl final : public SessionClient {
 public:
  SessionClientImpl(const Options& options, SetUpLimit::Permit permit)
      : options_(options),
        stub_(v1::Control::NewStub(options.channel)),
        permit_(std::move(permit)) {}

  absl::Status Open(const SessionLayout& wish, const Deadline& deadline,
                    const Cancellation* cancel);

  uint64_t id() const override { return key_.id(); }
  uint32_t version() const override { return version_; }
  const SessionLayout& layout() const override { return layout_; }
  const LinkPass& pass() const override { return pass_; }

  absl::StatusOr<LinkPass> Reconnect(std::span<const uint32_t> links,
                                     const Deadline& deadline,
                                     const Cancellation* cancel) override;
  absl::StatusOr<LinkLayout> ExchangeLayout(
      LinkId link, const LinkLayout& own, const Deadline& deadline,
      const Cancellation* cancel) override;
  absl::StatusOr<uint64_t> PublishRegion(absl::string_view name,
                                         const Region& region,
                                         const Deadline& deadline,
                                         const Cancellation* cancel) override;
  absl::Status WithdrawRegion(absl::string_view name, const Deadline& deadline,
                              const Cancellation* cancel) override;
  absl::StatusOr<Region> LookupRegion(absl::string_view name,
                                      const Deadline& deadline,
                                      const Cancellation* cancel) override;
  absl::StatusOr<std::unique_ptr<SessionWatch>> Watch(
      std::function<void(const SessionEvent&)> on_event,
      std::function<void(const absl::Status&)> on_end, const Deadline& deadline,
      const Cancellation* cancel) override;
  absl::Status Close(const absl::Status& why, const Deadline& deadline,
                     const Cancellation* cancel) override;

 private:
  absl::Status OpenOnce(const v1::OpenSessionRequest& request,
                        const Deadline& deadline, const Cancellation* cancel);
  absl::Status Take(const v1::OpenSessionResponse& response);

  std::string Of(absl::string_view call) const {
    return absl::StrCat(call, " at ", options_.server.ToString(), " for ",
                        SessionName(id()));
  }

  // What the server answered, when it does not keep to the protocol.
  absl::Status Broken(const absl::Status& status) const {
    return absl::InternalError(
        absl::StrCat("the server's answer: ", status.message()));
  }

  const Options options_;
  const std::unique_ptr<Stub> stub_;
  SystemRandom system_random_;

  // Set by Open, then constant.
  v1::SessionKey key_;
  uint32_t version_ = 0;
  SessionLayout layout_;
  LinkPass pass_;

  absl::Mutex mutex_;
  std::set<uint32_t> made_ ABSL_GUARDED_BY(mutex_);  // links, ever exchanged
  SetUpLimit::Permit permit_ ABSL_GUARDED_BY(mutex_);
};

absl::Status SessionClientImpl::Take(const v1::OpenSessionResponse& response) {
  key_ = response.session();
  version_ = response.version();
  layout_ = FromMessage(response.layout());
  ND_RETURN_IF_ERROR(
      CheckRange("version", version_, kSessionVersion, kSessionVersion));
  ND_RETURN_IF_ERROR(CheckLayout(layout_));
  ND_ASSIGN_OR_RETURN(pass_, FromMessage(response.pass(), options_.server));
  return absl::OkStatus();
}

absl::Status SessionClientImpl::OpenOnce(const v1::OpenSessionRequest& request,
                                         const Deadline& deadline,
                                         const Cancellation* cancel) {
  v1::OpenSessionResponse response;
  ND_RETURN_IF_ERROR(MakeCall(
      [&](grpc::ClientContext* context, auto done) {
        stub_->async()->OpenSession(context, &request, &response,
                                    std::move(done));
      },
      deadline, cancel));
  if (absl::Status taken = Take(response); !taken.ok()) return Broken(taken);
  return absl::OkStatus();
}

absl::Status SessionClientImpl::Open(const SessionLayout& wish,
                                     const Deadline& deadline,
                                     const Cancellation* cancel) {
  v1::OpenSessionRequest request;
  request.add_versions(kSessionVersion);
  request.set_client_name(options_.name);
  *request.mutable_layout() = ToMessage(wish);
  Backoff backoff(options_.backoff, options_.random != nullptr
                                        ? *options_.random
                                        : system_random_);
  absl::Status busy;
  for (int calls = 1;; ++calls) {
    absl::Status status = OpenOnce(request, deadline, cancel);
    const bool again = status.GetPayload(kTryAgain).has_value();
    if (again) busy = status;
    const Duration pause = again ? backoff.Next() : Duration::zero();
    if (!busy.ok() && (absl::IsDeadlineExceeded(status) ||
                       (again && pause >= deadline.Remaining()))) {
      return absl::ResourceExhaustedError(
          absl::StrCat(busy.message(), "; it was asked ", calls,
                       calls == 1 ? " time" : " times"));
    }
    if (!again) return status;
    const auto& sleep =
        options_.pause != nullptr ? options_.pause : PauseInRealTime;
    ND_RETURN_IF_ERROR(sleep(pause, cancel));
  }
}

absl::StatusOr<LinkPass> SessionClientImpl::Reconnect(
    std::span<const uint32_t> links, const Deadline& deadline,
    const Cancellation* cancel) {
  v1::ReconnectRequest request;
  *request.mutable_session() = key_;
  request.mutable_links()->Add(links.begin(), links.end());
  v1::ReconnectResponse response;
  const absl::Status status = MakeCall(
      [&](grpc::ClientContext* context, auto done) {
        stub_->async()->Reconnect(context, &request, &response,
                                  std::move(done));
      },
      deadline, cancel);
  if (!status.ok()) return Annotate(status, Of("Reconnect"));
  absl::StatusOr<LinkPass> pass = FromMessage(response.pass(), options_.server);
  if (!pass.ok()) return Annotate(Broken(pass.status()), Of("Reconnect"));
  return pass;
}

absl::StatusOr<LinkLayout> SessionClientImpl::ExchangeLayout(
    LinkId link, const LinkLayout& own, const Deadline& deadline,
    const Cancellation* cancel) {
  const std::string call = Of("ExchangeLayout");
  ND_RETURN_IF_ERROR(Annotate(CheckLinkLayout(own, layout_), call));
  v1::ExchangeLayoutRequest request;
  *request.mutable_session() = key_;
  *request.mutable_link() = ToMessage(link);
  *request.mutable_layout() = ToMessage(own);
  v1::ExchangeLayoutResponse response;
  const absl::Status status = MakeCall(
      [&](grpc::ClientContext* context, auto done) {
        stub_->async()->ExchangeLayout(context, &request, &response,
                                       std::move(done));
      },
      deadline, cancel);
  if (!status.ok()) return Annotate(status, call);
  const LinkLayout peer = FromMessage(response.layout());
  if (absl::Status checked = CheckLinkLayout(peer, layout_); !checked.ok()) {
    return Annotate(Broken(checked), call);
  }
  SetUpLimit::Permit given_back;
  MutexLock lock(&mutex_);
  made_.insert(link.number);
  if (made_.size() == layout_.links()) given_back = std::move(permit_);
  return peer;
}

absl::StatusOr<uint64_t> SessionClientImpl::PublishRegion(
    absl::string_view name, const Region& region, const Deadline& deadline,
    const Cancellation* cancel) {
  v1::PublishRegionRequest request;
  *request.mutable_session() = key_;
  request.set_name(std::string(name));
  *request.mutable_region() = ToMessage(region);
  v1::PublishRegionResponse response;
  ND_RETURN_IF_ERROR(Annotate(MakeCall(
                                  [&](grpc::ClientContext* context, auto done) {
                                    stub_->async()->PublishRegion(
                                        context, &request, &response,
                                        std::move(done));
                                  },
                                  deadline, cancel),
                              Of("PublishRegion")));
  return response.id();
}

absl::Status SessionClientImpl::WithdrawRegion(absl::string_view name,
                                               const Deadline& deadline,
                                               const Cancellation* cancel) {
  v1::WithdrawRegionRequest request;
  *request.mutable_session() = key_;
  request.set_name(std::string(name));
  v1::WithdrawRegionResponse response;
  return Annotate(MakeCall(
                      [&](grpc::ClientContext* context, auto done) {
                        stub_->async()->WithdrawRegion(
                            context, &request, &response, std::move(done));
                      },
                      deadline, cancel),
                  Of("WithdrawRegion"));
}

absl::StatusOr<Region> SessionClientImpl::LookupRegion(
    absl::string_view name, const Deadline& deadline,
    const Cancellation* cancel) {
  const std::string call = Of("LookupRegion");
  v1::LookupRegionRequest request;
  *request.mutable_session() = key_;
  request.set_name(std::string(name));
  v1::LookupRegionResponse response;
  ND_RETURN_IF_ERROR(Annotate(MakeCall(
                                  [&](grpc::ClientContext* context, auto done) {
                                    stub_->async()->LookupRegion(
                                        context, &request, &response,
                                        std::move(done));
                                  },
                                  deadline, cancel),
                              call));
  const Region region = FromMessage(response.region());
  if (absl::Status checked = CheckRegion(name, region); !checked.ok()) {
    return Annotate(Broken(checked), call);
  }
  return region;
}

absl::StatusOr<std::unique_ptr<SessionWatch>> SessionClientImpl::Watch(
    std::function<void(const SessionEvent&)> on_event,
    std::function<void(const absl::Status&)> on_end, const Deadline& deadline,
    const Cancellation* cancel) {
  ND_ASSIGN_OR_RETURN(Happening started, Happening::Create());
  ND_ASSIGN_OR_RETURN(Happening ended, Happening::Create());
  auto watch =
      std::make_unique<WatchReader>(std::move(on_event), std::move(on_end),
                                    std::move(started), std::move(ended));
  v1::WatchRequest request;
  *request.mutable_session() = key_;
  watch->Start(*stub_, request);
  ND_RETURN_IF_ERROR(
      Annotate(watch->AwaitStart(deadline, cancel), Of("Watch")));
  return watch;
}

absl::Status SessionClientImpl::Close(const absl::Status& why,
                                      const Deadline& deadline,
                                      const Cancellation* cancel) {
  v1::CloseSessionRequest request;
  *request.mutable_session() = key_;
  *request.mutable_reason() = ToMessage(why);
  v1::CloseSessionResponse response;
  return Annotate(MakeCall(
                      [&](grpc::ClientContext* context, auto done) {
                        stub_->async()->CloseSession(
                            context, &request, &response, std::move(done));
                      },
                      deadline, cancel),
                  Of("CloseSession"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SessionClient>> SessionClient::Open(
    const Options& options, const SessionLayout& wish, const Deadline& deadline,
    const Cancellation* cancel) {
  const std::string call =
      absl::StrCat("OpenSession at ", options.server.ToString());
  auto permit = options.set_ups->Acquire(deadline, cancel);
  if (!permit.ok()) return Annotate(Explain(permit.status()), call);
  auto client =
      std::make_unique<SessionClientImpl>(options, *std::move(permit));
  ND_RETURN_IF_ERROR(
      Annotate(Explain(client->Open(wish, deadline, cancel)), call));
  return client;
}

}  // namespace nd::control
