#include "nd/session.h"

#include <atomic>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "api/addresses.h"
#include "api/dialer.h"
#include "api/layout.h"
#include "api/session_impl.h"
#include "api/stream_impl.h"
#include "api/workers.h"
#include "base/status.h"
#include "control/grpc_channel.h"

namespace nd {
namespace {

using transport::OperationAccess;
using transport::SessionRuntime;

// Blocks; not on the reactor's thread.
absl::StatusOr<std::shared_ptr<api::SessionImpl>> SetUp(
    transport::Hub& hub, const std::string& server,
    const Session::Options& options, const Deadline& deadline) {
  ND_ASSIGN_OR_RETURN(const verbs::SocketAddress address,
                      api::FindHost(server, deadline));
  ND_ASSIGN_OR_RETURN(
      auto channel,
      control::MakeChannel(address, api::CredentialsOf(options.tls)));
  ND_ASSIGN_OR_RETURN(std::unique_ptr<control::SessionClient> client,
                      control::SessionClient::Open(
                          {.channel = std::move(channel),
                           .server = address,
                           .name = options.name},
                          api::WishOf(options.layout), deadline, nullptr));
  const control::SessionLayout agreed = client->layout();
  const uint64_t id = client->id();
  const auto dialer = std::make_shared<api::Dialer>(hub, std::move(client));
  const std::string name =
      absl::StrCat(control::SessionName(id), " with ", address.ToString());
  const auto session = std::make_shared<api::SessionImpl>(
      hub,
      api::SessionImpl::Options{
          .id = id,
          .name = name,
          .layout = api::ForApplication(agreed),
          .runtime = {.layout = api::ForTransport(agreed),
                      .client = true,
                      .reconnect = options.reconnect,
                      .receive_budget = agreed.receive_budget,
                      .name = name},
          .on_link_free = [dialer](uint32_t link) { dialer->OnLinkFree(link); },
          .on_gone = [dialer] { dialer->HangUp(); }});
  ND_RETURN_IF_ERROR(dialer->DialAll(session, deadline));
  return session;
}

void StartAccept(transport::Submission& submission);

// What StartAccept needs of a session beside the operation, which knows streams
// only.
struct AcceptCall final : transport::Submission {
  AcceptCall(std::shared_ptr<api::SessionImpl> its, AcceptOperation& op)
      : Submission(&StartAccept), session(std::move(its)), operation(op) {}
  const std::shared_ptr<api::SessionImpl> session;
  AcceptOperation& operation;
};

void StartAccept(transport::Submission& submission) {
  const std::unique_ptr<AcceptCall> call(&static_cast<AcceptCall&>(submission));
  call->session->runtime()->core().Accept(call->operation);
}

}  // namespace

absl::StatusOr<Session> Session::Connect(Reactor& reactor,
                                         std::string_view server,
                                         const Options& options,
                                         std::chrono::nanoseconds timeout) {
  transport::Hub& hub = reactor.hub();
  ND_RETURN_IF_ERROR(api::MayBlock(hub.engine()));
  const Deadline deadline = Deadline::After(timeout);
  absl::StatusOr<std::shared_ptr<api::SessionImpl>> session = nullptr;
  const std::string host(server);
  const auto set_up = [&] {
    session = SetUp(hub, host, options, deadline);
    if (!session.ok()) {
      session = Annotate(session.status(), absl::StrCat("session with ", host));
    }
  };
  if (hub.engine().OnThread()) {
    // The reactor goes on meanwhile: it has a part in it.
    std::atomic<bool> done{false};
    api::Workers::OfProcess().Run([&] {
      set_up();
      done.store(true, std::memory_order_release);
      hub.engine().Nudge();
    });
    hub.engine().RunUntil([&] { return done.load(std::memory_order_acquire); },
                          Instant::max());
  } else {
    set_up();
  }
  ND_RETURN_IF_ERROR(session.status());
  return Session(*std::move(session));
}

Session::Session(std::shared_ptr<api::SessionImpl> impl)
    : impl_(std::move(impl)) {}
Session::~Session() = default;

std::string Session::name() const { return impl_->name(); }
const SessionLayout& Session::layout() const { return impl_->layout(); }
absl::Status Session::status() const { return impl_->status(); }

absl::StatusOr<Stream> Session::Open(StreamClass stream_class,
                                     std::string_view name,
                                     std::chrono::nanoseconds timeout) {
  const auto message_class = stream_class == StreamClass::kLatency
                                 ? transport::MessageClass::kLatency
                                 : transport::MessageClass::kBulk;
  absl::StatusOr<transport::Stream*> stream = nullptr;
  ND_RETURN_IF_ERROR(impl_->OnReactor(
      [&](SessionRuntime& runtime) {
        stream = runtime.core().OpenStream(message_class, name);
      },
      api::After(timeout)));
  // What is open here is to be open there, too, before this thread polls again.
  if (impl_->engine().OnThread() && !impl_->engine().InPoll()) {
    impl_->engine().Poll();
  }
  ND_RETURN_IF_ERROR(Annotate(stream.status(), impl_->name()));
  return Stream(std::make_unique<api::StreamImpl>(impl_, **stream));
}

void Session::Accept(AcceptOperation& operation) {
  auto& call = *new AcceptCall(impl_, operation);
  OperationAccess::Submit(operation, nullptr, nullptr);
  if (impl_->engine().OnThread()) {
    StartAccept(call);
  } else {
    impl_->engine().Submit(call);
  }
}

Stream Session::Take(AcceptOperation& operation) {
  transport::Stream* const stream = OperationAccess::TakeAccepted(operation);
  if (stream == nullptr) return {};
  return Stream(std::make_unique<api::StreamImpl>(impl_, *stream));
}

absl::StatusOr<Stream> Session::Accept(std::chrono::nanoseconds timeout) {
  ND_RETURN_IF_ERROR(api::MayBlock(impl_->engine()));
  AcceptOperation operation;
  operation.set_deadline(api::After(timeout));
  Accept(operation);
  api::Await(impl_->engine(), operation);
  ND_RETURN_IF_ERROR(Annotate(operation.status(), impl_->name()));
  return Take(operation);
}

absl::Status Session::Close(std::chrono::nanoseconds timeout) {
  ND_RETURN_IF_ERROR(api::MayBlock(impl_->engine()));
  const Instant deadline = api::After(timeout);
  ND_RETURN_IF_ERROR(impl_->OnReactor(
      [](SessionRuntime& runtime) { runtime.core().Goodbye(); }, deadline));
  if (!impl_->AwaitEnd(deadline)) {
    return absl::DeadlineExceededError(
        absl::StrCat(impl_->name(), ": the peer has not ended it, too"));
  }
  const absl::Status why = impl_->status();
  return absl::IsCancelled(why) ? absl::OkStatus() : why;
}

std::string Session::Describe() const {
  std::string text;
  const absl::Status asked = impl_->OnReactor(
      [&](SessionRuntime& runtime) { text = runtime.core().Describe(); },
      Instant::max());
  return asked.ok() ? text : asked.ToString();
}

}  // namespace nd
