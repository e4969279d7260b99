// How nd's two ends of a gRPC connection are set up, and who the peer is.
#ifndef ND_CONTROL_GRPC_CHANNEL_H_
#define ND_CONTROL_GRPC_CHANNEL_H_

#include <grpcpp/channel.h>

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "control/credentials.h"
#include "verbs/address.h"

namespace nd::control {

// Both ends ask for a sign of life when the line was silent for the first, and
// give the peer up when none came within the second. Together below 5 s: so
// long a host may be dead before it is noticed. A process that was killed is
// noticed at once, for its kernel closes the connection.
inline constexpr Duration kKeepaliveInterval = std::chrono::milliseconds(1500);
inline constexpr Duration kKeepaliveTimeout = std::chrono::milliseconds(2500);

// A channel of its own connection, not shared with other channels to the same
// address. It connects at the first call.
std::shared_ptr<grpc::Channel> MakeChannel(const verbs::SocketAddress& server);
// The same with TLS. Fails as MakeChannelCredentials does; that the two ends do
// not believe each other is an UNAVAILABLE of the first call.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(
    const verbs::SocketAddress& server, const Credentials& credentials);

// The address in what gRPC calls a peer, "ipv4:10.0.0.1:7470" or
// "ipv6:%5Bfe80::1%25eth0%5D:7470".
absl::StatusOr<verbs::SocketAddress> ParsePeer(absl::string_view peer);

// gRPC writes what goes wrong inside it to stderr; from the first call on it
// goes to nd's log, at debug level, because nd's own errors say it better.
void RouteGrpcLog();

}  // namespace nd::control

#endif  // ND_CONTROL_GRPC_CHANNEL_H_
