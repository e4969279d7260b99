#include "api/session_impl.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "api/workers.h"
#include "base/status.h"

namespace nd::api {

// What the runtime tells, for as long as there is somebody to tell.
class SessionImpl::Events final : public transport::SessionOwner {
 public:
  explicit Events(std::weak_ptr<SessionImpl> session)
      : session_(std::move(session)) {}

  void OnLinkFree(uint32_t link) override {
    if (const auto session = session_.lock()) session->OnLinkFree(link);
  }
  void OnEnded(const absl::Status& why) override {
    if (const auto session = session_.lock()) session->SetEnded(why);
  }

 private:
  const std::weak_ptr<SessionImpl> session_;
};

// Hands the runtime back to the reactor.
struct SessionImpl::Burial final : transport::Submission {
  Burial(transport::Hub& its_hub, std::unique_ptr<Events> its_events,
         std::unique_ptr<transport::SessionRuntime> its_runtime)
      : Submission(&Burial::RunIt),
        hub(its_hub),
        events(std::move(its_events)),
        runtime(std::move(its_runtime)) {}

  static void RunIt(Submission& self) {
    const std::unique_ptr<Burial> burial(&static_cast<Burial&>(self));
    burial->hub.Bury(std::move(burial->runtime));
  }

  transport::Hub& hub;
  std::unique_ptr<Events> events;
  std::unique_ptr<transport::SessionRuntime> runtime;
};

SessionImpl::SessionImpl(transport::Hub& hub, Options options)
    : hub_(hub), options_(std::move(options)) {}

SessionImpl::~SessionImpl() {
  if (runtime_ != nullptr) {
    // Without memory for it there is no way on.
    // NOLINTNEXTLINE(bugprone-unhandled-exception-at-new)
    engine().Submit(*new Burial(hub_, std::move(events_), std::move(runtime_)));
  }
  if (options_.on_gone) options_.on_gone();
}

absl::Status SessionImpl::Begin(std::shared_ptr<transport::HubDevice> device,
                                Instant deadline) {
  const absl::MutexLock lock(&begin_mutex_);
  if (runtime_ != nullptr) {
    if (runtime_->device() == device) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        name(), " is on device ", runtime_->device()->context->name(),
        ", and a connection of it came by ", device->context->name()));
  }
  auto events = std::make_unique<Events>(weak_from_this());
  ND_ASSIGN_OR_RETURN(std::unique_ptr<transport::SessionRuntime> runtime,
                      transport::SessionRuntime::Create(
                          hub_, std::move(device), options_.runtime, *events));
  ND_RETURN_IF_ERROR(engine().Call(
      [this, raw = runtime.get()] { hub_.Attach(*raw); }, deadline));
  events_ = std::move(events);
  runtime_ = std::move(runtime);
  const absl::MutexLock begun(&mutex_);
  begun_ = true;
  return absl::OkStatus();
}

absl::Status SessionImpl::OnReactor(
    absl::FunctionRef<void(transport::SessionRuntime&)> work,
    Instant deadline) {
  {
    const absl::MutexLock lock(&mutex_);
    if (!begun_) {
      return absl::FailedPreconditionError(
          absl::StrCat(name(), " has no connection yet"));
    }
  }
  return Annotate(engine().Call([this, work] { work(*runtime_); }, deadline),
                  name());
}

void SessionImpl::OnLinkFree(uint32_t link) {
  {
    const absl::MutexLock lock(&mutex_);
    ++links_freed_;
    changed_.SignalAll();
  }
  if (options_.on_link_free) options_.on_link_free(link);
}

void SessionImpl::SetEnded(const absl::Status& why) {
  const absl::MutexLock lock(&mutex_);
  ended_ = true;
  why_ = why.ok() ? absl::CancelledError(absl::StrCat(name(), " was closed"))
                  : Annotate(why, name());
  changed_.SignalAll();
}

absl::Status SessionImpl::AwaitLinkFree(uint32_t link, Instant deadline) {
  const absl::Time limit =
      absl::Now() + absl::FromChrono(deadline - engine().Now());
  for (;;) {
    uint64_t seen = 0;
    {
      const absl::MutexLock lock(&mutex_);
      if (ended_) return why_;
      seen = links_freed_;
    }
    bool is_free = false;
    ND_RETURN_IF_ERROR(OnReactor(
        [&](transport::SessionRuntime& runtime) {
          is_free = runtime.LinkIsFree(link);
          if (!is_free) {
            runtime.core().LoseLink(
                link, absl::UnavailableError("the peer makes it anew"));
            engine().Wake(runtime);
          }
        },
        deadline));
    if (is_free) return absl::OkStatus();
    const absl::MutexLock lock(&mutex_);
    while (links_freed_ == seen && !ended_) {
      if (changed_.WaitWithDeadline(&mutex_, limit)) {
        return absl::DeadlineExceededError(absl::StrCat(
            name(), ": link ", link, " does not end its last connection"));
      }
    }
  }
}

bool SessionImpl::AwaitEnd(Instant deadline) {
  const auto ended = [this] {
    const absl::MutexLock lock(&mutex_);
    return ended_;
  };
  if (engine().OnThread()) return engine().RunUntil(ended, deadline);
  const absl::Time limit =
      absl::Now() + absl::FromChrono(deadline - engine().Now());
  const absl::MutexLock lock(&mutex_);
  while (!ended_) {
    if (changed_.WaitWithDeadline(&mutex_, limit)) break;
  }
  return ended_;
}

void SessionImpl::Fail(const absl::Status& why) {
  struct Failure final : transport::Submission {
    Failure(std::shared_ptr<SessionImpl> its, const absl::Status& reason)
        : Submission(&Failure::RunIt), session(std::move(its)), why(reason) {}
    static void RunIt(Submission& self) {
      const std::unique_ptr<Failure> failure(&static_cast<Failure&>(self));
      transport::SessionRuntime* const runtime = failure->session->runtime();
      if (runtime != nullptr) runtime->core().Fail(failure->why);
    }
    const std::shared_ptr<SessionImpl> session;
    const absl::Status why;
  };
  {
    const absl::MutexLock lock(&mutex_);
    if (!begun_) {
      ended_ = true;
      why_ = why;
      changed_.SignalAll();
      return;
    }
  }
  engine().Submit(*new Failure(shared_from_this(), why));
}

void SessionImpl::Tell(SessionEvent event) {
  struct News final : transport::Submission {
    News(std::weak_ptr<SessionImpl> its, SessionEvent&& what)
        : Submission(&News::RunIt),
          session(std::move(its)),
          event(std::move(what)) {}
    static void RunIt(Submission& self) {
      const std::unique_ptr<News> news(&static_cast<News&>(self));
      if (const auto session = news->session.lock()) {
        session->CallOnEvent(news->event);
      }
    }
    const std::weak_ptr<SessionImpl> session;
    const SessionEvent event;
  };
  if (!options_.on_event) return;
  engine().Submit(*new News(weak_from_this(), std::move(event)));
}

void SessionImpl::CallOnEvent(const SessionEvent& event) {
  {
    const absl::MutexLock lock(&mutex_);
    if (!tells_) return;
    in_on_event_ = true;
  }
  options_.on_event(event);
  const absl::MutexLock lock(&mutex_);
  in_on_event_ = false;
  changed_.SignalAll();
}

void SessionImpl::TellNoMore() {
  if (!options_.on_event) return;
  const absl::MutexLock lock(&mutex_);
  tells_ = false;
  // On the reactor's thread a call that runs is this one's caller.
  if (engine().OnThread()) return;
  while (in_on_event_) changed_.Wait(&mutex_);
}

absl::Status SessionImpl::status() const {
  const absl::MutexLock lock(&mutex_);
  return why_;
}

void Start(transport::Engine& engine, Operation& operation,
           transport::Stream* stream, transport::Submission::Run run) {
  transport::Submission& submission =
      transport::OperationAccess::Submit(operation, stream, run);
  if (engine.OnThread()) {
    run(submission);
  } else {
    engine.Submit(submission);
  }
}

absl::Status MayBlock(const transport::Engine& engine) {
  if (!engine.OnThread() || !engine.InPoll()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "a call that blocks, in a callback of the reactor that it would wait "
      "for");
}

absl::Status Blocking(transport::Engine& engine,
                      absl::FunctionRef<void()> work) {
  ND_RETURN_IF_ERROR(MayBlock(engine));
  if (!engine.OnThread()) {
    work();
    return absl::OkStatus();
  }
  std::atomic<bool> done{false};
  Workers::OfProcess().Run([&] {
    work();
    done.store(true, std::memory_order_release);
    engine.Nudge();
  });
  engine.RunUntil([&] { return done.load(std::memory_order_acquire); },
                  Instant::max());
  return absl::OkStatus();
}

void Await(transport::Engine& engine, const Operation& operation) {
  if (!engine.OnThread()) return operation.Wait();
  engine.RunUntil([&operation] { return !operation.pending(); },
                  Instant::max());
}

}  // namespace nd::api
