// Where the events of one CmId wait for its owner. Internal to nd_verbs.
#ifndef ND_VERBS_CM_INBOX_H_
#define ND_VERBS_CM_INBOX_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "verbs/cm.h"

namespace nd::verbs {

// Filled by whoever dispatches the channel, emptied by the id's owner. Bounded:
// requests by `max_requests`, and the CM makes but a few events of other types
// for an id, save ADDR_CHANGE, of which a second one in a row is dropped.
struct CmInbox {
  // Set before the id listens.
  size_t max_requests = std::numeric_limits<size_t>::max();
  std::vector<std::byte> refusal;  // private data for the requests beyond
  std::atomic<uint64_t>* refused = nullptr;  // counts them; may be null

  absl::Mutex mutex;
  std::deque<CmEvent> events ABSL_GUARDED_BY(mutex);
  size_t requests ABSL_GUARDED_BY(mutex) = 0;
  int waiter_fd ABSL_GUARDED_BY(mutex) = -1;  // eventfd of the sleeping owner

  // Returns the event when it is a request that finds no place.
  std::optional<CmEvent> Put(CmEvent event);
  std::optional<CmEvent> Take();

  // Another thread may file the event that the owner sleeps for; it then writes
  // to `fd`. -1: the owner is awake.
  void SetWaiter(int fd);
};

}  // namespace nd::verbs

#endif  // ND_VERBS_CM_INBOX_H_
