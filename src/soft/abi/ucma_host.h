// What rdma_cm's character device needs of the process around it.
#ifndef ND_SOFT_ABI_UCMA_HOST_H_
#define ND_SOFT_ABI_UCMA_HOST_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/random.h"
#include "soft/cm/manager.h"
#include "soft/cm/port_table.h"

namespace nd::soft {

// An open file of the character device. Never used twice.
enum class UcmaFile : uint64_t {};

class UcmaHost {
 public:
  virtual ~UcmaHost() = default;

  virtual CmManager& manager() = 0;
  virtual Instant Now() const = 0;
  virtual uint64_t node_guid() const = 0;  // in network order, as verbs has it
  virtual uint32_t device_index() const = 0;  // ibv_get_device_index
  virtual uint8_t path_mtu() const = 0;       // enum ibv_mtu, of the port

  // The address that packets to `destination` leave from; where that is a
  // loopback address, one of the device's. Unavailable: there is no way there.
  virtual absl::StatusOr<Gid> SourceFor(const Gid& destination) = 0;
  virtual bool IsLocal(const Gid& address) = 0;  // one of this host's
  // Where the address stands in the device's table, -1 if it does not.
  virtual int GidIndex(const Gid& address) = 0;

  // Ports of the host. A client's port need not be known to other processes;
  // one that was bound, and may be listened to, is `announced`.
  virtual absl::StatusOr<PortTable::Bound> BindPort(
      const PortTable::Binding& binding, bool announced) = 0;
  virtual absl::Status ListenOnPort(PortClaim claim) = 0;
  virtual void ReleasePort(PortClaim claim) = 0;

  // Sends what a command of the manager made. Its events come back by
  // Ucma::OnEvent, before or after this returns.
  virtual void Deliver(const CmOutput& output) = 0;

  // The file has `count` more events to fetch, or fewer where that is negative.
  virtual void EventsChanged(UcmaFile file, int count) = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_UCMA_HOST_H_
