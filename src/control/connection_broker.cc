#include "control/connection_broker.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <deque>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status.h"
#include "control/admission.h"

namespace nd::control {
namespace {

// How long the thread pauses when the listener fails: it listens again by
// itself, but a failure that stays shall not cost a core.
constexpr Duration kPauseAfterFailure = std::chrono::milliseconds(200);
// A listener whose device is away says so at the end of each wait.
constexpr Duration kListenAtATime = std::chrono::seconds(10);

}  // namespace

class ConnectionBroker::Impl {
 public:
  Impl(const Options& options, std::unique_ptr<verbs::Listener> listener,
       Cancellation stop)
      : clock_(*options.clock),
        random_(options.random != nullptr ? *options.random : system_random_),
        on_link_(options.on_link),
        stop_(std::move(stop)),
        listener_(std::move(listener)),
        address_(listener_->address()),
        admission_({.token_lifetime = options.token_lifetime,
                    .max_invitations = options.max_invitations}),
        thread_([this] { Listen(); }) {}

  // Ends the thread; called once, by the broker.
  void Stop();

  absl::StatusOr<std::pair<Admission::Id, Token>> Invite(uint32_t connections);
  void Withdraw(Admission::Id id);
  absl::StatusOr<LinkPass> InviteLinks(uint64_t session,
                                       std::span<const LinkId> links);
  void WithdrawLinks(uint64_t session);
  absl::StatusOr<Invitation::Request> Next(Admission::Id id,
                                           const Deadline& deadline,
                                           const Cancellation* cancel);

  const verbs::SocketAddress& address() const { return address_; }
  uint64_t accepted() const { return accepted_; }
  uint64_t rejected() const { return rejected_ + listener_->refused(); }

 private:
  // The requests that an invitation let in and that nobody took yet: at most
  // one for each index. `ready` is a semaphore that counts them, because waits
  // are for file descriptors.
  struct Queue {
    std::deque<Invitation::Request> requests;
    Fd ready;
  };

  void Listen();
  void Answer(verbs::CmEvent event);
  static void Wake(const Queue& queue);
  absl::StatusOr<int> ReadyFd(Admission::Id id);

  SystemRandom system_random_;
  const Clock& clock_;
  Random& random_;
  const std::function<void(LinkRequest)> on_link_;
  Cancellation stop_;
  std::unique_ptr<verbs::Listener> listener_;  // the thread's
  const verbs::SocketAddress address_;
  std::atomic<uint64_t> accepted_{0};
  std::atomic<uint64_t> rejected_{0};

  absl::Mutex mutex_;
  Admission admission_ ABSL_GUARDED_BY(mutex_);
  std::map<Admission::Id, Queue> queues_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;  // last: it uses all of the above
};

void ConnectionBroker::Impl::Stop() {
  stop_.Cancel();
  thread_.join();
  listener_.reset();
  // Destroying a request talks to the kernel, which is not for under the lock.
  std::vector<std::deque<Invitation::Request>> dropped;
  MutexLock lock(&mutex_);
  stopped_ = true;
  admission_.Close();
  for (auto& [id, queue] : queues_) {
    dropped.push_back(std::exchange(queue.requests, {}));
    Wake(queue);
  }
}

void ConnectionBroker::Impl::Listen() {
  while (!stop_.cancelled()) {
    absl::StatusOr<verbs::CmEvent> event =
        listener_->Next(Deadline::After(kListenAtATime), &stop_);
    if (event.ok()) {
      Answer(*std::move(event));
      continue;
    }
    if (!event.status().message().empty()) {
      ND_LOG(kWarning, "listener ", address_.ToString(), ": ",
             event.status().ToString());
    }
    if (!absl::IsDeadlineExceeded(event.status())) {
      // Only its end is of interest, and that the loop asks for itself.
      (void)WaitReadable(stop_.fd(), Deadline::After(kPauseAfterFailure),
                         nullptr);
    }
  }
}

void ConnectionBroker::Impl::Answer(verbs::CmEvent event) {
  Admission::Decision decision;
  {
    MutexLock lock(&mutex_);
    decision = admission_.Decide(event.private_data, clock_.Now());
    if (const auto* admitted = std::get_if<Admission::Admitted>(&decision)) {
      Queue& queue = queues_.at(admitted->invitation);
      queue.requests.push_back(
          {.event = std::move(event), .index = admitted->index});
      Wake(queue);
      ++accepted_;
      return;
    }
  }
  if (const auto* link = std::get_if<Admission::AdmittedLink>(&decision)) {
    ++accepted_;
    return on_link_({.event = std::move(event),
                     .session = link->session,
                     .link = link->link});
  }
  ++rejected_;
  const RejectReason reason = std::get<RejectReason>(decision);
  ND_LOG(kWarning, "connection request ", event.request->ToString(),
         " rejected: ", ToString(reason));
  if (absl::Status sent = event.request->Reject(EncodeReject(reason));
      !sent.ok()) {
    // The request's end does the same, only without the reason.
    ND_LOG(kDebug, sent.ToString());
  }
}

void ConnectionBroker::Impl::Wake(const Queue& queue) {
  const uint64_t one = 1;
  // Fails only if the count were near 2^64, and then the fd is readable.
  [[maybe_unused]] const ssize_t written =
      write(queue.ready.get(), &one, sizeof(one));
}

absl::StatusOr<std::pair<Admission::Id, Token>> ConnectionBroker::Impl::Invite(
    uint32_t connections) {
  Queue queue{
      .requests = {},
      .ready = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE))};
  if (!queue.ready.valid()) return ErrnoStatus(errno, "eventfd");
  MutexLock lock(&mutex_);
  const Token token = Token::Generate(random_);
  ND_ASSIGN_OR_RETURN(const Admission::Id id,
                      admission_.Invite(token, connections, clock_.Now()));
  queues_.emplace(id, std::move(queue));
  return std::pair(id, token);
}

void ConnectionBroker::Impl::Withdraw(Admission::Id id) {
  std::deque<Invitation::Request> dropped;
  MutexLock lock(&mutex_);
  admission_.Withdraw(id);
  if (const auto it = queues_.find(id); it != queues_.end()) {
    dropped.swap(it->second.requests);
    queues_.erase(it);
  }
}

absl::StatusOr<LinkPass> ConnectionBroker::Impl::InviteLinks(
    uint64_t session, std::span<const LinkId> links) {
  if (on_link_ == nullptr) {
    return absl::FailedPreconditionError(
        "this listener takes no connections of sessions");
  }
  MutexLock lock(&mutex_);
  const Token token = Token::Generate(random_);
  ND_RETURN_IF_ERROR(
      admission_.InviteLinks(token, session, links, clock_.Now()));
  return LinkPass{.endpoint = address_,
                  .token = token,
                  .token_lifetime = admission_.token_lifetime(),
                  .links = {links.begin(), links.end()}};
}

void ConnectionBroker::Impl::WithdrawLinks(uint64_t session) {
  MutexLock lock(&mutex_);
  admission_.WithdrawLinks(session);
}

absl::StatusOr<int> ConnectionBroker::Impl::ReadyFd(Admission::Id id) {
  MutexLock lock(&mutex_);
  if (stopped_) return absl::UnavailableError("the server is shutting down");
  return queues_.at(id).ready.get();
}

absl::StatusOr<Invitation::Request> ConnectionBroker::Impl::Next(
    Admission::Id id, const Deadline& deadline, const Cancellation* cancel) {
  // The fd stays open: only the Invitation that waits here can withdraw.
  ND_ASSIGN_OR_RETURN(const int ready, ReadyFd(id));
  ND_RETURN_IF_ERROR(WaitReadable(ready, deadline, cancel));
  MutexLock lock(&mutex_);
  if (stopped_) return absl::UnavailableError("the server is shutting down");
  Queue& queue = queues_.at(id);
  uint64_t one = 0;
  if (read(ready, &one, sizeof(one)) != sizeof(one)) {
    return ErrnoStatus(errno, "read of an invitation's eventfd");
  }
  Invitation::Request request = std::move(queue.requests.front());
  queue.requests.pop_front();
  return request;
}

absl::StatusOr<std::shared_ptr<ConnectionBroker>> ConnectionBroker::Create(
    const Options& options) {
  verbs::Listener::Options listener_options = options.listener;
  const auto busy = EncodeReject(RejectReason::kBusy);
  listener_options.busy_private_data.assign(busy.begin(), busy.end());
  ND_ASSIGN_OR_RETURN(std::unique_ptr<verbs::Listener> listener,
                      verbs::Listener::Create(std::move(listener_options)));
  ND_ASSIGN_OR_RETURN(Cancellation stop, Cancellation::Create());
  return std::shared_ptr<ConnectionBroker>(new ConnectionBroker(
      std::make_shared<Impl>(options, std::move(listener), std::move(stop))));
}

ConnectionBroker::ConnectionBroker(std::shared_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

ConnectionBroker::~ConnectionBroker() { impl_->Stop(); }

absl::StatusOr<std::unique_ptr<Invitation>> ConnectionBroker::Invite(
    uint32_t connections) {
  ND_ASSIGN_OR_RETURN(const auto invited, impl_->Invite(connections));
  return std::unique_ptr<Invitation>(
      new Invitation(impl_, invited.first, invited.second));
}

absl::StatusOr<LinkPass> ConnectionBroker::InviteLinks(
    uint64_t session, std::span<const LinkId> links) {
  return impl_->InviteLinks(session, links);
}
void ConnectionBroker::WithdrawLinks(uint64_t session) {
  impl_->WithdrawLinks(session);
}

verbs::SocketAddress ConnectionBroker::address() const {
  return impl_->address();
}
uint64_t ConnectionBroker::accepted() const { return impl_->accepted(); }
uint64_t ConnectionBroker::rejected() const { return impl_->rejected(); }

Invitation::Invitation(std::shared_ptr<ConnectionBroker::Impl> broker,
                       uint64_t id, const Token& token)
    : broker_(std::move(broker)), id_(id), token_(token) {}

Invitation::~Invitation() { broker_->Withdraw(id_); }

absl::StatusOr<Invitation::Request> Invitation::Next(
    const Deadline& deadline, const Cancellation* cancel) {
  return broker_->Next(id_, deadline, cancel);
}

}  // namespace nd::control
