// The services that this process has claimed, each with a socket whose name
// tells the other processes of the host.
#ifndef ND_SOFT_NET_SERVICES_H_
#define ND_SOFT_NET_SERVICES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "soft/net/event_set.h"
#include "soft/net/network.h"
#include "soft/net/unix_socket.h"

namespace nd::soft {

// The claims that a request for a service at one of the host's addresses may
// concern: at that very one, or at all.
std::array<HostService, 3> ServicesFor(uint64_t id, const Gid& address);

// One thread at a time. What it is given outlives it.
class Services {
 public:
  Services(const HostNames& names, EventSet& events)
      : names_(names), events_(events) {}

  // AlreadyExists: another process has it at this address, or claims it now; of
  // two that do, one is told so at least. FailedPrecondition: the same, where
  // one of the two is at all addresses. `local` are the host's
  // addresses. What is claimed twice is released twice.
  absl::Status Claim(const HostService& service, std::span<const Gid> local);
  void Release(const HostService& service);
  bool Has(const HostService& service) const {
    return claims_.contains(service);
  }

  // The socket of an event; null: it was released meanwhile.
  const UnixSocket* SocketOf(uint32_t number) const;

 private:
  struct ClaimedService {
    UnixSocket socket;
    uint32_t number;  // of its events
    size_t times = 1;
  };

  // Whether another process has it.
  bool Elsewhere(const HostService& service) const;

  const HostNames& names_;
  EventSet& events_;
  std::map<HostService, ClaimedService> claims_;
  uint32_t next_number_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_SERVICES_H_
