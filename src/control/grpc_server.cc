#include "control/grpc_server.h"

#include <grpc/impl/codegen/grpc_types.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/fd.h"
#include "base/status.h"
#include "control/grpc_channel.h"

namespace nd::control {
namespace {

constexpr int kMaxMessageBytes = 1 << 20;

int Millis(Duration duration) {
  return static_cast<int>(
      std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

// Both are switches of the process, which gRPC reads when a server is built.
void EnablePlugins() {
  [[maybe_unused]] static const bool enabled = [] {
    RouteGrpcLog();
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
}

void AddArguments(grpc::ServerBuilder& builder,
                  const GrpcServer::Options& options) {
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             options.max_streams);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                             Millis(kKeepaliveInterval));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             Millis(kKeepaliveTimeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // A client may ask for signs of life as often as this server does; half the
  // interval leaves room for timers that fire early.
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      Millis(kKeepaliveInterval) / 2);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  using Sync = grpc::ServerBuilder::SyncServerOption;
  builder.SetSyncServerOption(Sync::NUM_CQS, 1);
  builder.SetSyncServerOption(Sync::MIN_POLLERS, 1);
  builder.SetSyncServerOption(Sync::MAX_POLLERS, 2);
  grpc::ResourceQuota quota;
  quota.SetMaxThreads(options.max_threads);
  builder.SetResourceQuota(quota);
}

// Why the port could not be opened: gRPC does not tell, so ask the kernel.
absl::Status DiagnoseBind(const GrpcServer::Options& options) {
  const verbs::SocketAddress& address = options.address;
  const std::string what = absl::StrCat("gRPC port ", address.ToString());
  const Fd fd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (!fd.valid() ||
      setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      bind(fd.get(), address.get(), address.size()) != 0 ||
      listen(fd.get(), 1) != 0) {
    const int error = errno;
    absl::Status status = ErrnoStatus(error, what);
    if (error != EADDRINUSE) return status;
    return absl::AlreadyExistsError(absl::StrCat(
        status.message(), "; another server runs there, choose another port"));
  }
  if (!options.credentials.key_file.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, ": TLS cannot be set up; does the key in \"",
        options.credentials.key_file, "\" belong to the certificate in \"",
        options.credentials.certificate_file, "\"?"));
  }
  return absl::UnavailableError(absl::StrCat(what, ": cannot be opened"));
}

absl::Status CheckReach(const GrpcServer::Options& options) {
  if (options.address.is_loopback() || options.allow_insecure_remote ||
      options.credentials.secure_server()) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "gRPC port ", options.address.ToString(),
      ": other hosts reach it, and without TLS anybody there may use it; give "
      "the server a certificate and key, let it listen at 127.0.0.1 or ::1, or "
      "set allow_insecure_remote"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const Options& options) {
  EnablePlugins();
  ND_RETURN_IF_ERROR(CheckReach(options));
  ND_ASSIGN_OR_RETURN(const auto credentials,
                      MakeServerCredentials(options.credentials));
  grpc::ServerBuilder builder;
  AddArguments(builder, options);
  int port = 0;
  builder.AddListeningPort(options.address.ToString(), credentials, &port);
  for (grpc::Service* service : options.services) {
    builder.RegisterService(service);
  }
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) return DiagnoseBind(options);
  for (const std::string& name : options.names) {
    server->GetHealthCheckService()->SetServingStatus(name, true);
  }
  verbs::SocketAddress address = options.address;
  address.set_port(static_cast<uint16_t>(port));
  return std::unique_ptr<GrpcServer>(
      new GrpcServer(std::move(server), address));
}

GrpcServer::GrpcServer(std::unique_ptr<grpc::Server> server,
                       const verbs::SocketAddress& address)
    : server_(std::move(server)), address_(address) {}

GrpcServer::~GrpcServer() { Shutdown(Duration::zero()); }

void GrpcServer::Shutdown(Duration grace) {
  server_->GetHealthCheckService()->Shutdown();
  server_->Shutdown(std::chrono::system_clock::now() + grace);
}

}  // namespace nd::control
