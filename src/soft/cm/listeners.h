// Who waits for requests, and for how many.
#ifndef ND_SOFT_CM_LISTENERS_H_
#define ND_SOFT_CM_LISTENERS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "soft/cm/commands.h"

namespace nd::soft {

// The listeners of a device, and the requests that their applications have not
// fetched yet. One thread at a time.
class Listeners {
 public:
  static constexpr int kMaxBacklog = 1024;

  void Add(CmHandle handle, const CmListenOptions& options);
  // What it had not fetched; nothing if there is no such listener.
  std::vector<CmHandle> Remove(CmHandle handle);

  bool Contains(CmHandle handle) const { return listeners_.contains(handle); }
  bool Serves(uint64_t service_id) const {
    return by_service_.contains(service_id);
  }
  // Who listens on this very address, or else on all.
  std::optional<CmHandle> Match(uint64_t service_id, const Gid& destination,
                                CmTransport transport) const;

  // False: the backlog is full.
  bool HasRoom(CmHandle listener) const;
  void Queue(CmHandle listener, CmHandle request);
  // Fetched or gone; nothing if it did not wait.
  void Unqueue(CmHandle request);

 private:
  struct Listener {
    CmListenOptions options{};
    int room = 0;
  };

  absl::flat_hash_map<CmHandle, Listener> listeners_;
  absl::flat_hash_map<uint64_t, std::vector<CmHandle>> by_service_;
  absl::flat_hash_map<CmHandle, CmHandle> queued_;  // request to listener
};

}  // namespace nd::soft

#endif  // ND_SOFT_CM_LISTENERS_H_
