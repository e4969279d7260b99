// The ports of rdma_cm's port spaces, within the process and among the
// processes of the host.
#ifndef ND_SOFT_ABI_SERVICE_PORTS_H_
#define ND_SOFT_ABI_SERVICE_PORTS_H_

#include <cstdint>
#include <map>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/random.h"
#include "soft/cm/port_table.h"
#include "soft/net/network.h"

namespace nd::soft {

// Processes share a port space as ids of one process do, but that even those
// that reuse addresses keep others from theirs. One thread at a time.
class ServicePorts {
 public:
  // Both outlive it.
  ServicePorts(Network& network, Random& random)
      : network_(network), random_(random) {}

  // `announced`: other processes learn of it, and send requests here.
  absl::StatusOr<PortTable::Bound> Bind(const PortTable::Binding& binding,
                                        bool announced);
  absl::Status Listen(PortClaim claim);
  void Release(PortClaim claim);

 private:
  struct Owned {
    HostService service{};
    bool announced = false;
  };

  absl::Status Announce(Owned& owned);

  Network& network_;
  Random& random_;
  PortTable table_;
  absl::flat_hash_map<PortClaim, Owned> owned_;
  std::map<HostService, int> announced_;  // how many claims have it
};

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_SERVICE_PORTS_H_
