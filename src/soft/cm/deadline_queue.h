// Which of many keys is due first.
#ifndef ND_SOFT_CM_DEADLINE_QUEUE_H_
#define ND_SOFT_CM_DEADLINE_QUEUE_H_

#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"

namespace nd::soft {

// Holds at most one deadline for each key. One thread at a time.
template <typename Key>
class DeadlineQueue {
 public:
  // Replaces the key's deadline; nothing takes it away.
  void Set(Key key, std::optional<Instant> deadline) {
    const auto at = at_.find(key);
    if (at != at_.end()) {
      if (at->second == deadline) return;
      queue_.erase({at->second, key});
      at_.erase(at);
    }
    if (!deadline) return;
    at_.emplace(key, *deadline);
    queue_.emplace(*deadline, key);
  }

  std::optional<Instant> Next() const {
    if (queue_.empty()) return std::nullopt;
    return queue_.begin()->first;
  }

  // A key whose deadline is `now` or earlier, which it loses.
  std::optional<Key> PopDue(Instant now) {
    if (queue_.empty() || queue_.begin()->first > now) return std::nullopt;
    const Key key = queue_.begin()->second;
    Set(key, std::nullopt);
    return key;
  }

 private:
  absl::flat_hash_map<Key, Instant> at_;
  std::set<std::pair<Instant, Key>> queue_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_CM_DEADLINE_QUEUE_H_
