// server and info.

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/status.h"
#include "nd/log.h"
#include "ndping/cli/commands.h"
#include "ndping/cli/exit_status.h"
#include "ndping/cli/interrupt.h"
#include "ndping/report/report.h"
#include "ndping/rping/rping.h"
#include "ndping/text/units.h"

namespace nd::ndping {
namespace {

std::string FormatNanoseconds(uint64_t nanoseconds) {
  return absl::FormatDuration(
      absl::Nanoseconds(static_cast<int64_t>(nanoseconds)));
}

std::string TextOf(const v1::ServerInfo& info, absl::string_view endpoint) {
  const v1::Limits& limits = info.limits();
  return absl::StrCat(
      "ndping server ", info.version(), " at ", endpoint,
      "\n  rdma_cm           ", info.rdma_endpoint(), "\n  tests             ",
      info.tests_running(), " running, ", info.tests_total(), " in all",
      "\n  RDMA connections  ", info.requests_accepted(), " accepted, ",
      info.requests_rejected(), " rejected", "\n  message size      up to ",
      FormatSize(limits.max_size()), "\n  depth             up to ",
      limits.max_depth(), "\n  QPs               up to ", limits.max_qps(),
      " a test", "\n  duration          up to ",
      FormatNanoseconds(limits.max_duration_ns()), " a size",
      "\n  tests at a time   up to ", limits.max_tests(),
      "\n  memory            up to ", FormatSize(limits.max_memory()),
      " a test\n");
}

Json JsonOf(const v1::ServerInfo& info, const std::string& endpoint) {
  const v1::Limits& limits = info.limits();
  return {{"schema", kJsonSchema},
          {"server", {{"address", endpoint}, {"version", info.version()}}},
          {"rdma_endpoint", info.rdma_endpoint()},
          {"tests_running", info.tests_running()},
          {"tests_total", info.tests_total()},
          {"requests_accepted", info.requests_accepted()},
          {"requests_rejected", info.requests_rejected()},
          {"limits",
           {{"max_size", limits.max_size()},
            {"max_depth", limits.max_depth()},
            {"max_qps", limits.max_qps()},
            {"max_duration_ns", limits.max_duration_ns()},
            {"max_tests", limits.max_tests()},
            {"max_memory", limits.max_memory()}}}};
}

// A server that cannot start finds a cure in doctor, unless its address is
// wrong or taken.
int FailToStart(const absl::Status& status, const Io& io) {
  const int exit_status = Fail(status, io);
  if (!absl::IsAlreadyExists(status) && !absl::IsInvalidArgument(status)) {
    PrintError("'ndping doctor' says what is missing on this host", io);
  }
  return exit_status;
}

int ServeHarness(const ServerCommand& command, const Interrupt& interrupt,
                 const Io& io) {
  SetLogLevel(LogLevel::kInfo);  // a line for each test's start and end
  const auto server =
      HarnessServer::Start({.address = command.address,
                            .port = command.port.value_or(kHarnessPort),
                            .rdma_port = command.rdma_port.value_or(kRdmaPort),
                            .limits = command.limits});
  if (!server.ok()) return FailToStart(server.status(), io);
  io.out << "ndping server: clients come to " << (*server)->grpc_endpoint()
         << " (TCP) and " << (*server)->rdma_endpoint()
         << " (rdma_cm); Ctrl-C ends it\n"
         << std::flush;
  const absl::Status status = (*server)->Serve(interrupt.Arm());
  return status.ok() ? kExitOk : Fail(status, io);
}

// A line for each ping. Many clients' threads come here.
class RpingLog : public RpingObserver {
 public:
  explicit RpingLog(const Io& io) : io_(io) {}

  void OnConnected(const std::string& connection) override {
    MutexLock lock(&mutex_);
    io_.out << connection << "\n" << std::flush;
  }
  void OnPing(const RpingPing& ping) override {
    MutexLock lock(&mutex_);
    io_.out << "ping " << ping.sequence + 1 << ", " << ping.bytes
            << " bytes: " << ping.text << "\n"
            << std::flush;
  }

 private:
  absl::Mutex mutex_;
  const Io& io_;
};

absl::Status ServeRping(const ServerCommand& command,
                        const Interrupt& interrupt, const Io& io) {
  RpingServer::Options options;
  const uint16_t port =
      command.rdma_port.value_or(command.port.value_or(kDefaultRpingPort));
  ND_ASSIGN_OR_RETURN(options.address,
                      verbs::SocketAddress::Parse(command.address, port));
  options.max_clients = command.limits.max_tests();
  options.max_size = static_cast<uint32_t>(
      std::min<uint64_t>(command.limits.max_size(), kMaxRpingSize));
  options.want_text = command.verbose;
  ND_ASSIGN_OR_RETURN(const auto server, RpingServer::Create(options));
  io.out << "ndping server: rping clients come to "
         << server->address().ToString() << " (rdma_cm); Ctrl-C ends it\n"
         << std::flush;
  RpingLog log(io);
  ND_RETURN_IF_ERROR(
      server->Serve(interrupt.Arm(), command.verbose ? &log : nullptr));
  const RpingServer::Counters counters = server->counters();
  io.out << "served " << counters.pings << " pings to " << counters.clients
         << " clients; " << counters.rejected << " were rejected, "
         << counters.failed << " connections failed\n"
         << std::flush;
  return absl::OkStatus();
}

}  // namespace

int Run(const ServerCommand& command, const Io& io) {
  const auto interrupt = Interrupt::Install();
  if (!interrupt.ok()) return Fail(interrupt.status(), io);
  if (command.protocol == Protocol::kNd) {
    return ServeHarness(command, **interrupt, io);
  }
  const absl::Status status = ServeRping(command, **interrupt, io);
  return status.ok() ? kExitOk : FailToStart(status, io);
}

int Run(const InfoCommand& command, const Io& io) {
  const auto client = HarnessClient::Create(command.server);
  if (!client.ok()) return Fail(client.status(), io);
  const auto info = (*client)->GetServerInfo();
  if (!info.ok()) return Fail(info.status(), io);
  const std::string endpoint =
      Endpoint(command.server.host, command.server.port);
  if (command.json) {
    io.out << Dump(JsonOf(*info, endpoint));
  } else {
    io.out << TextOf(*info, endpoint);
  }
  return kExitOk;
}

}  // namespace nd::ndping
