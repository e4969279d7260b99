// What ndping does once its command line is understood.
#ifndef ND_NDPING_CLI_COMMANDS_H_
#define ND_NDPING_CLI_COMMANDS_H_

#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ndping/cli/cli.h"

namespace nd::ndping {

// Where output goes. Results go to `out`, all else to `err`.
struct Io {
  std::ostream& out;
  std::ostream& err;
  bool err_is_terminal = false;
};

// Each returns the exit status and has said on `err` why it is not 0.
int Run(const ShowText& command, const Io& io);
int Run(const TestOptions& command, const Io& io);
int Run(const ServerCommand& command, const Io& io);
int Run(const PingCommand& command, const Io& io);
int Run(const KrpingCommand& command, const Io& io);
int Run(const RegisterCommand& command, const Io& io);
int Run(const DevicesCommand& command, const Io& io);
int Run(const DoctorCommand& command, const Io& io);
int Run(const ExplainCommand& command, const Io& io);
int Run(const InfoCommand& command, const Io& io);

// The whole program. `args` without the program's name.
int RunNdping(const std::vector<std::string>& args, const Io& io);

// Prints each line of the message behind "ndping: ".
void PrintError(absl::string_view message, const Io& io);
// The same of a status; returns the exit status that goes with it.
int Fail(const absl::Status& status, const Io& io);
// Says how a test went wrong, if it did, and returns the exit status. What
// matters most decides: a failure, then wrong data, then Ctrl-C, then the
// thresholds.
int Judge(const absl::Status& status, bool data_is_right, bool interrupted,
          const std::vector<ThresholdHit>& hits, const Io& io);

// "10.98.0.2:7470", "[fd98::2]:7470".
std::string Endpoint(absl::string_view host, uint16_t port);

}  // namespace nd::ndping

#endif  // ND_NDPING_CLI_COMMANDS_H_
