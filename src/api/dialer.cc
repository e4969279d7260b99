#include "api/dialer.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "api/link_set_up.h"
#include "api/workers.h"
#include "base/log.h"
#include "base/status.h"

namespace nd::api {
namespace {

// A connection that is made again, its messages to the server included.
constexpr Duration kRedialTime = std::chrono::seconds(10);
constexpr control::Backoff::Options kPauses{
    .first = std::chrono::milliseconds(20), .longest = std::chrono::seconds(5)};
constexpr Duration kCloseTime = std::chrono::seconds(5);

// Whether that was the answer of a server that has no such session any more.
// Then it is as lost as one whose peer is silent.
bool FailIfUnknown(SessionImpl& session, const absl::Status& answer) {
  if (!absl::IsNotFound(answer)) return false;
  session.Fail(absl::UnavailableError(
      absl::StrCat("the server has ended the session: ", answer.message())));
  return true;
}

void TellWithdrawn(SessionImpl& session, const std::string& name) {
  session.Tell(
      {.kind = nd::SessionEvent::Kind::kRegionWithdrawn, .region = name});
}

}  // namespace

Dialer::Dialer(transport::Hub& hub,
               std::unique_ptr<control::SessionClient> client,
               const std::optional<verbs::SocketAddress>& from)
    : hub_(hub), from_(from), client_(std::move(client)) {}

absl::Status Dialer::Dial(SessionImpl& session, control::LinkId link,
                          const control::LinkPass& pass,
                          const Deadline& deadline) {
  const auto exchange = [&](const control::LinkLayout& own) {
    {
      // By now the end of its last connection was told, and this one's is not
      // before it is open.
      const absl::MutexLock lock(&mutex_);
      lost_.erase(link.number);
    }
    return client_->ExchangeLayout(link, own, deadline, nullptr);
  };
  return ConnectLink(session, link, pass, from_, exchange, deadline);
}

absl::Status Dialer::DialAll(const std::shared_ptr<SessionImpl>& session,
                             const Deadline& deadline) {
  {
    const absl::MutexLock lock(&mutex_);
    session_ = session;
  }
  ND_RETURN_IF_ERROR(DialFirst(*session, deadline));
  return Watch(deadline);
}

absl::Status Dialer::Watch(const Deadline& deadline) {
  ND_ASSIGN_OR_RETURN(
      std::unique_ptr<control::SessionWatch> watch,
      client_->Watch(
          [weak = weak_from_this()](const control::SessionEvent& event) {
            if (const auto self = weak.lock()) self->OnEvent(event);
          },
          // Without its control plane a session goes on, and waits for it.
          [weak = weak_from_this()](const absl::Status& why) {
            if (why.ok()) return;
            if (const auto self = weak.lock()) self->WatchLater();
          },
          deadline, nullptr));
  const absl::MutexLock lock(&mutex_);
  // The other one goes without the lock, which its callbacks take.
  if (!hung_up_) watch_.swap(watch);
  return absl::OkStatus();
}

void Dialer::WatchLater() {
  const absl::MutexLock lock(&mutex_);
  if (!watch_backoff_) watch_backoff_.emplace(kPauses, random_);
  RunAt(Clock::Monotonic().Now() + watch_backoff_->Next(), &Dialer::WatchAgain);
}

void Dialer::WatchAgain(const std::shared_ptr<SessionImpl>& session) {
  const Deadline deadline = Deadline::After(kRedialTime);
  const absl::Status watched = Watch(deadline);
  if (!watched.ok()) {
    if (!FailIfUnknown(*session, watched)) WatchLater();
    return;
  }
  {
    const absl::MutexLock lock(&mutex_);
    watch_backoff_.reset();
  }
  // What was said meanwhile was not heard.
  for (const std::string& name :
       session->peer_regions().FindWithdrawn(*this, deadline)) {
    TellWithdrawn(*session, name);
  }
}

// What the network or a busy listener has refused is tried again in the time
// that there is.
absl::Status Dialer::DialFirst(SessionImpl& session, const Deadline& deadline) {
  {
    const absl::MutexLock lock(&mutex_);
    dialing_ = true;
    for (const control::LinkId& link : client_->pass().links) {
      lost_.insert(link.number);
    }
  }
  control::Backoff pauses(kPauses, random_);
  absl::Status dialled = DialLost(session, client_->pass(), deadline);
  while (absl::IsUnavailable(dialled)) {
    const Duration pause = pauses.Next();
    if (deadline.at() - Clock::Monotonic().Now() <= pause) break;
    absl::SleepFor(absl::FromChrono(pause));
    dialled = TryAgain(session, deadline);
  }
  const absl::MutexLock lock(&mutex_);
  dialing_ = false;
  if (dialled.ok() && !lost_.empty()) DialAgainAt(Instant::min());
  return dialled;
}

void Dialer::DialAgainAt(Instant when) {
  dialing_ = true;
  RunAt(when, &Dialer::DialAgain);
}

// Without a hold of the hub, whose end would wait for it: a session that is
// still there has one.
void Dialer::RunAt(Instant when,
                   void (Dialer::*work)(const std::shared_ptr<SessionImpl>&)) {
  Workers::OfProcess().RunAt(when, [weak = weak_from_this(), work] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    const std::shared_ptr<SessionImpl> session = self->CurrentSession();
    if (session != nullptr && session->status().ok()) {
      ((*self).*work)(session);
    }
  });
}

std::shared_ptr<SessionImpl> Dialer::CurrentSession() {
  const absl::MutexLock lock(&mutex_);
  return session_.lock();
}

void Dialer::OnEvent(const control::SessionEvent& event) {
  const std::shared_ptr<SessionImpl> session = CurrentSession();
  if (session == nullptr) return;
  if (const auto* draining = std::get_if<control::Draining>(&event)) {
    {
      // Each watch begins with it.
      const absl::MutexLock lock(&mutex_);
      if (drain_told_ == draining->grace) return;
      drain_told_ = draining->grace;
    }
    session->Tell(
        {.kind = nd::SessionEvent::Kind::kDraining, .grace = draining->grace});
  }
  const auto* const withdrawn = std::get_if<control::RegionWithdrawn>(&event);
  if (withdrawn != nullptr &&
      session->peer_regions().Withdrawn(withdrawn->id)) {
    TellWithdrawn(*session, withdrawn->name);
  }
  const auto* const closed = std::get_if<control::SessionClosed>(&event);
  // A peaceful end is said on the connections.
  if (closed != nullptr && !closed->why.ok()) {
    session->Fail(Annotate(closed->why, "the server has closed the session"));
  }
}

void Dialer::OnLinkFree(uint32_t link) {
  const absl::MutexLock lock(&mutex_);
  lost_.insert(link);
  if (!dialing_) DialAgainAt(Instant::min());
}

void Dialer::DialAgain(const std::shared_ptr<SessionImpl>& session) {
  const absl::Status again = TryAgain(*session, Deadline::After(kRedialTime));
  if (FailIfUnknown(*session, again)) return;
  if (!again.ok())
    ND_LOG(kInfo, session->name(), ": ",
           again.ToString(absl::StatusToStringMode::kWithNoExtraData));
  const absl::MutexLock lock(&mutex_);
  if (lost_.empty()) {
    dialing_ = false;
    backoff_.reset();
    return;
  }
  if (!backoff_) backoff_.emplace(kPauses, random_);
  DialAgainAt(Clock::Monotonic().Now() + backoff_->Next());
}

absl::Status Dialer::TryAgain(SessionImpl& session, const Deadline& deadline) {
  std::vector<uint32_t> links;
  {
    const absl::MutexLock lock(&mutex_);
    links.assign(lost_.begin(), lost_.end());
  }
  ND_ASSIGN_OR_RETURN(const control::LinkPass pass,
                      client_->Reconnect(links, deadline, nullptr));
  return DialLost(session, pass, deadline);
}

absl::Status Dialer::DialLost(SessionImpl& session,
                              const control::LinkPass& pass,
                              const Deadline& deadline) {
  for (const control::LinkId& link : pass.links) {
    absl::Status dialled = Dial(session, link, pass, deadline);
    if (dialled.ok()) continue;
    const absl::MutexLock lock(&mutex_);
    lost_.insert(link.number);
    return dialled;
  }
  return absl::OkStatus();
}

void Dialer::HangUp() {
  Workers::OfProcess().Run([hold = hub_.Hold(), self = shared_from_this()] {
    std::unique_ptr<control::SessionWatch> watch;
    {
      const absl::MutexLock lock(&self->mutex_);
      self->hung_up_ = true;
      watch.swap(self->watch_);
    }
    // The watch's callbacks hold the dialer, which would wait for itself.
    watch.reset();
    const absl::Status closed = self->client_->Close(
        absl::OkStatus(), Deadline::After(kCloseTime), nullptr);
    if (!closed.ok()) ND_LOG(kDebug, closed.ToString());
  });
}

}  // namespace nd::api
