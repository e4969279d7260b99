// TLS and mutual TLS for both ends of nd's gRPC connections.
#ifndef ND_CONTROL_CREDENTIALS_H_
#define ND_CONTROL_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace nd::control {

// What one end shows and whom it believes. Nothing set: no TLS. Ready objects
// of gRPC's go before files.
//
//                 server                       client
//   ca            clients must show a          the server's certificate must be
//                 certificate signed by it     signed by it; empty: by one of
//                 (mutual TLS); empty: none    the system's authorities
//   certificate,  what it shows; both needed   what it shows, for mutual TLS
//   key
struct Credentials {
  // Files in PEM. The certificate's has the chain behind it. They are read
  // once, when the server starts or the channel is made.
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;
  // Client: a name that is in the server's certificate, where that does not
  // have the address that is connected to.
  std::string server_name;
  // Client: TLS with the system's authorities, although no file is named.
  bool use_tls = false;

  std::shared_ptr<grpc::ServerCredentials> server;
  std::shared_ptr<grpc::ChannelCredentials> channel;

  // Whether this makes a server, or a channel, use TLS or what was passed in.
  bool secure_server() const;
  bool secure_channel() const;
};

// Insecure ones when nothing is set. INVALID_ARGUMENT says which file is
// missing beside another one; a file that cannot be read, or in which there is
// nothing in PEM, is an error that names it.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const Credentials& credentials);
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>>
MakeChannelCredentials(const Credentials& credentials);

}  // namespace nd::control

#endif  // ND_CONTROL_CREDENTIALS_H_
