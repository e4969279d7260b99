// Which ports of rdma_cm's port spaces are taken.
#ifndef ND_SOFT_CM_PORT_TABLE_H_
#define ND_SOFT_CM_PORT_TABLE_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/random.h"
#include "soft/cm/address.h"

namespace nd::soft {

// Names a bound port until it is released.
enum class PortClaim : uint64_t {};

// The ports of one host. Port spaces do not know of one another, nor of TCP's
// and UDP's own ports. One thread at a time.
class PortTable {
 public:
  // What Linux hands out by itself (net.ipv4.ip_local_port_range).
  static constexpr uint16_t kFirstEphemeral = 32768;
  static constexpr uint16_t kLastEphemeral = 60999;

  struct Binding {
    PortSpace space = PortSpace::kTcp;
    CmEndpoint local{};  // port 0: any
    bool reuse_address = false;
    bool ipv6_only = false;
    // It was bound by a loopback address, whatever that leads to: as in Linux
    // the port is then taken at all addresses.
    bool loopback = false;
  };
  struct Bound {
    PortClaim claim{};
    uint16_t port = 0;
  };

  // AlreadyExists: the address is in use. FailedPrecondition: a wildcard or
  // loopback address, this one or one that is bound, collides with all of its
  // family, :: also with IPv4 unless it is ipv6_only; two that both reuse
  // addresses never collide (Linux, cma_check_port, which tells the two apart).
  // ResourceExhausted: no port is left to pick.
  absl::StatusOr<Bound> Bind(const Binding& binding, Random& random);

  // Before listening: now even those that reuse addresses collide, and it is
  // told as by Bind.
  absl::Status Listen(PortClaim claim);

  void Release(PortClaim claim);

 private:
  struct Owner {
    PortClaim claim{};
    Binding binding{};
  };
  using Key = std::pair<PortSpace, uint16_t>;

  uint16_t PickEphemeral(PortSpace space, Random& random) const;

  absl::flat_hash_map<Key, std::vector<Owner>> owners_;
  absl::flat_hash_map<PortClaim, Key> keys_;
  uint64_t last_claim_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_CM_PORT_TABLE_H_
