#include "soft/device/engine.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "base/lock.h"

namespace nd::soft {
namespace {

// What there is to do often comes in a row: looks before it sleeps.
constexpr int kPatience = 32;
// A thread that never sleeps looks for new addresses once in so many rounds.
constexpr uint32_t kRoundsALook = 4096;
// How much later than asked for a sleep may end.
constexpr Duration kSlack = std::chrono::microseconds(1);

// Of this thread.
void SetSlack(Duration slack) {
  prctl(PR_SET_TIMERSLACK, slack.count(), 0, 0, 0);
}

}  // namespace

Engine::Engine(Device& device, AddressWatch watch)
    : device_(device),
      watch_(std::move(watch)),
      wake_(Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))) {
  {
    Holding lock(device_.mutex());
    network_fd_ = device_.network().fd();
    device_.set_wake_fd(wake_.get());
  }
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { Run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Engine::~Engine() {
  stop_.store(true);
  eventfd_write(wake_.get(), 1);
  thread_.join();
  Holding lock(device_.mutex());
  device_.set_wake_fd(-1);
}

void Engine::Run() {
  pthread_setname_np(pthread_self(), "ndsoft");
  SetSlack(kSlack);
  int fruitless = 0;
  uint32_t rounds = 0;
  Instant present_until{};
  while (!stop_.load()) {
    const Instant now = device_.clock().Now();
    if (device_.TakePolled()) present_until = now + Vigilance::kPresence;
    if (now < present_until) {
      if (!Nap()) present_until = now;
      continue;
    }
    if (Work(fruitless)) {
      if (++rounds % kRoundsALook == 0) LookAtAddresses();
      continue;
    }
    std::optional<Instant> until;
    {
      Holding lock(device_.mutex());
      until = device_.rest_until();
    }
    Sleep(until);
    fruitless = 0;
  }
}

bool Engine::Nap() {
  const Instant due = device_.clock().Now() + vigilance_.nap();
  const Duration slack = vigilance_.slack();
  if (slack > kSlack) SetSlack(slack);
  device_.set_napping(true);
  const bool called = Sleep(due);
  device_.set_napping(false);
  if (slack > kSlack) SetSlack(kSlack);
  if (called) {
    vigilance_.Interrupt();
    return false;
  }
  if (!device_.mutex().TryAcquire()) {
    vigilance_.Relax();
    return true;
  }
  // What came when it was due may have kept the application from polling.
  const Duration alone =
      std::min(due, device_.clock().Now()) - device_.attended();
  if (vigilance_.ShouldLook(device_.inline_looks(), alone) &&
      device_.Progress()) {
    vigilance_.Found();
  }
  device_.mutex().Release();
  return true;
}

bool Engine::Work(int& fruitless) {
  Holding lock(device_.mutex());
  if (device_.Progress()) {
    fruitless = 0;
    return true;
  }
  if (++fruitless < kPatience) return true;
  return !device_.Rest();
}

void Engine::LookAtAddresses() {
  if (watch_.Changed()) device_.SetAddresses(ReadHostAddresses());
}

bool Engine::Sleep(std::optional<Instant> until) {
  std::array<pollfd, 3> waits = {{
      {.fd = wake_.get(), .events = POLLIN, .revents = 0},
      {.fd = network_fd_, .events = POLLIN, .revents = 0},
      {.fd = watch_.fd(), .events = POLLIN, .revents = 0},
  }};
  timespec timeout{};
  if (until) {
    const int64_t nanos =
        std::max<int64_t>(0, (*until - device_.clock().Now()).count());
    timeout = {.tv_sec = nanos / 1'000'000'000,
               .tv_nsec = nanos % 1'000'000'000};
  }
  ppoll(waits.data(), waits.size(), until ? &timeout : nullptr, nullptr);
  eventfd_t count = 0;
  const bool called =
      waits[0].revents != 0 && eventfd_read(wake_.get(), &count) == 0;
  if (waits[2].revents != 0) LookAtAddresses();
  return called;
}

}  // namespace nd::soft
