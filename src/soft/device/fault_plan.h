// What goes wrong with the device itself, beside its network: by chance, and at
// its time.
#ifndef ND_SOFT_DEVICE_FAULT_PLAN_H_
#define ND_SOFT_DEVICE_FAULT_PLAN_H_

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "soft/net/fault_spec.h"

namespace nd::soft {

// One thread at a time.
class FaultPlan {
 public:
  // The device was opened at `start`.
  FaultPlan(const FaultSpec& spec, uint64_t seed, Instant start);

  // Whether this message is to find no receive.
  bool RefuseReceive() { return random_.WithProbability(spec_.rnr); }
  // Whether this message's payload is to be placed out of order, and late.
  bool ShufflePayload() { return random_.WithProbability(spec_.shuffle); }
  // How this send is to fail, if it is.
  std::optional<ibv_wc_status> FailCompletion();
  // Whether this request for a connection is to be rejected.
  bool RejectConnection() { return random_.WithProbability(spec_.cm_reject); }

  // For what a fault does in detail.
  Random& random() { return random_; }

  // Events of the port and the device: IBV_EVENT_PORT_ERR, PORT_ACTIVE,
  // GID_CHANGE, DEVICE_FATAL.
  std::optional<Instant> Next() const;
  // The next that is due.
  std::optional<ibv_event_type> TakeDue(Instant now);

 private:
  struct Event {
    Instant at;
    ibv_event_type type;
  };

  const FaultSpec spec_;
  SeededRandom random_;
  std::vector<Event> events_;  // by time
  size_t next_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_FAULT_PLAN_H_
