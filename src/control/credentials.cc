#include "control/credentials.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/fd.h"
#include "base/status.h"

namespace nd::control {
namespace {

// No chain of certificates is longer.
constexpr size_t kMaxPemBytes = 1 << 20;

absl::StatusOr<std::string> ReadPem(absl::string_view what,
                                    const std::string& path) {
  const std::string name = absl::StrCat(what, " file \"", path, "\"");
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, name);
  std::string text;
  std::array<char, 4096> part;
  for (;;) {
    const ssize_t size = read(fd.get(), part.data(), part.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return ErrnoStatus(errno, name);
    if (size == 0) break;
    text.append(part.data(), static_cast<size_t>(size));
    if (text.size() > kMaxPemBytes) break;
  }
  if (text.size() <= kMaxPemBytes && absl::StrContains(text, "-----BEGIN ")) {
    return text;
  }
  return absl::InvalidArgumentError(absl::StrCat(name, ": is not in PEM"));
}

absl::Status CheckPair(const Credentials& credentials) {
  if (credentials.certificate_file.empty() == credentials.key_file.empty()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      credentials.key_file.empty()
          ? absl::StrCat("certificate file \"", credentials.certificate_file,
                         "\" without its key file")
          : absl::StrCat("key file \"", credentials.key_file,
                         "\" without its certificate file"));
}

bool HasFiles(const Credentials& credentials) {
  return !credentials.ca_file.empty() ||
         !credentials.certificate_file.empty() || !credentials.key_file.empty();
}

}  // namespace

bool Credentials::secure_server() const {
  return server != nullptr || HasFiles(*this);
}

bool Credentials::secure_channel() const {
  return channel != nullptr || use_tls || HasFiles(*this);
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const Credentials& credentials) {
  if (credentials.server != nullptr) return credentials.server;
  if (!credentials.secure_server()) return grpc::InsecureServerCredentials();
  ND_RETURN_IF_ERROR(CheckPair(credentials));
  if (credentials.certificate_file.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("CA file \"", credentials.ca_file,
                     "\" without the server's own certificate and key files"));
  }
  grpc::SslServerCredentialsOptions options;
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair;
  ND_ASSIGN_OR_RETURN(pair.private_key, ReadPem("key", credentials.key_file));
  ND_ASSIGN_OR_RETURN(pair.cert_chain,
                      ReadPem("certificate", credentials.certificate_file));
  options.pem_key_cert_pairs.push_back(std::move(pair));
  if (!credentials.ca_file.empty()) {
    ND_ASSIGN_OR_RETURN(options.pem_root_certs,
                        ReadPem("CA", credentials.ca_file));
    options.client_certificate_request =
        GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  return grpc::SslServerCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>>
MakeChannelCredentials(const Credentials& credentials) {
  if (credentials.channel != nullptr) return credentials.channel;
  if (!credentials.secure_channel()) return grpc::InsecureChannelCredentials();
  ND_RETURN_IF_ERROR(CheckPair(credentials));
  grpc::SslCredentialsOptions options;
  if (!credentials.ca_file.empty()) {
    ND_ASSIGN_OR_RETURN(options.pem_root_certs,
                        ReadPem("CA", credentials.ca_file));
  }
  if (!credentials.certificate_file.empty()) {
    ND_ASSIGN_OR_RETURN(options.pem_private_key,
                        ReadPem("key", credentials.key_file));
    ND_ASSIGN_OR_RETURN(options.pem_cert_chain,
                        ReadPem("certificate", credentials.certificate_file));
  }
  return grpc::SslCredentials(options);
}

}  // namespace nd::control
