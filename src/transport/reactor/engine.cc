#include "transport/reactor/engine.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <condition_variable>
#include <limits>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::transport {
namespace {

// How often descriptors are looked at while something is polled.
constexpr Duration kLookInterval = std::chrono::microseconds(100);
constexpr size_t kEvents = 16;

// A Call, which its caller may have given up.
struct CallState final : Submission {
  explicit CallState(std::function<void()> its)
      : Submission(&CallState::RunIt), work(std::move(its)) {}

  static void RunIt(Submission& self) {
    auto& call = static_cast<CallState&>(self);
    const std::shared_ptr<CallState> held = std::move(call.held);
    {
      const std::lock_guard lock(call.mutex);
      if (call.given_up) return;
      call.runs = true;
    }
    call.work();
    const std::lock_guard lock(call.mutex);
    call.done = true;
    call.changed.notify_all();
  }

  std::function<void()> work;
  std::shared_ptr<CallState> held;  // by the queue
  // Not absl's: ThreadSanitizer does not see its waits.
  std::mutex mutex;
  std::condition_variable changed;
  bool runs = false, done = false, given_up = false;  // under mutex
};

int MillisUntil(Instant deadline, Instant now) {
  if (deadline == Instant::max()) return -1;
  if (deadline <= now) return 0;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
  return static_cast<int>(
      std::min<int64_t>(left, std::numeric_limits<int>::max()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const Options& options) {
  if (options.spin < Duration::zero()) {
    return absl::InvalidArgumentError("a reactor's spin time is negative");
  }
  Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return ErrnoStatus(errno, "epoll_create1");
  Fd wakeup(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wakeup.valid()) return ErrnoStatus(errno, "eventfd");
  auto engine = std::unique_ptr<Engine>(
      new Engine(options, std::move(epoll), std::move(wakeup)));
  const int fd = engine->wakeup_.get();
  ND_RETURN_IF_ERROR(engine->Watch(fd, [fd] {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = read(fd, &count, sizeof(count));
  }));
  return engine;
}

Engine::Engine(const Options& options, Fd epoll, Fd wakeup)
    : options_(options), epoll_(std::move(epoll)), wakeup_(std::move(wakeup)) {}

Engine::~Engine() {
  Stop();
  Adopt();
  submissions_.RunAll();
}

void Engine::Submit(Submission& submission) {
  submissions_.Push(submission);
  if (sleeps_.load(std::memory_order_seq_cst) && sleeps_.exchange(false)) {
    Nudge();
  }
}

absl::Status Engine::Call(std::function<void()> work, Instant deadline) {
  if (OnThread()) {
    work();
    return absl::OkStatus();
  }
  const auto call = std::make_shared<CallState>(std::move(work));
  call->held = call;
  Submit(*call);
  std::unique_lock lock(call->mutex);
  while (!call->done) {
    if (deadline == Instant::max() || call->runs) {
      call->changed.wait(lock);
    } else if (call->changed.wait_until(lock, deadline) ==
                   std::cv_status::timeout &&
               !call->runs) {
      call->given_up = true;
      return absl::DeadlineExceededError(
          "the session's reactor was not polled: nobody runs it");
    }
  }
  return absl::OkStatus();
}

absl::Status Engine::Start() {
  const std::lock_guard lock(thread_mutex_);
  if (thread_.joinable()) {
    return absl::FailedPreconditionError("the reactor has its thread already");
  }
  stop_ = false;
  thread_ = std::thread([this] { Run(); });
  // As Run does: what its caller does next is done on another thread.
  owner_.store(thread_.get_id(), std::memory_order_release);
  return absl::OkStatus();
}

void Engine::Nudge() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = write(wakeup_.get(), &one, sizeof(one));
}

void Engine::Stop() {
  stop_ = true;
  Nudge();
  // Another thread may be in here, and wait for this one.
  if (OnThread()) return;
  const std::lock_guard lock(thread_mutex_);
  if (!thread_.joinable()) return;
  thread_.join();
  Adopt();
}

void Engine::Run() {
  Adopt();
  RunUntil([this] { return stop_.load(std::memory_order_relaxed); },
           Instant::max());
  stop_ = false;
}

bool Engine::RunUntil(absl::FunctionRef<bool()> done, Instant deadline) {
  for (;;) {
    const bool busy = Poll();
    if (done()) return true;
    if (deadline != Instant::max() && Now() >= deadline) return false;
    if (!busy) SleepUntil(deadline);
  }
}

ABSL_ATTRIBUTE_HOT bool Engine::Poll() {
  assert(!in_poll_);
  in_poll_ = true;
  ++statistics_.turns;
  sleeps_.store(false, std::memory_order_relaxed);
  bool busy = submissions_.RunAll();
  for (Pollable* const pollable : polled_) {
    if (pollable != nullptr) pollable->Hasten();
  }
  const Instant now = Now();
  busy |= TurnAll(now);
  if (polled_.empty() || now >= look_at_) {
    look_at_ = now + kLookInterval;
    busy |= LookAtDescriptors(0);
    busy |= WakeLate(now);
  }
  in_poll_ = false;
  return busy;
}

ABSL_ATTRIBUTE_HOT bool Engine::TurnAll(Instant now) {
  bool busy = false;
  // Turns add and remove, and destroy what they remove.
  for (size_t i = 0; i < polled_.size(); ++i) {
    Pollable* const pollable = polled_[i];
    if (pollable == nullptr) continue;
    if (pollable->Turn(now)) {
      busy = true;
      if (polled_[i] == pollable) pollable->busy_at_ = now;
    } else if (polled_[i] == pollable && MayFallAsleep(*pollable, now)) {
      busy |= !FallAsleep(i);
    }
  }
  if (gone_ > 0) {
    std::erase(polled_, nullptr);
    gone_ = 0;
  }
  return busy;
}

bool Engine::MayFallAsleep(const Pollable& pollable, Instant now) const {
  switch (options_.progress) {
    case Reactor::Progress::kBusy:
      return false;
    case Reactor::Progress::kAdaptive:
      return now - pollable.busy_at_ >= options_.spin;
    case Reactor::Progress::kEvent:
      break;
  }
  return true;
}

// False: something came before it was armed.
bool Engine::FallAsleep(size_t place) {
  Pollable* const pollable = polled_[place];
  const bool armed = pollable->Arm();
  if (polled_[place] != pollable) return true;  // removed by that
  if (!armed) {
    pollable->busy_at_ = Now();
    return false;
  }
  polled_[place] = nullptr;
  ++gone_;
  pollable->state_ = Pollable::State::kAsleep;
  pollable->wake_at_ = pollable->NextDeadline();
  if (pollable->bed_.empty()) {
    asleep_.emplace(pollable->wake_at_, pollable);
  } else {
    pollable->bed_.value() = {pollable->wake_at_, pollable};
    asleep_.insert(std::move(pollable->bed_));
  }
  return true;
}

void Engine::Add(Pollable& pollable) {
  assert(pollable.state_ == Pollable::State::kOut);
  pollable.state_ = Pollable::State::kPolled;
  pollable.busy_at_ = Now();
  polled_.push_back(&pollable);
}

void Engine::Remove(Pollable& pollable) {
  switch (std::exchange(pollable.state_, Pollable::State::kOut)) {
    case Pollable::State::kOut:
      break;
    case Pollable::State::kPolled:
      *std::ranges::find(polled_, &pollable) = nullptr;
      ++gone_;
      break;
    case Pollable::State::kAsleep:
      asleep_.erase({pollable.wake_at_, &pollable});
      break;
  }
}

void Engine::Wake(Pollable& pollable) {
  if (pollable.state_ != Pollable::State::kAsleep) return;
  pollable.bed_ = asleep_.extract({pollable.wake_at_, &pollable});
  pollable.state_ = Pollable::State::kPolled;
  pollable.busy_at_ = Now();
  polled_.push_back(&pollable);
}

bool Engine::WakeLate(Instant now) {
  bool any = false;
  while (!asleep_.empty() && asleep_.begin()->first <= now) {
    Wake(*asleep_.begin()->second);
    any = true;
  }
  return any;
}

absl::Status Engine::Watch(int fd, std::function<void()> ready) {
  epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return ErrnoStatus(errno, absl::StrCat("epoll_ctl, descriptor ", fd));
  }
  watched_[fd] = std::make_shared<std::function<void()>>(std::move(ready));
  return absl::OkStatus();
}

void Engine::Unwatch(int fd) {
  watched_.erase(fd);
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

bool Engine::LookAtDescriptors(int timeout_ms) {
  std::array<epoll_event, kEvents> events;
  const int count =
      epoll_wait(epoll_.get(), events.data(), kEvents, timeout_ms);
  for (int i = 0; i < count; ++i) {
    const auto found = watched_.find(events[static_cast<size_t>(i)].data.fd);
    if (found == watched_.end()) continue;  // until a moment ago
    const std::shared_ptr<std::function<void()>> ready = found->second;
    (*ready)();
  }
  return count > 0;
}

std::optional<Instant> Engine::PrepareToSleep() {
  if (!polled_.empty()) return std::nullopt;
  sleeps_.store(true, std::memory_order_seq_cst);
  if (!submissions_.empty()) {
    sleeps_.store(false, std::memory_order_relaxed);
    return std::nullopt;
  }
  return asleep_.empty() ? Instant::max() : asleep_.begin()->first;
}

void Engine::SleepUntil(Instant deadline) {
  const std::optional<Instant> wake = PrepareToSleep();
  if (!wake) return;
  ++statistics_.sleeps;
  LookAtDescriptors(MillisUntil(std::min(*wake, deadline), Now()));
  sleeps_.store(false, std::memory_order_relaxed);
  WakeLate(Now());
}

}  // namespace nd::transport
