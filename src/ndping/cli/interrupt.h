// Ctrl-C: the first asks the program to end cleanly, the second ends it.
#ifndef ND_NDPING_CLI_INTERRUPT_H_
#define ND_NDPING_CLI_INTERRUPT_H_

#include <utility>

#include "absl/status/statusor.h"
#include "base/wait.h"

namespace nd::ndping {

// From Install on, SIGINT and SIGTERM end the process at once with status 130:
// as long as there is only a connection to wait for, nothing has to be cleaned
// up. From Arm on the first signal cancels what Arm returned, and the second
// ends the process. Lives as long as the process, which a signal may reach at
// any moment.
class Interrupt {
 public:
  static absl::StatusOr<const Interrupt*> Install();

  const Cancellation& Arm() const;
  bool received() const { return cancellation_.cancelled(); }

 private:
  explicit Interrupt(Cancellation cancellation)
      : cancellation_(std::move(cancellation)) {}
  static void OnSignal(int signal);

  Cancellation cancellation_;
};

}  // namespace nd::ndping

#endif  // ND_NDPING_CLI_INTERRUPT_H_
