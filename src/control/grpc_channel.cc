#include "control/grpc_channel.h"

#include <grpc/impl/codegen/grpc_types.h>
#include <grpc/support/log.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/log.h"
#include "base/status.h"

namespace nd::control {
namespace {

int Millis(Duration duration) {
  return static_cast<int>(
      std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

void LogOfGrpc(gpr_log_func_args* args) {
  ND_LOG(kDebug, "grpc: ", args->message);
}

std::shared_ptr<grpc::Channel> MakeChannelWith(
    const verbs::SocketAddress& server,
    const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    grpc::ChannelArguments args) {
  RouteGrpcLog();
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, Millis(kKeepaliveInterval));
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Millis(kKeepaliveTimeout));
  args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // An address of the RDMA network is never behind an HTTP proxy.
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // The zone of a link-local address is percent-encoded in a target.
  const std::string target =
      absl::StrCat(server.family() == AF_INET6 ? "ipv6:" : "ipv4:",
                   absl::StrReplaceAll(server.ToString(), {{"%", "%25"}}));
  return grpc::CreateCustomChannel(target, credentials, args);
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const verbs::SocketAddress& server) {
  return MakeChannelWith(server, grpc::InsecureChannelCredentials(), {});
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(
    const verbs::SocketAddress& server, const Credentials& credentials) {
  ND_ASSIGN_OR_RETURN(const auto channel_credentials,
                      MakeChannelCredentials(credentials));
  grpc::ChannelArguments args;
  if (!credentials.server_name.empty()) {
    args.SetSslTargetNameOverride(credentials.server_name);
  }
  return MakeChannelWith(server, channel_credentials, args);
}

absl::StatusOr<verbs::SocketAddress> ParsePeer(absl::string_view peer) {
  const auto bad = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", peer, "\" is no TCP peer"));
  };
  const std::string decoded =
      absl::StrReplaceAll(peer, {{"%5B", "["}, {"%5D", "]"}, {"%25", "%"}});
  absl::string_view rest = decoded;
  if (!absl::ConsumePrefix(&rest, "ipv4:") &&
      !absl::ConsumePrefix(&rest, "ipv6:")) {
    return bad();
  }
  const size_t colon = rest.rfind(':');
  uint32_t port = 0;
  if (colon == absl::string_view::npos ||
      !absl::SimpleAtoi(rest.substr(colon + 1), &port) || port > 0xffff) {
    return bad();
  }
  absl::string_view host = rest.substr(0, colon);
  absl::ConsumePrefix(&host, "[");
  absl::ConsumeSuffix(&host, "]");
  return verbs::SocketAddress::Parse(host, static_cast<uint16_t>(port));
}

void RouteGrpcLog() {
  [[maybe_unused]] static const bool routed = [] {
    gpr_set_log_function(LogOfGrpc);
    return true;
  }();
}

}  // namespace nd::control
