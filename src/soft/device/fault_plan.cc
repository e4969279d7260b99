#include "soft/device/fault_plan.h"

#include <algorithm>

namespace nd::soft {

FaultPlan::FaultPlan(const FaultSpec& spec, uint64_t seed, Instant start)
    : spec_(spec), random_(seed) {
  const auto add = [this, start](Duration after, ibv_event_type type) {
    events_.push_back({.at = start + after, .type = type});
  };
  if (const auto& down = spec.port_down) {
    add(down->after, IBV_EVENT_PORT_ERR);
    if (down->lasts) add(down->after + *down->lasts, IBV_EVENT_PORT_ACTIVE);
  }
  if (spec.gid_change) add(*spec.gid_change, IBV_EVENT_GID_CHANGE);
  if (spec.device_removal) add(*spec.device_removal, IBV_EVENT_DEVICE_FATAL);
  std::ranges::stable_sort(events_, {}, &Event::at);
}

std::optional<ibv_wc_status> FaultPlan::FailCompletion() {
  if (!random_.WithProbability(spec_.cqe.probability)) return std::nullopt;
  return spec_.cqe.status;
}

std::optional<Instant> FaultPlan::Next() const {
  if (next_ == events_.size()) return std::nullopt;
  return events_[next_].at;
}

std::optional<ibv_event_type> FaultPlan::TakeDue(Instant now) {
  if (next_ == events_.size() || events_[next_].at > now) return std::nullopt;
  return events_[next_++].type;
}

}  // namespace nd::soft
