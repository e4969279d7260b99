// Datagram sockets between the processes of a host (network namespace), under
// abstract names, which vanish with the process that has them.
#ifndef ND_SOFT_NET_UNIX_SOCKET_H_
#define ND_SOFT_NET_UNIX_SOCKET_H_

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/fd.h"
#include "soft/net/device_fds.h"
#include "soft/net/network.h"

namespace nd::soft {

// How the processes of a host name themselves.
class HostNames {
 public:
  explicit HostNames(absl::string_view prefix) : prefix_(prefix) {}

  std::string Slot(uint32_t slot) const;
  // The service's id and its address, both in hex; all addresses are "4", "6"
  // or "46".
  std::string Service(const HostService& service) const;
  // That the process of the slot is in the multicast group.
  std::string Group(const Gid& group, uint32_t slot) const;
  // Where the process of the slot hears that who is in groups has changed.
  std::string GroupNews(uint32_t slot) const;
  // Of the process that sent from a socket of that name.
  std::optional<uint32_t> SlotFrom(absl::string_view name) const;

 private:
  std::string prefix_;
};

// What one datagram brought. Who sent it is said by the kernel.
struct UnixMessage {
  std::span<const std::byte> bytes;
  std::string sender;  // name, empty: has none
  uid_t uid = 0;
  pid_t pid = 0;          // 0: it has none here
  std::array<Fd, 2> fds;  // valid: given along
};

// A socket that has a name. One thread at a time.
class UnixSocket {
 public:
  // AlreadyExists: the name is taken.
  static absl::StatusOr<UnixSocket> Bind(absl::string_view name);

  // Does not wait. 0, or the errno: ECONNREFUSED nobody has the name, EAGAIN
  // its queue is full.
  int SendTo(absl::string_view name, std::span<const std::byte> bytes,
             std::span<const int> fds = {}) const;

  // Whether a socket has the name. Where that cannot be told: yes.
  static bool Exists(absl::string_view name);

  // The next datagram, into `buffer`; nothing: none is there.
  std::optional<UnixMessage> Receive(std::span<std::byte> buffer) const;

  int fd() const { return fd_.get(); }

 private:
  explicit UnixSocket(Fd fd) : fd_(std::move(fd)) {}

  OwnFd fd_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_UNIX_SOCKET_H_
