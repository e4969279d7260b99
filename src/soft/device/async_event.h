// Asynchronous events of a device that was opened (ibv_get_async_event).
#ifndef ND_SOFT_DEVICE_ASYNC_EVENT_H_
#define ND_SOFT_DEVICE_ASYNC_EVENT_H_

#include <infiniband/verbs.h>

#include "soft/device/event_queue.h"

namespace nd::soft {

struct AsyncEvent {
  ibv_event_type type{};
  void* element = nullptr;  // the CQ, QP or SRQ as its user knows it; of a
                            // port: null
};

using AsyncEvents = EventQueue<AsyncEvent>;

// Where an object tells of its events, and as whom. `events` outlives it.
struct AsyncSource {
  AsyncEvents* events = nullptr;
  void* element = nullptr;

  void Raise(ibv_event_type type) const {
    if (events != nullptr) events->Push({type, element});
  }
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_ASYNC_EVENT_H_
