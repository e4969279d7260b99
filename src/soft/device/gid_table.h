// The port's GIDs: the addresses of the host (IBA annex A17, GIDs).
#ifndef ND_SOFT_DEVICE_GID_TABLE_H_
#define ND_SOFT_DEVICE_GID_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "soft/wire/gid.h"

namespace nd::soft {

struct GidEntry {
  Gid gid{};
  uint32_t interface_index = 0;
  std::string interface;

  bool operator==(const GidEntry&) const = default;
};

struct HostAddresses {
  std::vector<Gid> addresses() const;

  std::vector<GidEntry> gids;
  uint64_t guid = 0;  // made of an interface's hardware address
  // The smallest of the interfaces that lead out of the host.
  uint32_t mtu_bytes = std::numeric_limits<uint32_t>::max();
};

// Those of interfaces that are up, loopback's last; 127.0.0.1 and ::1 also
// where no interface is up: processes of the host reach one another anyway.
HostAddresses ReadHostAddresses();

// The address that the host's routes give packets to `destination`.
// Unavailable: there is none.
absl::StatusOr<Gid> SourceAddressFor(const Gid& destination);

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_GID_TABLE_H_
