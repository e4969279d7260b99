// The port's GIDs: the addresses of the host (IBA annex A17, GIDs).
#ifndef ND_SOFT_DEVICE_GID_TABLE_H_
#define ND_SOFT_DEVICE_GID_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "soft/net/device_fds.h"
#include "soft/wire/gid.h"

namespace nd::soft {

struct GidEntry {
  Gid gid{};
  uint32_t interface_index = 0;
  std::string interface;

  bool operator==(const GidEntry&) const = default;
};

struct HostAddresses {
  // Those of all places that are not empty.
  std::vector<Gid> addresses() const;

  std::vector<GidEntry> gids;  // by place; an empty one has no GID
  uint64_t guid = 0;           // made of an interface's hardware address
  // The smallest of the interfaces that lead out of the host.
  uint32_t mtu_bytes = std::numeric_limits<uint32_t>::max();
};

// Those of interfaces that are up, loopback's last; 127.0.0.1 and ::1 also
// where no interface is up: processes of the host reach one another anyway.
HostAddresses ReadHostAddresses();

// What a table becomes when the host's addresses are these: applications know
// its entries by their places, so that they keep them, those that are gone
// leave theirs empty, and new ones come into empty places or behind.
HostAddresses Updated(const HostAddresses& table, const HostAddresses& host);

// Tells when the host's addresses change. One thread at a time.
class AddressWatch {
 public:
  // One that never tells of any change.
  AddressWatch() = default;
  static absl::StatusOr<AddressWatch> Open();

  // Readable: Changed() has something to say. -1: it never has.
  int fd() const { return socket_.get(); }
  // Whether they may have changed since it was last asked.
  [[nodiscard]] bool Changed();

 private:
  explicit AddressWatch(Fd socket) : socket_(std::move(socket)) {}

  OwnFd socket_;
};

// The address that the host's routes give packets to `destination`.
// Unavailable: there is none.
absl::StatusOr<Gid> SourceAddressFor(const Gid& destination);

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_GID_TABLE_H_
