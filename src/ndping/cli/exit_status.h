// How ndping ends; documented in `ndping --help`.
#ifndef ND_NDPING_CLI_EXIT_STATUS_H_
#define ND_NDPING_CLI_EXIT_STATUS_H_

namespace nd::ndping {

enum ExitStatus : int {
  kExitOk = 0,            // all data arrived, and was right if --verify
  kExitFailed = 1,        // the connection or the test failed
  kExitUsage = 2,         // the command line is wrong
  kExitThreshold = 3,     // a --fail-if condition holds
  kExitInterrupted = 130  // Ctrl-C before the test's end
};

}  // namespace nd::ndping

#endif  // ND_NDPING_CLI_EXIT_STATUS_H_
