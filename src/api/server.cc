#include "nd/server.h"

#include <deque>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "api/addresses.h"
#include "api/layout.h"
#include "api/link_set_up.h"
#include "api/session_impl.h"
#include "api/workers.h"
#include "base/log.h"
#include "base/status.h"
#include "control/connection_broker.h"
#include "control/grpc_server.h"
#include "control/session_service.h"

namespace nd {
namespace {

// Set-ups at a time; each waits for a client's words.
constexpr size_t kWorkers = 16;
constexpr Duration kAcceptTime = std::chrono::seconds(10);
constexpr Duration kReapInterval = std::chrono::seconds(1);
constexpr Duration kShutdownGrace = std::chrono::milliseconds(200);
constexpr Duration kLookupTime = std::chrono::seconds(10);

using ExchangeDone = std::function<void(absl::StatusOr<control::LinkLayout>)>;

}  // namespace

class Server::Impl final : public control::SessionHost,
                           public std::enable_shared_from_this<Impl> {
 public:
  Impl(std::vector<Reactor*> reactors, const Options& options)
      : reactors_(std::move(reactors)),
        options_(options),
        send_memory_(std::make_shared<transport::Budget>(
            "send memory of all sessions", options.send_memory)),
        receive_memory_(std::make_shared<transport::Budget>(
            "receive memory of all sessions", options.receive_memory)) {}

  absl::Status Listen() {
    ND_ASSIGN_OR_RETURN(
        const verbs::SocketAddress address,
        api::FindHost(options_.address, Deadline::After(kLookupTime)));
    control::ConnectionBroker::Options broker;
    broker.listener.address = address;
    broker.listener.address.set_port(0);
    // The broker goes before this does.
    broker.on_link = [this](control::ConnectionBroker::LinkRequest request) {
      OnLink(std::move(request));
    };
    ND_ASSIGN_OR_RETURN(broker_, control::ConnectionBroker::Create(broker));
    control::SessionService::Options service;
    service.sessions.max_sessions = options_.max_sessions;
    ND_ASSIGN_OR_RETURN(
        service_, control::SessionService::Create(service, *broker_, *this));
    ND_ASSIGN_OR_RETURN(
        grpc_, control::GrpcServer::Start(
                   {.address = address,
                    .services = {service_->service()},
                    .names = {control::SessionService::name()},
                    .credentials = api::CredentialsOf(options_.tls),
                    .allow_insecure_remote = options_.allow_insecure_remote}));
    ReapLater();
    return absl::OkStatus();
  }

  void Close() {
    // The clients are told by the calls that gRPC then lets go to their end.
    if (service_ != nullptr) service_->Close();
    if (grpc_ != nullptr) grpc_->Shutdown(kShutdownGrace);
    grpc_.reset();
    std::map<uint64_t, std::shared_ptr<Incoming>> sessions;
    std::deque<Session> ready;
    {
      const absl::MutexLock lock(&mutex_);
      closed_ = true;
      exchanged_.SignalAll();
      sessions.swap(sessions_);
      ready.swap(ready_);
    }
    // Here: what runs there may be the last to have this object. It asks the
    // service, which needs the broker.
    workers_.Stop();
    broker_.reset();
  }

  std::string address() const { return grpc_->address().ToString(); }

  void Drain(Duration grace) { service_->Drain("it is draining", grace); }

  absl::StatusOr<Session> Accept(std::chrono::nanoseconds timeout) {
    for (Reactor* const reactor : reactors_) {
      ND_RETURN_IF_ERROR(api::MayBlock(reactor->hub().engine()));
    }
    const Instant deadline = api::After(timeout);
    const auto there = [this] {
      const absl::MutexLock lock(&mutex_);
      return !ready_.empty();
    };
    for (Reactor* const reactor : reactors_) {
      transport::Engine& engine = reactor->hub().engine();
      if (engine.OnThread()) engine.RunUntil(there, deadline);
    }
    const absl::MutexLock lock(&mutex_);
    const absl::Time limit =
        absl::Now() + absl::FromChrono(deadline - Clock::Monotonic().Now());
    while (ready_.empty()) {
      if (changed_.WaitWithDeadline(&mutex_, limit)) {
        return absl::DeadlineExceededError("no peer has opened a session");
      }
    }
    Session session = std::move(ready_.front());
    ready_.pop_front();
    return session;
  }

  // --- SessionHost, on threads of gRPC's ---

  void Open(const Opening& opening,
            std::function<void(absl::Status)> done) override {
    const auto incoming = std::make_shared<Incoming>();
    incoming->links = opening.layout.links();
    const std::string name = absl::StrCat(
        control::SessionName(opening.session), " with ", opening.client,
        opening.client_name.empty() ? "" : " ", opening.client_name);
    {
      const absl::MutexLock lock(&mutex_);
      Reactor& reactor = *reactors_[next_reactor_++ % reactors_.size()];
      incoming->session = std::make_shared<api::SessionImpl>(
          reactor.hub(),
          api::SessionImpl::Options{
              .id = opening.session,
              .name = name,
              .layout = api::ForApplication(opening.layout),
              .runtime = {.layout = api::ForTransport(opening.layout),
                          .client = false,
                          .reconnect = options_.reconnect,
                          .receive_budget = opening.layout.receive_budget,
                          .send_memory = send_memory_,
                          .receive_memory = receive_memory_,
                          .name = name},
              .on_gone =
                  [weak = weak_from_this(), id = opening.session] {
                    if (const auto self = weak.lock()) self->EndLater(id);
                  },
              .directory = std::make_shared<Directory>(weak_from_this(),
                                                       opening.session)});
      incoming->handle = incoming->session;
      sessions_[opening.session] = incoming;
    }
    done(absl::OkStatus());
  }

  void ExchangeLayout(uint64_t id, control::LinkId link,
                      const control::LinkLayout& client,
                      ExchangeDone done) override {
    absl::Status failed = Gone();
    ExchangeDone superseded;
    {
      const absl::MutexLock lock(&mutex_);
      const auto found = sessions_.find(id);
      if (found != sessions_.end()) {
        Exchange& exchange = found->second->exchanges[link.number];
        if (exchange.incarnation != link.incarnation || exchange.failed.ok()) {
          superseded =
              std::exchange(exchange, {.incarnation = link.incarnation,
                                       .client = client,
                                       .done = std::exchange(done, nullptr)})
                  .done;
          exchanged_.SignalAll();
        } else {
          failed = exchange.failed;
        }
      }
    }
    if (superseded) {
      superseded(absl::AbortedError("the link is made anew"));
    }
    if (done) done(std::move(failed));
  }

  absl::Status Reconnect(uint64_t id,
                         std::span<const control::LinkId>) override {
    const std::shared_ptr<api::SessionImpl> session = Find(id);
    return session == nullptr ? Gone() : session->status();
  }

  void RegionWithdrawn(uint64_t id, absl::string_view,
                       const control::Region& region) override {
    const std::shared_ptr<api::SessionImpl> session = Find(id);
    if (session != nullptr) session->peer_regions().Withdrawn(region.id);
  }

  void Closed(uint64_t id, const absl::Status& why) override {
    std::shared_ptr<Incoming> incoming;
    {
      const absl::MutexLock lock(&mutex_);
      const auto found = sessions_.find(id);
      if (found == sessions_.end()) return;
      incoming = std::move(found->second);
      sessions_.erase(found);
      exchanged_.SignalAll();
    }
    for (auto& [number, exchange] : incoming->exchanges) {
      if (exchange.done) exchange.done(Gone());
    }
    // A peaceful end is said on the connections. Without any, nothing is.
    const std::shared_ptr<api::SessionImpl> session = incoming->handle.lock();
    if (session == nullptr) return;
    if (!why.ok() || incoming->session != nullptr) {
      session->Fail(
          Annotate(why.ok() ? absl::CancelledError("no reason given") : why,
                   "the control plane has closed the session"));
    }
  }

 private:
  // The regions of one session, for as long as there is a control plane.
  class Directory final : public api::RegionDirectory {
   public:
    Directory(std::weak_ptr<Impl> server, uint64_t session)
        : server_(std::move(server)), session_(session) {}

    absl::StatusOr<uint64_t> Publish(absl::string_view name,
                                     const control::Region& region,
                                     const Deadline&) override {
      const std::shared_ptr<Impl> server = server_.lock();
      if (server == nullptr) return NoServer();
      return server->service_->Publish(session_, name, region);
    }
    absl::Status Withdraw(absl::string_view name, const Deadline&) override {
      const std::shared_ptr<Impl> server = server_.lock();
      if (server == nullptr) return NoServer();
      return server->service_->Withdraw(session_, name);
    }
    absl::StatusOr<control::Region> Lookup(absl::string_view name,
                                           const Deadline&) override {
      const std::shared_ptr<Impl> server = server_.lock();
      if (server == nullptr) return NoServer();
      return server->service_->Lookup(session_, name);
    }

   private:
    static absl::Status NoServer() {
      return absl::UnavailableError(
          "the server, whose control plane knows the regions, is no more");
    }
    const std::weak_ptr<Impl> server_;
    const uint64_t session_;
  };

  struct Exchange {
    uint32_t incarnation = 0;
    std::optional<control::LinkLayout> client{};
    ExchangeDone done{};    // the client waits
    absl::Status failed{};  // this end, before the client came
  };
  struct Incoming {
    uint64_t links = 0;
    std::set<uint32_t> opened;                  // links that once stood
    std::shared_ptr<api::SessionImpl> session;  // until the application has it
    std::weak_ptr<api::SessionImpl> handle;
    std::map<uint32_t, Exchange> exchanges;
  };

  static absl::Status Gone() {
    return absl::NotFoundError("the session has ended");
  }

  std::shared_ptr<api::SessionImpl> Find(uint64_t id) {
    const absl::MutexLock lock(&mutex_);
    const auto found = sessions_.find(id);
    return found == sessions_.end() ? nullptr : found->second->handle.lock();
  }

  void OnLink(control::ConnectionBroker::LinkRequest request) {
    // A Work can be copied, a request cannot.
    const auto shared =
        std::make_shared<control::ConnectionBroker::LinkRequest>(
            std::move(request));
    workers_.Run([this, shared] { AcceptLink(*shared); });
  }

  void AcceptLink(control::ConnectionBroker::LinkRequest& request) {
    const std::shared_ptr<api::SessionImpl> session = Find(request.session);
    if (session == nullptr) return;  // which rejects it
    const Deadline deadline = Deadline::After(kAcceptTime);
    absl::StatusOr<control::LinkLayout> own = api::AcceptLink(
        *session, request.link, std::move(request.event.request),
        [&](const control::LinkLayout&) {
          return AwaitClient(request.session, request.link, deadline.at());
        },
        deadline);
    if (!own.ok())
      ND_LOG(kWarning, session->name(), ": ",
             own.status().ToString(absl::StatusToStringMode::kWithNoExtraData));
    ExchangeDone done;
    std::optional<Session> whole;
    {
      const absl::MutexLock lock(&mutex_);
      const auto found = sessions_.find(request.session);
      if (found == sessions_.end()) return;
      Incoming& incoming = *found->second;
      Exchange& exchange = incoming.exchanges[request.link.number];
      if (exchange.incarnation == request.link.incarnation && exchange.done) {
        done = std::exchange(exchange.done, nullptr);
      } else if (!own.ok()) {
        exchange = {.incarnation = request.link.incarnation,
                    .failed = own.status()};
      }
      if (own.ok()) incoming.opened.insert(request.link.number);
      if (incoming.session != nullptr &&
          incoming.opened.size() == incoming.links) {
        whole.emplace(std::exchange(incoming.session, nullptr));
      }
    }
    if (done) done(std::move(own));
    if (whole) Deliver(*std::move(whole));
  }

  // How the client's end of a link is laid out.
  absl::StatusOr<control::LinkLayout> AwaitClient(uint64_t id,
                                                  control::LinkId link,
                                                  Instant deadline) {
    const absl::Time limit =
        absl::Now() + absl::FromChrono(deadline - Clock::Monotonic().Now());
    const absl::MutexLock lock(&mutex_);
    for (;;) {
      const auto found = sessions_.find(id);
      if (found == sessions_.end() || closed_) return Gone();
      const Exchange& exchange = found->second->exchanges[link.number];
      if (exchange.incarnation == link.incarnation && exchange.client) {
        return *exchange.client;
      }
      if (exchanged_.WaitWithDeadline(&mutex_, limit)) {
        return absl::DeadlineExceededError(
            absl::StrCat("the client does not say how its end of link ",
                         link.number, " is laid out"));
      }
    }
  }

  // To the application.
  void Deliver(Session session) {
    if (options_.on_session) {
      struct Delivery final : transport::Submission {
        Delivery(const std::function<void(Session)>& its, Session&& new_one)
            : Submission(&Delivery::RunIt),
              on_session(its),
              session(std::move(new_one)) {}
        static void RunIt(Submission& self) {
          const std::unique_ptr<Delivery> it(&static_cast<Delivery&>(self));
          it->on_session(std::move(it->session));
        }
        const std::function<void(Session)> on_session;
        Session session;
      };
      transport::Engine& engine = session.impl().engine();
      engine.Submit(*new Delivery(options_.on_session, std::move(session)));
      return;
    }
    {
      const absl::MutexLock lock(&mutex_);
      if (closed_) return;
      ready_.push_back(std::move(session));
      changed_.Signal();
    }
    for (Reactor* const reactor : reactors_) reactor->hub().engine().Nudge();
  }

  void EndLater(uint64_t id) {
    workers_.Run([this, id] {
      // It may have been closed by its client.
      (void)service_->End(
          id, absl::CancelledError("the application has closed it"));
    });
  }

  void ReapLater() {
    workers_.RunAt(Clock::Monotonic().Now() + kReapInterval, [this] {
      service_->Reap();
      ReapLater();
    });
  }

  const std::vector<Reactor*> reactors_;
  const Options options_;
  const std::shared_ptr<transport::Budget> send_memory_, receive_memory_;
  std::shared_ptr<control::ConnectionBroker> broker_;
  std::unique_ptr<control::SessionService> service_;
  std::unique_ptr<control::GrpcServer> grpc_;

  absl::Mutex mutex_;
  absl::CondVar changed_;
  absl::CondVar exchanged_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  size_t next_reactor_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::shared_ptr<Incoming>> sessions_
      ABSL_GUARDED_BY(mutex_);
  std::deque<Session> ready_ ABSL_GUARDED_BY(mutex_);
  api::Workers workers_{kWorkers};
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(
    std::vector<Reactor*> reactors, const Options& options) {
  if (reactors.empty()) {
    return absl::InvalidArgumentError("a server needs a reactor");
  }
  const auto impl = std::make_shared<Impl>(std::move(reactors), options);
  std::unique_ptr<Server> server(new Server(impl));
  ND_RETURN_IF_ERROR(
      Annotate(impl->Listen(), absl::StrCat("server ", options.address)));
  return server;
}

Server::Server(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { impl_->Close(); }

std::string Server::address() const { return impl_->address(); }

void Server::Drain(std::chrono::nanoseconds grace) { impl_->Drain(grace); }

absl::StatusOr<Session> Server::Accept(std::chrono::nanoseconds timeout) {
  return impl_->Accept(timeout);
}

}  // namespace nd
