#include "base/asymmetric_barrier.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace nd {
namespace {

// Longer than a store waits before others see it.
constexpr auto kStoresAreSeen = std::chrono::milliseconds(1);

bool Membarrier(membarrier_cmd command) {
  return syscall(SYS_membarrier, command, 0, 0) == 0;
}

bool Register() {
  return Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

}  // namespace

std::atomic<bool> barrier_internal::g_reaches_others{Register()};

void HeavyBarrier() {
  FullBarrier();
  if (!barrier_internal::g_reaches_others.load(std::memory_order_relaxed) ||
      Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)) {
    return;
  }
  // Forbidden since: a filter of system calls was put up. Who is past a
  // LightBarrier that was none has the time that its store needs.
  barrier_internal::g_reaches_others.store(false);
  std::this_thread::sleep_for(kStoresAreSeen);
}

}  // namespace nd
