// Which processes of the host are in which multicast groups.
#ifndef ND_SOFT_NET_GROUPS_H_
#define ND_SOFT_NET_GROUPS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "soft/net/network.h"
#include "soft/net/unix_socket.h"

namespace nd::soft {

// A process in a group has a socket whose name says so. One that sends to
// groups looks for those names, which takes a call for each slot, and keeps
// what it found for as long as its news socket stays empty: whoever joins or
// leaves tells all that have one. Both make their names first and look for the
// others' then, so that nothing that is sent after a Join has returned misses
// who has joined. One thread at a time. What it is given outlives it.
class Groups {
 public:
  // Of which the members are kept at a time.
  static constexpr size_t kMaxKnown = 256;

  // `socket` is that of the slot, which is this process's.
  Groups(const HostNames& names, uint32_t slot, const UnixSocket& socket)
      : names_(names), slot_(slot), socket_(socket) {}

  // Each group once.
  absl::Status Join(const Gid& group);
  void Leave(const Gid& group);
  bool Has(const Gid& group) const { return joined_.contains(group); }

  // The slots of the other processes that are in the group; good until the next
  // call. One that has just died may be among them.
  std::span<const uint32_t> Others(const Gid& group);
  // A process has died: it may be among those that are known.
  void ForgetOthers() { known_.clear(); }

 private:
  void Tell() const;
  // False: there is no news socket, and what is known now may be out of date
  // the next time.
  [[nodiscard]] bool TakeNews();
  std::vector<uint32_t> Look(const Gid& group) const;

  const HostNames& names_;
  const uint32_t slot_;
  const UnixSocket& socket_;
  std::map<Gid, UnixSocket> joined_;
  std::optional<UnixSocket> news_;
  std::map<Gid, std::vector<uint32_t>> known_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_GROUPS_H_
