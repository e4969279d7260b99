#include "soft/device/engine.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include <algorithm>
#include <chrono>

#include "base/mutex.h"

namespace nd::soft {
namespace {

// Between two looks whether the application still polls.
constexpr Duration kWatch = std::chrono::microseconds(200);
// What there is to do often comes in a row: looks before it sleeps.
constexpr int kPatience = 32;

}  // namespace

Engine::Engine(Device& device) : device_(device) {
  {
    MutexLock lock(&device_.mutex());
    fd_ = device_.network().fd();
  }
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { Run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Engine::~Engine() {
  stop_.store(true);
  {
    MutexLock lock(&device_.mutex());
    device_.WakeEngine();
  }
  thread_.join();
}

void Engine::Run() {
  pthread_setname_np(pthread_self(), "ndsoft");
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);  // 1 us
  int fruitless = 0;
  while (!stop_.load()) {
    if (device_.TakePolled()) {
      device_.set_napping(true);
      Sleep(device_.clock().Now() + kWatch);
      device_.set_napping(false);
      continue;
    }
    if (Work(fruitless)) continue;
    std::optional<Instant> until;
    {
      MutexLock lock(&device_.mutex());
      until = device_.rest_until();
    }
    Sleep(until);
    fruitless = 0;
  }
}

bool Engine::Work(int& fruitless) {
  MutexLock lock(&device_.mutex());
  if (device_.Progress()) {
    fruitless = 0;
    return true;
  }
  if (++fruitless < kPatience) return true;
  return !device_.Rest();
}

void Engine::Sleep(std::optional<Instant> until) const {
  pollfd wait{.fd = fd_, .events = POLLIN, .revents = 0};
  if (!until) {
    ppoll(&wait, 1, nullptr, nullptr);
    return;
  }
  const int64_t nanos = std::max<int64_t>(
      0, std::chrono::nanoseconds(*until - device_.clock().Now()).count());
  const timespec timeout{.tv_sec = nanos / 1'000'000'000,
                         .tv_nsec = nanos % 1'000'000'000};
  ppoll(&wait, 1, &timeout, nullptr);
}

}  // namespace nd::soft
