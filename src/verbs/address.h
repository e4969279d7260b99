// Socket addresses and host names.
#ifndef ND_VERBS_ADDRESS_H_
#define ND_VERBS_ADDRESS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/wait.h"

namespace nd::verbs {

// An IPv4 or IPv6 address with a port. A value; the default is 0.0.0.0:0.
class SocketAddress {
 public:
  SocketAddress();
  // INVALID_ARGUMENT unless `address` is AF_INET or AF_INET6.
  static absl::StatusOr<SocketAddress> From(const sockaddr& address);
  // A numeric address: "10.0.0.1", "fe80::1%eth0", "::".
  static absl::StatusOr<SocketAddress> Parse(absl::string_view host,
                                             uint16_t port);

  int family() const { return storage_.ss_family; }
  uint16_t port() const;
  void set_port(uint16_t port);
  bool is_wildcard() const;  // 0.0.0.0 or ::
  bool is_loopback() const;  // 127.0.0.0/8 or ::1
  std::string host() const;  // "10.0.0.1", "fe80::1%2"

  const sockaddr* get() const {
    return reinterpret_cast<const sockaddr*>(&storage_);
  }
  // librdmacm takes its addresses without const and does not change them.
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage_); }
  socklen_t size() const;

  std::string ToString() const;  // "10.0.0.1:9999", "[fe80::1]:9999"
  friend bool operator==(const SocketAddress& a, const SocketAddress& b);

 private:
  const sockaddr_in& v4() const {
    return reinterpret_cast<const sockaddr_in&>(storage_);
  }
  const sockaddr_in6& v6() const {
    return reinterpret_cast<const sockaddr_in6&>(storage_);
  }

  sockaddr_storage storage_;
};

// Looks a host name or numeric address up; every address found, in the
// resolver's order. A name server that is silent holds neither the deadline nor
// the cancellation up: the lookup goes on in a thread of its own, of which
// there are at most 64. NOT_FOUND: no such name; UNAVAILABLE: no answer now.
absl::StatusOr<std::vector<SocketAddress>> ResolveHost(
    absl::string_view host, uint16_t port, const Deadline& deadline,
    const Cancellation* cancel);

}  // namespace nd::verbs

#endif  // ND_VERBS_ADDRESS_H_
