// What a queue pair asks of the device around it. The device owns all of it and
// outlives the queue pair; calls come from within the queue pair's own calls.
#ifndef ND_SOFT_RC_MEMORY_H_
#define ND_SOFT_RC_MEMORY_H_

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "soft/rc/work.h"
#include "soft/wire/serial.h"

namespace nd::soft {

// A peer's wish to touch memory here.
struct MemoryClaim {
  Rkey rkey{};
  uint64_t address = 0;
  uint64_t length = 0;
  ibv_access_flags access{};  // one of IBV_ACCESS_REMOTE_*
};

// The memory that peers may reach through one queue pair: the implementation
// knows its PD and number, so that both are part of the check.
class RemoteMemory {
 public:
  virtual ~RemoteMemory() = default;

  // The bytes, good until the call returns to the device; nothing where key,
  // PD, range or access forbid it.
  virtual std::optional<std::span<std::byte>> Find(
      const MemoryClaim& claim) = 0;

  // Invalidates the key for a SEND with invalidate. False: it names nothing
  // that this peer may invalidate.
  [[nodiscard]] virtual bool Invalidate(Rkey rkey) = 0;
};

// The receives posted to a queue pair, or to the SRQ it shares.
class ReceiveQueue {
 public:
  virtual ~ReceiveQueue() = default;

  // Takes the oldest receive out; nothing if none is posted.
  virtual std::optional<ReceiveWork> Take() = 0;
  // A shared queue outlives its queue pairs' errors: it is not flushed.
  virtual bool shared() const = 0;
};

// Takes what happened, in the order in which it happened. It must not call the
// queue pair back.
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;

  virtual void SendCompleted(const WorkCompletion& completion) = 0;
  virtual void ReceiveCompleted(const WorkCompletion& completion) = 0;
  virtual void Raise(ibv_event_type event) = 0;  // IBV_EVENT_QP_* and alike
};

struct QpPorts {
  RemoteMemory& memory;
  ReceiveQueue& receives;
  CompletionSink& completions;
};

}  // namespace nd::soft

#endif  // ND_SOFT_RC_MEMORY_H_
