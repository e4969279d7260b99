// Named counters, for the admin service and metrics.
#ifndef ND_BASE_COUNTERS_H_
#define ND_BASE_COUNTERS_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace nd {

// Counts events, only ever upwards. Any thread may add and any may read; an
// addition is one relaxed atomic instruction and orders nothing else.
class Counter {
 public:
  Counter() = default;
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;

  void Add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// A counter as it was read. The strings live as long as its CounterSet.
struct CounterSample {
  absl::string_view name;
  absl::string_view help;
  uint64_t value;
};

// Owns the counters of one part of the program. Look a counter up once, at
// set-up, and keep the reference: it stays valid as long as the set does.
// Thread-safe.
class CounterSet {
 public:
  CounterSet() = default;
  CounterSet(const CounterSet&) = delete;
  CounterSet& operator=(const CounterSet&) = delete;

  // The counter called `name`, made on the first call; a later call's `help` is
  // ignored. Names follow Prometheus: snake_case, units and "_total" last.
  Counter& Get(absl::string_view name, absl::string_view help);

  // Every counter in the order in which it was made. Each value is exact at
  // some moment during the call, not all at the same moment.
  std::vector<CounterSample> Read() const;

 private:
  struct Entry {
    Entry(absl::string_view name, absl::string_view help)
        : name(name), help(help) {}
    const std::string name;
    const std::string help;
    Counter counter;
  };

  mutable absl::Mutex mutex_;
  std::deque<Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace nd

#endif  // ND_BASE_COUNTERS_H_
