#include "ndping/cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "base/status.h"
#include "ndping/cli/exit_status.h"

namespace nd::ndping {
namespace {

// What the signal handler reaches.
std::atomic<Cancellation*> g_cancellation = nullptr;
std::atomic<bool> g_armed = false;

}  // namespace

const Cancellation& Interrupt::Arm() const {
  g_armed = true;
  return cancellation_;
}

void Interrupt::OnSignal(int signal) {
  (void)signal;
  const int saved_errno = errno;
  Cancellation* const cancellation = g_cancellation.load();
  if (!g_armed.load() || cancellation->cancelled()) _exit(kExitInterrupted);
  cancellation->Cancel();
  errno = saved_errno;
}

absl::StatusOr<const Interrupt*> Interrupt::Install() {
  static Interrupt* installed = nullptr;
  if (installed != nullptr) return installed;
  ND_ASSIGN_OR_RETURN(Cancellation cancellation, Cancellation::Create());
  installed = new Interrupt(std::move(cancellation));
  g_cancellation = &installed->cancellation_;
  struct sigaction action {};
  action.sa_handler = OnSignal;
  // Whoever waits watches the cancellation, so no system call need fail.
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM}) {
    if (sigaction(signal, &action, nullptr) != 0) {
      return ErrnoStatus(errno, "sigaction");
    }
  }
  return installed;
}

}  // namespace nd::ndping
