#include "verbs/cm_inbox.h"

#include <unistd.h>

#include <cstdint>
#include <utility>

#include "base/mutex.h"

namespace nd::verbs {

std::optional<CmEvent> CmInbox::Put(CmEvent event) {
  MutexLock lock(&mutex);
  if (event.type == RDMA_CM_EVENT_CONNECT_REQUEST) {
    if (requests >= max_requests) {
      if (refused != nullptr) ++*refused;
      return event;
    }
    ++requests;
  }
  if (event.type == RDMA_CM_EVENT_ADDR_CHANGE && !events.empty() &&
      events.back().type == RDMA_CM_EVENT_ADDR_CHANGE) {
    return std::nullopt;
  }
  events.push_back(std::move(event));
  if (waiter_fd >= 0) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written =
        write(waiter_fd, &one, sizeof(one));
  }
  return std::nullopt;
}

std::optional<CmEvent> CmInbox::Take() {
  MutexLock lock(&mutex);
  if (events.empty()) return std::nullopt;
  CmEvent event = std::move(events.front());
  events.pop_front();
  if (event.type == RDMA_CM_EVENT_CONNECT_REQUEST) --requests;
  return event;
}

void CmInbox::SetWaiter(int fd) {
  MutexLock lock(&mutex);
  waiter_fd = fd;
}

}  // namespace nd::verbs
