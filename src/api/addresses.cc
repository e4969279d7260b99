#include "api/addresses.h"

#include <limits>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::api {

absl::StatusOr<verbs::SocketAddress> FindHost(std::string_view text,
                                              const Deadline& deadline) {
  const std::string address(text);
  const size_t colon = address.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port > std::numeric_limits<uint16_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", address, "\" is no HOST:PORT, such as 10.0.0.2:7600"));
  }
  std::string host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.empty() || host.find(':') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", address, "\" is no HOST:PORT: IPv6 is [ADDRESS]:PORT"));
  }
  ND_ASSIGN_OR_RETURN(
      const std::vector<verbs::SocketAddress> found,
      verbs::ResolveHost(host, static_cast<uint16_t>(port), deadline, nullptr));
  return found.front();
}

control::Credentials CredentialsOf(const TlsFiles& tls) {
  control::Credentials credentials;
  credentials.ca_file = tls.ca;
  credentials.certificate_file = tls.certificate;
  credentials.key_file = tls.key;
  credentials.server_name = tls.server_name;
  return credentials;
}

}  // namespace nd::api
