#include "control/session_service.h"

#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status.h"
#include "control/grpc_channel.h"
#include "control/grpc_status.h"
#include "control/session_messages.h"
#include "control/watch_call.h"
#include "nd/v1/control.grpc.pb.h"

namespace nd::control {
namespace {

using Reactor = grpc::ServerUnaryReactor;
using Context = grpc::CallbackServerContext;

std::string ClientName(const std::string& grpc_peer) {
  const absl::StatusOr<verbs::SocketAddress> address = ParsePeer(grpc_peer);
  return address.ok() ? address->ToString() : grpc_peer;
}

absl::Status ShuttingDown() {
  return absl::UnavailableError("the server is shutting down");
}

// A call, whose default reactor may be asked for once only.
struct Call {
  explicit Call(Context* of)
      : context(of),
        reactor(of->DefaultReactor()),
        client(ClientName(of->peer())) {}

  Reactor* Finish(const absl::Status& status) const {
    if (status.GetPayload(kTryAgain).has_value()) {
      context->AddTrailingMetadata(std::string(kTryAgain), "1");
    }
    reactor->Finish(ToGrpcStatus(status));
    return reactor;
  }

  Context* context;
  Reactor* reactor;
  std::string client;
};

absl::StatusOr<SessionHost::Opening> CheckOpening(
    const v1::OpenSessionRequest& request, const LayoutLimits& limits) {
  SessionHost::Opening opening;
  ND_ASSIGN_OR_RETURN(opening.version, ChooseVersion(request));
  ND_RETURN_IF_ERROR(CheckRange("client_name", request.client_name().size(), 0,
                                kMaxClientName));
  opening.client_name = request.client_name();
  const SessionLayout wish = FromMessage(request.layout());
  ND_RETURN_IF_ERROR(CheckLayout(wish));
  opening.layout = Agree(wish, limits);
  return opening;
}

}  // namespace

class SessionService::Impl final : public v1::Control::CallbackService {
 public:
  Impl(const Options& options, LinkInviter& inviter, SessionHost& host)
      : limits_(options.limits),
        clock_(*options.clock),
        random_(options.random != nullptr ? *options.random : system_random_),
        inviter_(inviter),
        host_(host),
        sessions_(options.sessions),
        regions_(options.sessions.max_regions) {}

  absl::StatusOr<uint64_t> Publish(uint64_t id, absl::string_view name,
                                   const Region& region);
  absl::Status Withdraw(uint64_t id, absl::string_view name);
  absl::StatusOr<Region> Lookup(uint64_t id, absl::string_view name);
  void Drain(absl::string_view why, Duration grace);
  absl::Status End(uint64_t id, const absl::Status& why);
  void Reap();
  void Close();
  Statistics statistics() const;

 private:
  using Session = SessionTable::Session;

  Reactor* OpenSession(Context* context, const v1::OpenSessionRequest* request,
                       v1::OpenSessionResponse* response) override;
  Reactor* Reconnect(Context* context, const v1::ReconnectRequest* request,
                     v1::ReconnectResponse* response) override;
  Reactor* ExchangeLayout(Context* context,
                          const v1::ExchangeLayoutRequest* request,
                          v1::ExchangeLayoutResponse* response) override;
  Reactor* PublishRegion(Context* context,
                         const v1::PublishRegionRequest* request,
                         v1::PublishRegionResponse* response) override;
  Reactor* LookupRegion(Context* context,
                        const v1::LookupRegionRequest* request,
                        v1::LookupRegionResponse* response) override;
  Reactor* WithdrawRegion(Context* context,
                          const v1::WithdrawRegionRequest* request,
                          v1::WithdrawRegionResponse* response) override;
  Reactor* CloseSession(Context* context,
                        const v1::CloseSessionRequest* request,
                        v1::CloseSessionResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchEvent>* Watch(
      Context* context, const v1::WatchRequest* request) override;

  absl::StatusOr<Session*> Find(const v1::SessionKey& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<uint64_t> Begin(SessionHost::Opening& opening,
                                 const Token& secret);
  void FinishOpen(const Call& call, const SessionHost::Opening& opening,
                  const Token& secret, const absl::Status& done,
                  v1::OpenSessionResponse& response);
  absl::Status Opened(const SessionHost::Opening& opening, const Token& secret,
                      v1::OpenSessionResponse& response);
  Reactor* Refuse(const Call& call, const absl::Status& why);
  absl::StatusOr<LinkPass> PassFor(const v1::ReconnectRequest& request);
  absl::Status PublishOfClient(const v1::PublishRegionRequest& request,
                               v1::PublishRegionResponse& response);
  absl::StatusOr<Region> LookupOfServer(const v1::LookupRegionRequest& request);
  absl::Status WithdrawOfClient(const v1::WithdrawRegionRequest& request);
  absl::Status CloseByClient(const v1::CloseSessionRequest& request);
  absl::Status StartWatch(const v1::WatchRequest& request,
                          const std::shared_ptr<WatchCall>& watch);

  SystemRandom system_random_;
  const LayoutLimits limits_;
  const Clock& clock_;
  Random& random_;
  LinkInviter& inviter_;
  SessionHost& host_;

  // Not held while the host or the inviter is called.
  mutable absl::Mutex mutex_;
  SessionTable sessions_ ABSL_GUARDED_BY(mutex_);
  RegionTable regions_ ABSL_GUARDED_BY(mutex_);  // of kEverySession
  std::map<uint64_t, std::shared_ptr<WatchCall>> watches_
      ABSL_GUARDED_BY(mutex_);
  uint64_t next_region_ ABSL_GUARDED_BY(mutex_) = 1;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Draining> draining_ ABSL_GUARDED_BY(mutex_);
  Statistics statistics_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<SessionTable::Session*> SessionService::Impl::Find(
    const v1::SessionKey& key) {
  const absl::StatusOr<Token> secret = Token::FromBytes(key.secret());
  if (!secret.ok()) return Annotate(secret.status(), "session.secret");
  if (closed_) return ShuttingDown();
  return sessions_.Find(key.id(), *secret);
}

// OpenSession: a place in the table, then the host, then the token.

Reactor* SessionService::Impl::OpenSession(
    Context* context, const v1::OpenSessionRequest* request,
    v1::OpenSessionResponse* response) {
  const Call call(context);
  auto opening = CheckOpening(*request, limits_);
  if (!opening.ok()) return Refuse(call, opening.status());
  opening->client = call.client;
  Token secret;
  {
    MutexLock lock(&mutex_);  // for the random numbers, too
    secret = Token::Generate(random_);
  }
  const absl::StatusOr<uint64_t> id = Begin(*opening, secret);
  if (!id.ok()) return Refuse(call, id.status());
  opening->session = *id;
  host_.Open(*opening, [this, call, response, secret,
                        opening = *opening](const absl::Status& done) {
    FinishOpen(call, opening, secret, done, *response);
  });
  return call.reactor;
}

void SessionService::Impl::FinishOpen(const Call& call,
                                      const SessionHost::Opening& opening,
                                      const Token& secret,
                                      const absl::Status& done,
                                      v1::OpenSessionResponse& response) {
  if (!done.ok()) {
    {
      MutexLock lock(&mutex_);
      sessions_.Remove(opening.session);
    }
    Refuse(call, done);
    return;
  }
  absl::Status status = Opened(opening, secret, response);
  if (status.ok() && call.context->IsCancelled()) {
    status = absl::CancelledError("the client has given up");
    // Whether somebody else has ended it does not matter here.
    (void)End(opening.session, status);
  }
  if (!status.ok()) {
    Refuse(call, status);
    return;
  }
  ND_LOG(kInfo, SessionName(opening.session), " opened for ", opening.client,
         " \"", opening.client_name, "\"");
  call.Finish(status);
}

absl::StatusOr<uint64_t> SessionService::Impl::Begin(
    SessionHost::Opening& opening, const Token& secret) {
  bool full = false;
  {
    MutexLock lock(&mutex_);
    full = sessions_.full();
  }
  if (full) Reap();
  MutexLock lock(&mutex_);
  if (closed_) return ShuttingDown();
  if (draining_.has_value()) {
    return absl::UnavailableError(
        absl::StrCat("the server takes no more sessions: ", draining_->text));
  }
  ND_ASSIGN_OR_RETURN(
      const uint64_t id,
      sessions_.Begin(opening.client, secret, opening.layout, random_));
  statistics_.most_set_ups =
      std::max<uint64_t>(statistics_.most_set_ups, sessions_.set_ups());
  return id;
}

// The host has the session: gives it its token. When that fails the host hears
// that it is closed.
absl::Status SessionService::Impl::Opened(const SessionHost::Opening& opening,
                                          const Token& secret,
                                          v1::OpenSessionResponse& response) {
  const uint64_t id = opening.session;
  std::vector<LinkId> links;
  {
    MutexLock lock(&mutex_);
    if (const Session* session = sessions_.Find(id); session != nullptr) {
      links = SessionTable::AllLinks(*session);
    }
  }
  absl::StatusOr<LinkPass> pass = inviter_.InviteLinks(id, links);
  {
    MutexLock lock(&mutex_);
    if (closed_ && pass.ok()) pass = ShuttingDown();
    if (pass.ok()) {
      sessions_.Opened(id, pass->token_lifetime, clock_.Now());
      ++statistics_.opened;
    } else {
      sessions_.Remove(id);
    }
  }
  if (!pass.ok()) {
    inviter_.WithdrawLinks(id);
    host_.Closed(id, pass.status());
    return pass.status();
  }
  response.set_version(opening.version);
  response.mutable_session()->set_id(id);
  response.mutable_session()->set_secret(secret.bytes());
  *response.mutable_layout() = ToMessage(opening.layout);
  *response.mutable_pass() = ToMessage(*pass);
  return absl::OkStatus();
}

Reactor* SessionService::Impl::Refuse(const Call& call,
                                      const absl::Status& why) {
  {
    MutexLock lock(&mutex_);
    ++statistics_.refused;
  }
  ND_LOG(kDebug, "client ", call.client, " gets no session: ", why.ToString());
  return call.Finish(why);
}

// Links.

absl::StatusOr<LinkPass> SessionService::Impl::PassFor(
    const v1::ReconnectRequest& request) {
  const uint64_t id = request.session().id();
  std::vector<LinkId> links;
  {
    MutexLock lock(&mutex_);
    ND_ASSIGN_OR_RETURN(Session* const session, Find(request.session()));
    const std::vector<uint32_t> numbers(request.links().begin(),
                                        request.links().end());
    ND_ASSIGN_OR_RETURN(links, SessionTable::Reconnect(*session, numbers));
  }
  ND_RETURN_IF_ERROR(host_.Reconnect(id, links));
  absl::StatusOr<LinkPass> pass = inviter_.InviteLinks(id, links);
  MutexLock lock(&mutex_);
  if (sessions_.Find(id) != nullptr || !pass.ok()) return pass;
  inviter_.WithdrawLinks(id);
  return absl::NotFoundError(
      absl::StrCat(SessionName(id), ": was closed meanwhile"));
}

Reactor* SessionService::Impl::Reconnect(Context* context,
                                         const v1::ReconnectRequest* request,
                                         v1::ReconnectResponse* response) {
  const absl::StatusOr<LinkPass> pass = PassFor(*request);
  if (pass.ok()) *response->mutable_pass() = ToMessage(*pass);
  return Call(context).Finish(pass.status());
}

Reactor* SessionService::Impl::ExchangeLayout(
    Context* context, const v1::ExchangeLayoutRequest* request,
    v1::ExchangeLayoutResponse* response) {
  const Call call(context);
  const uint64_t id = request->session().id();
  const LinkId link = FromMessage(request->link());
  const LinkLayout layout = FromMessage(request->layout());
  const auto begin = [&]() -> absl::Status {
    MutexLock lock(&mutex_);
    ND_ASSIGN_OR_RETURN(Session* const session, Find(request->session()));
    ND_RETURN_IF_ERROR(CheckLinkLayout(layout, session->layout));
    return SessionTable::BeginExchange(*session, link);
  };
  if (const absl::Status status = begin(); !status.ok()) {
    return call.Finish(status);
  }
  host_.ExchangeLayout(
      id, link, layout,
      [this, id, link, call, response](const absl::StatusOr<LinkLayout>& done) {
        {
          MutexLock lock(&mutex_);
          sessions_.EndExchange(id, link, done.ok(), clock_.Now());
        }
        if (done.ok()) *response->mutable_layout() = ToMessage(*done);
        call.Finish(done.status());
      });
  return call.reactor;
}

// Regions.

absl::Status SessionService::Impl::PublishOfClient(
    const v1::PublishRegionRequest& request,
    v1::PublishRegionResponse& response) {
  Region region = FromMessage(request.region());
  ND_RETURN_IF_ERROR(CheckRange("region.id", region.id, 0, 0));
  {
    MutexLock lock(&mutex_);
    ND_ASSIGN_OR_RETURN(Session* const session, Find(request.session()));
    region.id = next_region_++;
    ND_RETURN_IF_ERROR(session->of_client.Publish(request.name(), region));
  }
  response.set_id(region.id);
  host_.RegionPublished(request.session().id(), request.name(), region);
  return absl::OkStatus();
}

Reactor* SessionService::Impl::PublishRegion(
    Context* context, const v1::PublishRegionRequest* request,
    v1::PublishRegionResponse* response) {
  return Call(context).Finish(PublishOfClient(*request, *response));
}

absl::StatusOr<Region> SessionService::Impl::LookupOfServer(
    const v1::LookupRegionRequest& request) {
  MutexLock lock(&mutex_);
  ND_ASSIGN_OR_RETURN(const Session* const session, Find(request.session()));
  const std::string& name = request.name();
  ND_RETURN_IF_ERROR(CheckRange("name", name.size(), 1, kMaxRegionName));
  const absl::StatusOr<Region> own = session->of_server.Find(name);
  return own.ok() ? own : regions_.Find(name);
}

Reactor* SessionService::Impl::LookupRegion(
    Context* context, const v1::LookupRegionRequest* request,
    v1::LookupRegionResponse* response) {
  const absl::StatusOr<Region> region = LookupOfServer(*request);
  if (region.ok()) *response->mutable_region() = ToMessage(*region);
  return Call(context).Finish(region.status());
}

absl::Status SessionService::Impl::WithdrawOfClient(
    const v1::WithdrawRegionRequest& request) {
  Region region;
  {
    MutexLock lock(&mutex_);
    ND_ASSIGN_OR_RETURN(Session* const session, Find(request.session()));
    const std::string& name = request.name();
    ND_RETURN_IF_ERROR(CheckRange("name", name.size(), 1, kMaxRegionName));
    ND_ASSIGN_OR_RETURN(region, session->of_client.Withdraw(name));
  }
  host_.RegionWithdrawn(request.session().id(), request.name(), region);
  return absl::OkStatus();
}

Reactor* SessionService::Impl::WithdrawRegion(
    Context* context, const v1::WithdrawRegionRequest* request,
    v1::WithdrawRegionResponse*) {
  return Call(context).Finish(WithdrawOfClient(*request));
}

absl::StatusOr<uint64_t> SessionService::Impl::Publish(uint64_t id,
                                                       absl::string_view name,
                                                       const Region& region) {
  MutexLock lock(&mutex_);
  Session* const session = sessions_.Find(id);
  if (id != kEverySession && session == nullptr) {
    return absl::NotFoundError(absl::StrCat(SessionName(id), ": is not known"));
  }
  Region published = region;
  published.id = next_region_++;
  RegionTable& table = session == nullptr ? regions_ : session->of_server;
  ND_RETURN_IF_ERROR(table.Publish(name, published));
  return published.id;
}

absl::Status SessionService::Impl::Withdraw(uint64_t id,
                                            absl::string_view name) {
  Region region;
  std::vector<std::shared_ptr<WatchCall>> watches;
  {
    MutexLock lock(&mutex_);
    Session* const session = sessions_.Find(id);
    if (id != kEverySession && session == nullptr) {
      return absl::NotFoundError(
          absl::StrCat(SessionName(id), ": is not known"));
    }
    RegionTable& table = session == nullptr ? regions_ : session->of_server;
    ND_ASSIGN_OR_RETURN(region, table.Withdraw(name));
    for (const auto& [watching, watch] : watches_) {
      if (id == kEverySession || id == watching) watches.push_back(watch);
    }
  }
  for (const auto& watch : watches) {
    watch->Send(RegionWithdrawn{.name = std::string(name), .id = region.id});
  }
  return absl::OkStatus();
}

absl::StatusOr<Region> SessionService::Impl::Lookup(uint64_t id,
                                                    absl::string_view name) {
  MutexLock lock(&mutex_);
  const Session* const session = sessions_.Find(id);
  if (session == nullptr) {
    return absl::NotFoundError(absl::StrCat(SessionName(id), ": is not known"));
  }
  return session->of_client.Find(name);
}

// The end, and who hears of it.

grpc::ServerWriteReactor<v1::WatchEvent>* SessionService::Impl::Watch(
    Context*, const v1::WatchRequest* request) {
  const std::shared_ptr<WatchCall> watch = WatchCall::Create();
  if (const absl::Status status = StartWatch(*request, watch); !status.ok()) {
    watch->End(status);
  }
  return watch.get();
}

absl::Status SessionService::Impl::StartWatch(
    const v1::WatchRequest& request, const std::shared_ptr<WatchCall>& watch) {
  std::shared_ptr<WatchCall> earlier;
  {
    MutexLock lock(&mutex_);
    ND_RETURN_IF_ERROR(Find(request.session()));
    watch->Start();
    if (draining_.has_value()) watch->Send(*draining_);
    std::shared_ptr<WatchCall>& current = watches_[request.session().id()];
    earlier = std::exchange(current, watch);
  }
  if (earlier != nullptr) {
    earlier->End(absl::AbortedError("the session is watched by a later call"));
  }
  return absl::OkStatus();
}

absl::Status SessionService::Impl::End(uint64_t id, const absl::Status& why) {
  std::shared_ptr<WatchCall> watch;
  {
    MutexLock lock(&mutex_);
    const Session* const session = sessions_.Find(id);
    if (session == nullptr || !session->open) {
      return absl::NotFoundError(
          absl::StrCat(SessionName(id), ": is not known"));
    }
    ND_LOG(kInfo, SessionName(id), " of ", session->client,
           " ended: ", why.ToString());
    sessions_.Remove(id);
    if (auto node = watches_.extract(id)) watch = std::move(node.mapped());
  }
  inviter_.WithdrawLinks(id);
  if (watch != nullptr) {
    watch->Send(SessionClosed{why});
    watch->End(absl::OkStatus());
  }
  host_.Closed(id, why);
  return absl::OkStatus();
}

absl::Status SessionService::Impl::CloseByClient(
    const v1::CloseSessionRequest& request) {
  ND_RETURN_IF_ERROR(CheckReason(request.reason()));
  {
    MutexLock lock(&mutex_);
    ND_RETURN_IF_ERROR(Find(request.session()));
  }
  return End(request.session().id(), FromMessage(request.reason()));
}

Reactor* SessionService::Impl::CloseSession(
    Context* context, const v1::CloseSessionRequest* request,
    v1::CloseSessionResponse*) {
  return Call(context).Finish(CloseByClient(*request));
}

void SessionService::Impl::Drain(absl::string_view why, Duration grace) {
  std::vector<std::shared_ptr<WatchCall>> watches;
  const Draining draining{.text = std::string(why), .grace = grace};
  {
    MutexLock lock(&mutex_);
    draining_ = draining;
    for (const auto& [id, watch] : watches_) watches.push_back(watch);
  }
  for (const auto& watch : watches) watch->Send(draining);
}

void SessionService::Impl::Reap() {
  std::vector<uint64_t> late;
  {
    MutexLock lock(&mutex_);
    late = sessions_.Late(clock_.Now());
  }
  for (const uint64_t id : late) {
    // Somebody else may have ended it meanwhile.
    (void)End(id, absl::DeadlineExceededError(
                      "the client did not make all its links in time"));
  }
}

void SessionService::Impl::Close() {
  std::vector<uint64_t> ids;
  {
    MutexLock lock(&mutex_);
    closed_ = true;
    ids = sessions_.ids();
  }
  // Those that the host has not opened yet end when it has.
  for (const uint64_t id : ids) (void)End(id, ShuttingDown());
}

SessionService::Statistics SessionService::Impl::statistics() const {
  MutexLock lock(&mutex_);
  Statistics statistics = statistics_;
  statistics.sessions = sessions_.size();
  statistics.set_ups = sessions_.set_ups();
  return statistics;
}

absl::StatusOr<std::unique_ptr<SessionService>> SessionService::Create(
    const Options& options, LinkInviter& inviter, SessionHost& host) {
  ND_RETURN_IF_ERROR(CheckLimits(options.limits));
  return std::unique_ptr<SessionService>(
      new SessionService(std::make_unique<Impl>(options, inviter, host)));
}

SessionService::SessionService(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}
SessionService::~SessionService() { Close(); }

grpc::Service* SessionService::service() { return impl_.get(); }
std::string SessionService::name() { return v1::Control::service_full_name(); }

absl::StatusOr<uint64_t> SessionService::Publish(uint64_t session,
                                                 absl::string_view name,
                                                 const Region& region) {
  return impl_->Publish(session, name, region);
}
absl::Status SessionService::Withdraw(uint64_t session,
                                      absl::string_view name) {
  return impl_->Withdraw(session, name);
}
absl::StatusOr<Region> SessionService::Lookup(uint64_t session,
                                              absl::string_view name) {
  return impl_->Lookup(session, name);
}
void SessionService::Drain(absl::string_view why, Duration grace) {
  impl_->Drain(why, grace);
}
absl::Status SessionService::End(uint64_t session, const absl::Status& why) {
  return impl_->End(session, why);
}
void SessionService::Reap() { impl_->Reap(); }
void SessionService::Close() { impl_->Close(); }
SessionService::Statistics SessionService::statistics() const {
  return impl_->statistics();
}

}  // namespace nd::control
