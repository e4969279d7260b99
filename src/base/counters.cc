#include "base/counters.h"

#include "base/mutex.h"

namespace nd {

Counter& CounterSet::Get(absl::string_view name, absl::string_view help) {
  MutexLock lock(&mutex_);
  for (Entry& entry : entries_) {
    if (entry.name == name) return entry.counter;
  }
  return entries_.emplace_back(name, help).counter;
}

std::vector<CounterSample> CounterSet::Read() const {
  MutexLock lock(&mutex_);
  std::vector<CounterSample> samples;
  samples.reserve(entries_.size());
  for (const Entry& entry : entries_) {
    samples.push_back({entry.name, entry.help, entry.counter.value()});
  }
  return samples;
}

}  // namespace nd
