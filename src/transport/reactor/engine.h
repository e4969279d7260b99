// A reactor's inside: who is polled, who sleeps, and what wakes them.
#ifndef ND_TRANSPORT_REACTOR_ENGINE_H_
#define ND_TRANSPORT_REACTOR_ENGINE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/fd.h"
#include "nd/reactor.h"
#include "transport/reactor/submission_queue.h"

namespace nd::transport {

// What an engine polls. Belongs to the engine's thread.
class Pollable {
 public:
  virtual ~Pollable() = default;

  // Sends what need not wait for the clock to be read; adds and removes
  // nothing. Turn follows.
  virtual void Hasten() {}
  // Takes what has come and sends what can be sent; whether anything came.
  virtual bool Turn(Instant now) = 0;
  // When Turn is due without anything coming.
  virtual Instant NextDeadline() const = 0;
  // Asks that what comes next be told by one of the engine's descriptors.
  // False: something came before that, and a turn is due. Like Turn, it may end
  // with the pollable removed, and destroyed.
  virtual bool Arm() = 0;

 private:
  friend class Engine;
  enum class State : uint8_t { kOut, kPolled, kAsleep };
  State state_ = State::kOut;
  Instant busy_at_{};  // when something last came
  Instant wake_at_ = Instant::max();
  // Its node while it is not asleep, so that falling asleep takes no memory.
  std::set<std::pair<Instant, Pollable*>>::node_type bed_;
};

class Engine {
 public:
  struct Options {
    Reactor::Progress progress = Reactor::Progress::kAdaptive;
    Duration spin = std::chrono::microseconds(50);
    const Clock* clock = &Clock::Monotonic();
  };
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const Options& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // --- any thread ---

  bool OnThread() const {
    return owner_.load(std::memory_order_acquire) == std::this_thread::get_id();
  }
  // Runs it on the engine's thread, soon.
  void Submit(Submission& submission);
  // Ends a sleep: what a RunUntil waits for may have come.
  void Nudge();
  // Something was submitted that has not run.
  bool submitted() const { return !submissions_.empty(); }
  // Runs it there and waits; at once on that thread. DEADLINE_EXCEEDED: the
  // engine was not polled; it is not run any more.
  absl::Status Call(std::function<void()> work, Instant deadline);
  absl::Status Start();
  // Ends Run, the next one where nobody is in it, and waits for the thread that
  // Start began. On that thread itself it only asks.
  void Stop();

  // --- the engine's thread ---

  // The engine is this thread's from now on; nobody is in Run.
  void Adopt() {
    owner_.store(std::this_thread::get_id(), std::memory_order_release);
  }
  void Run();
  // Not inside itself.
  bool Poll();
  // Polls, and sleeps as Run does, until `done` or the deadline; whether it was
  // done.
  bool RunUntil(absl::FunctionRef<bool()> done, Instant deadline);
  // Poll is under way: what runs now must not wait by polling.
  bool InPoll() const { return in_poll_; }
  int fd() const { return epoll_.get(); }
  std::optional<Instant> PrepareToSleep();

  void Add(Pollable& pollable);
  void Remove(Pollable& pollable);
  // Something is to be done by it: it is polled again.
  void Wake(Pollable& pollable);

  // Calls `ready` from Poll while the descriptor is readable.
  absl::Status Watch(int fd, std::function<void()> ready);
  void Unwatch(int fd);

  Instant Now() const { return options_.clock->Now(); }

  struct Statistics {
    uint64_t turns = 0;
    uint64_t sleeps = 0;
  };
  const Statistics& statistics() const { return statistics_; }

 private:
  Engine(const Options& options, Fd epoll, Fd wakeup);

  bool TurnAll(Instant now);
  ABSL_ATTRIBUTE_NOINLINE bool LookAtDescriptors(int timeout_ms);
  bool WakeLate(Instant now);
  bool MayFallAsleep(const Pollable& pollable, Instant now) const;
  bool FallAsleep(size_t place);
  void SleepUntil(Instant deadline);

  const Options options_;
  const Fd epoll_;
  const Fd wakeup_;
  std::atomic<std::thread::id> owner_{std::this_thread::get_id()};
  SubmissionQueue submissions_;
  std::atomic<bool> sleeps_{false};  // who submits has to write to wakeup_
  std::atomic<bool> stop_{false};
  std::mutex thread_mutex_;
  std::thread thread_;  // under thread_mutex_

  std::vector<Pollable*> polled_;  // null where one has gone
  size_t gone_ = 0;
  std::set<std::pair<Instant, Pollable*>> asleep_;
  absl::flat_hash_map<int, std::shared_ptr<std::function<void()>>> watched_;
  Instant look_at_{};  // at the descriptors, while something is polled
  bool in_poll_ = false;
  Statistics statistics_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_REACTOR_ENGINE_H_
