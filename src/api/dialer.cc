#include "api/dialer.h"

#include <utility>

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

}  // namespace

Dialer::Dialer(transport::Hub& hub,
               std::unique_ptr<control::SessionClient> client)
    : hub_(hub), client_(std::move(client)) {}

absl::Status Dialer::Dial(SessionImpl& session, control::LinkId link,
                          const control::LinkPass& pass,
                          const Deadline& deadline) {
  const auto exchange = [&](const control::LinkLayout& own) {
    return client_->ExchangeLayout(link, own, deadline, nullptr).status();
  };
  return ConnectLink(session, link, pass, exchange, deadline);
}

absl::Status Dialer::DialAll(const std::shared_ptr<SessionImpl>& session,
                             const Deadline& deadline) {
  {
    const absl::MutexLock lock(&mutex_);
    session_ = session;
  }
  const control::LinkPass pass = client_->pass();
  for (const control::LinkId& link : pass.links) {
    ND_RETURN_IF_ERROR(Dial(*session, link, pass, deadline));
  }
  ND_ASSIGN_OR_RETURN(
      watch_,
      client_->Watch(
          [weak = weak_from_this()](const control::SessionEvent& event) {
            if (const auto self = weak.lock()) self->OnEvent(event);
          },
          // Without its control plane a session goes on.
          [](const absl::Status&) {}, deadline, nullptr));
  return absl::OkStatus();
}

void Dialer::OnEvent(const control::SessionEvent& event) {
  const auto* const closed = std::get_if<control::SessionClosed>(&event);
  if (closed == nullptr) return;
  std::shared_ptr<SessionImpl> session;
  {
    const absl::MutexLock lock(&mutex_);
    session = session_.lock();
  }
  // A peaceful end is said on the connections.
  if (session != nullptr && !closed->why.ok()) {
    session->Fail(Annotate(closed->why, "the server has closed the session"));
  }
}

void Dialer::OnLinkFree(uint32_t link) {
  const absl::MutexLock lock(&mutex_);
  lost_.insert(link);
  if (std::exchange(dialing_, true)) return;
  Workers::OfProcess().Run(
      [hold = hub_.Hold(), self = shared_from_this()] { self->DialAgain(); });
}

void Dialer::DialAgain() {
  std::shared_ptr<SessionImpl> session;
  {
    const absl::MutexLock lock(&mutex_);
    session = session_.lock();
  }
  if (session == nullptr || !session->status().ok()) return;
  const absl::Status again = TryAgain(*session);
  if (again.code() == absl::StatusCode::kNotFound) {
    session->Fail(Annotate(again, "the server has ended the session"));
    return;
  }
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
  Workers::OfProcess().RunAt(
      Clock::Monotonic().Now() + backoff_->Next(),
      [hold = hub_.Hold(), self = shared_from_this()] { self->DialAgain(); });
}

absl::Status Dialer::TryAgain(SessionImpl& session) {
  std::vector<uint32_t> links;
  {
    const absl::MutexLock lock(&mutex_);
    links.assign(lost_.begin(), lost_.end());
  }
  const Deadline deadline = Deadline::After(kRedialTime);
  ND_ASSIGN_OR_RETURN(const control::LinkPass pass,
                      client_->Reconnect(links, deadline, nullptr));
  for (const control::LinkId& link : pass.links) {
    {
      // Before it stands: it may be lost again as soon as it does.
      const absl::MutexLock lock(&mutex_);
      lost_.erase(link.number);
    }
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
    // The watch's callbacks hold the dialer, which would wait for itself.
    self->watch_.reset();
    const absl::Status closed = self->client_->Close(
        absl::OkStatus(), Deadline::After(kCloseTime), nullptr);
    if (!closed.ok()) ND_LOG(kDebug, closed.ToString());
  });
}

}  // namespace nd::api
