// The services that this process has claimed, each with a socket whose name
// tells the other processes of the host.
#ifndef ND_SOFT_NET_SERVICES_H_
#define ND_SOFT_NET_SERVICES_H_

#include <cstddef>
#include <cstdint>
#include <map>

#include "absl/status/status.h"
#include "soft/net/event_set.h"
#include "soft/net/unix_socket.h"

namespace nd::soft {

// One thread at a time. What it is given outlives it.
class Services {
 public:
  Services(const HostNames& names, EventSet& events)
      : names_(names), events_(events) {}

  // AlreadyExists: another process has it. What is claimed twice is released
  // twice.
  absl::Status Claim(uint64_t service_id);
  void Release(uint64_t service_id);
  bool Has(uint64_t service_id) const { return claims_.contains(service_id); }

  // The socket of an event; null: it was released meanwhile.
  const UnixSocket* SocketOf(uint32_t number) const;

 private:
  struct ClaimedService {
    UnixSocket socket;
    uint32_t number;  // of its events
    size_t times = 1;
  };

  const HostNames& names_;
  EventSet& events_;
  std::map<uint64_t, ClaimedService> claims_;
  uint32_t next_number_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_SERVICES_H_
