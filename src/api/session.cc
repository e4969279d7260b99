#include "nd/session.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "api/addresses.h"
#include "api/dialer.h"
#include "api/layout.h"
#include "api/memory.h"
#include "api/session_impl.h"
#include "api/stream_impl.h"
#include "base/status.h"
#include "control/grpc_channel.h"

namespace nd {
namespace {

using transport::OperationAccess;
using transport::SessionRuntime;

// Blocks; not on the reactor's thread.
absl::StatusOr<Session> SetUp(transport::Hub& hub, const std::string& server,
                              const Session::Options& options,
                              const Deadline& deadline) {
  ND_ASSIGN_OR_RETURN(const verbs::SocketAddress address,
                      api::FindHost(server, deadline));
  std::optional<verbs::SocketAddress> from;
  if (!options.from.empty()) {
    ND_ASSIGN_OR_RETURN(from, verbs::SocketAddress::Parse(options.from, 0));
  }
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
  const auto dialer =
      std::make_shared<api::Dialer>(hub, std::move(client), from);
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
                      .send_memory = hub.client_memory().send,
                      .receive_memory = hub.client_memory().receive,
                      .name = name},
          .on_link_free = [dialer](uint32_t link) { dialer->OnLinkFree(link); },
          .on_event = options.on_event,
          .on_gone = [dialer] { dialer->HangUp(); },
          .directory = dialer});
  // Here already: where dialling fails nothing is told any more either.
  Session handle(session);
  ND_RETURN_IF_ERROR(dialer->DialAll(session, deadline));
  return handle;
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

void StartAccess(transport::Submission& submission) {
  auto& operation =
      static_cast<AccessOperation&>(OperationAccess::Submitted(submission));
  OperationAccess::session(operation)->StartAccess(operation);
}

// It has a deadline, and the caller may block.
absl::Status RunAccess(api::SessionImpl& session, AccessOperation& operation,
                       std::chrono::nanoseconds timeout) {
  ND_RETURN_IF_ERROR(api::MayBlock(session.engine()));
  operation.set_deadline(api::After(timeout));
  OperationAccess::SetSession(operation, session.runtime()->core());
  api::Start(session.engine(), operation, nullptr, &StartAccess);
  api::Await(session.engine(), operation);
  return Annotate(operation.status(), session.name());
}

}  // namespace

absl::StatusOr<Session> Session::Connect(Reactor& reactor,
                                         std::string_view server,
                                         const Options& options,
                                         std::chrono::nanoseconds timeout) {
  transport::Hub& hub = reactor.hub();
  const Deadline deadline = Deadline::After(timeout);
  absl::StatusOr<Session> session = Session();
  const std::string host(server);
  ND_RETURN_IF_ERROR(api::Blocking(hub.engine(), [&] {
    session = SetUp(hub, host, options, deadline);
    if (!session.ok()) {
      session = Annotate(session.status(), absl::StrCat("session with ", host));
    }
  }));
  return session;
}

Session::Session(std::shared_ptr<api::SessionImpl> impl)
    : impl_(std::move(impl)) {}
Session& Session::operator=(Session&& other) noexcept {
  const Session old(std::move(*this));
  impl_ = std::move(other.impl_);
  return *this;
}
Session::~Session() {
  if (impl_ != nullptr) impl_->TellNoMore();
}

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

absl::StatusOr<RegisteredMemory> Session::Register(std::span<std::byte> memory,
                                                   MemoryUse use) {
  auto registered = api::RegisteredMemory::Register(
      impl_->runtime()->registrar(), memory, use);
  ND_RETURN_IF_ERROR(Annotate(registered.status(), impl_->name()));
  return RegisteredMemory(*std::move(registered));
}

absl::StatusOr<Region> Session::Publish(std::string_view name,
                                        std::span<std::byte> memory,
                                        const RegionAccess& access,
                                        std::chrono::nanoseconds timeout) {
  const Deadline deadline = Deadline::After(timeout);
  const absl::string_view its_name(name.data(), name.size());
  absl::StatusOr<std::shared_ptr<api::PublishedRegion>> region = nullptr;
  ND_RETURN_IF_ERROR(api::Blocking(impl_->engine(), [&] {
    region = api::PublishedRegion::Publish(impl_, its_name, memory, access,
                                           deadline);
  }));
  ND_RETURN_IF_ERROR(Annotate(region.status(), impl_->name()));
  return Region(*std::move(region));
}

absl::StatusOr<RemoteRegion> Session::Lookup(std::string_view name,
                                             std::chrono::nanoseconds timeout) {
  const Deadline deadline = Deadline::After(timeout);
  absl::StatusOr<RemoteRegion> region = RemoteRegion();
  ND_RETURN_IF_ERROR(api::Blocking(impl_->engine(), [&] {
    region = impl_->peer_regions().Lookup(impl_->directory(),
                                          {name.data(), name.size()}, deadline);
  }));
  ND_RETURN_IF_ERROR(Annotate(region.status(), impl_->name()));
  return region;
}

void Session::Access(AccessOperation& operation) {
  OperationAccess::SetSession(operation, impl_->runtime()->core());
  api::Start(impl_->engine(), operation, nullptr, &StartAccess);
}

void Session::Cancel(AccessOperation& operation) {
  // It is given up by none: the reactor outlives the session.
  (void)impl_->OnReactor(
      [&operation](SessionRuntime& runtime) {
        if (OperationAccess::started(operation)) {
          runtime.core().CancelAccess(
              operation, absl::CancelledError("the operation was cancelled"));
        }
      },
      Instant::max());
}

absl::Status Session::Await(const Operation& operation) {
  ND_RETURN_IF_ERROR(api::MayBlock(impl_->engine()));
  api::Await(impl_->engine(), operation);
  return Annotate(operation.status(), impl_->name());
}

absl::Status Session::Read(const RemoteRegion& region, uint64_t offset,
                           std::span<std::byte> into,
                           std::chrono::nanoseconds timeout) {
  AccessOperation operation;
  operation.set_read(region, offset, {.bytes = into});
  return RunAccess(*impl_, operation, timeout);
}

absl::Status Session::Write(const RemoteRegion& region, uint64_t offset,
                            std::span<const std::byte> from,
                            std::chrono::nanoseconds timeout) {
  AccessOperation operation;
  operation.set_write(region, offset, {.bytes = from});
  return RunAccess(*impl_, operation, timeout);
}

absl::StatusOr<uint64_t> Session::FetchAdd(const RemoteRegion& region,
                                           uint64_t offset, uint64_t add,
                                           std::chrono::nanoseconds timeout) {
  AccessOperation operation;
  operation.set_fetch_add(region, offset, add);
  ND_RETURN_IF_ERROR(RunAccess(*impl_, operation, timeout));
  return operation.value();
}

absl::StatusOr<uint64_t> Session::CompareSwap(
    const RemoteRegion& region, uint64_t offset, uint64_t expected,
    uint64_t desired, std::chrono::nanoseconds timeout) {
  AccessOperation operation;
  operation.set_compare_swap(region, offset, expected, desired);
  ND_RETURN_IF_ERROR(RunAccess(*impl_, operation, timeout));
  return operation.value();
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
      [&](SessionRuntime& runtime) {
        text = runtime.core().Describe(impl_->engine().Now());
      },
      Instant::max());
  return asked.ok() ? text : asked.ToString();
}

SessionStatistics Session::statistics() const {
  SessionStatistics result;
  const absl::Status asked = impl_->OnReactor(
      [&](SessionRuntime& runtime) {
        result = runtime.core().Statistics(impl_->engine().Now());
      },
      Instant::max());
  (void)asked;  // without a connection yet there is nothing to tell
  return result;
}

}  // namespace nd
