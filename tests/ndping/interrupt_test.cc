#include "ndping/cli/interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "ndping/cli/exit_status.h"

namespace nd::ndping {
namespace {

// Each in a process of its own: the handlers last as long as the process.

TEST(InterruptDeathTest, ASignalBeforeArmingEndsTheProcess) {
  EXPECT_EXIT(
      {
        if (!Interrupt::Install().ok()) _exit(1);
        raise(SIGINT);
      },
      testing::ExitedWithCode(kExitInterrupted), "");
}

TEST(InterruptDeathTest, TheFirstSignalCancelsAndTheSecondEndsTheProcess) {
  EXPECT_EXIT(
      {
        const auto interrupt = Interrupt::Install();
        const Cancellation& cancellation = (*interrupt)->Arm();
        raise(SIGTERM);
        if (!cancellation.cancelled() || !(*interrupt)->received()) {
          _exit(1);
        }
        raise(SIGINT);
      },
      testing::ExitedWithCode(kExitInterrupted), "");
}

}  // namespace
}  // namespace nd::ndping
