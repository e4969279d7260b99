// ndping's command line: from words to what is to be done. Nothing here touches
// a device, the network or the process, so tests call it directly.
#ifndef ND_NDPING_CLI_CLI_H_
#define ND_NDPING_CLI_CLI_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "ndping/cli/test_options.h"
#include "ndping/harness/harness_client.h"
#include "ndping/harness/harness_server.h"
#include "ndping/local/doctor.h"
#include "ndping/local/registration.h"

namespace nd::ndping {

inline constexpr uint16_t kHarnessPort = 7470;  // gRPC
inline constexpr uint16_t kRdmaPort = 7471;     // rdma_cm, of the harness

enum class Protocol { kNd, kRping };

// Text that was asked for: help or the version.
struct ShowText {
  std::string text;
};

struct ServerCommand {
  Protocol protocol = Protocol::kNd;
  std::string address = "0.0.0.0";
  std::optional<uint16_t> port;       // none: the protocol's own
  std::optional<uint16_t> rdma_port;  // none: the protocol's own
  bool verbose = false;
  v1::Limits limits = HarnessServer::DefaultLimits();
};

struct PingCommand {
  Protocol protocol = Protocol::kNd;
  std::string host;
  std::optional<uint16_t> port;  // none: the protocol's own
  std::string from;
  uint64_t count = 0;  // 0: until Ctrl-C
  uint64_t size = 64;
  Duration interval = std::chrono::seconds(1);
  bool verify = false;
  bool verbose = false;
  Over over = Over::kVerbs;
  std::optional<v1::StreamClass> stream_class;  // over messages
  OutputOptions output;
};

struct KrpingCommand {
  std::string options;  // "client,addr=10.0.0.2,port=9999"
};

struct RegisterCommand {
  RegisterOptions test;
  OutputOptions output;
};

struct DevicesCommand {
  bool json = false;
  bool verbose = false;
};

struct DoctorCommand {
  DoctorOptions doctor;
  bool json = false;
};

struct ExplainCommand {
  std::string text;  // empty: list what can be explained
};

struct InfoCommand {
  HarnessClient::Options server;
  bool json = false;
};

using Command = std::variant<ShowText, TestOptions, ServerCommand, PingCommand,
                             KrpingCommand, RegisterCommand, DevicesCommand,
                             DoctorCommand, ExplainCommand, InfoCommand>;

// `args` without the program's name. INVALID_ARGUMENT for what the user got
// wrong: a line that says what, and where there is one, a line with the cure.
absl::StatusOr<Command> ParseCommandLine(const std::vector<std::string>& args);

}  // namespace nd::ndping

#endif  // ND_NDPING_CLI_CLI_H_
