#include "transport/reactor/engine.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/fake_clock.h"
#include "base/fd.h"

namespace nd::transport {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;

using Progress = Reactor::Progress;

std::unique_ptr<Engine> NewEngine(Progress progress = Progress::kEvent,
                                  const Clock& clock = Clock::Monotonic()) {
  auto engine = Engine::Create(
      {.progress = progress, .spin = microseconds(50), .clock = &clock});
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

// No test waits this long, unless it fails.
Instant Late() { return Clock::Monotonic().Now() + std::chrono::seconds(60); }

struct Work final : Submission {
  explicit Work(std::function<void()> its)
      : Submission(&Work::RunIt), what(std::move(its)) {}
  static void RunIt(Submission& self) { static_cast<Work&>(self).what(); }
  std::function<void()> what;
};

struct FakePollable final : Pollable {
  void Hasten() override {
    if (on_hasten) on_hasten();
  }
  bool Turn(Instant) override {
    ++turns;
    if (const auto call = on_turn) call();  // which may set another one
    return std::exchange(came, false);
  }
  Instant NextDeadline() const override { return deadline; }
  bool Arm() override {
    ++arms;
    return arm_result;
  }

  std::function<void()> on_hasten;
  std::function<void()> on_turn;
  bool came = false;
  bool arm_result = true;
  Instant deadline = Instant::max();
  int turns = 0, arms = 0;
};

class EventFd {
 public:
  EventFd() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  int get() const { return fd_.get(); }
  void Signal() const {
    const uint64_t one = 1;
    EXPECT_EQ(write(fd_.get(), &one, sizeof(one)), ssize_t{sizeof(one)});
  }
  void Clear() const {
    uint64_t count = 0;
    EXPECT_EQ(read(fd_.get(), &count, sizeof(count)), ssize_t{sizeof(count)});
  }

 private:
  const Fd fd_;
};

TEST(Engine, ANegativeSpinTimeIsInvalid) {
  EXPECT_EQ(Engine::Create({.spin = -microseconds(1)}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Engine, WhatHastensDoesNotWaitForTheClock) {
  struct CountingClock final : Clock {
    Instant Now() const override {
      ++reads;
      return {};
    }
    mutable int reads = 0;
  } clock;
  const auto engine = NewEngine(Progress::kBusy, clock);
  FakePollable polled, gone;
  int at_hasten = -1, at_turn = -1;
  polled.on_hasten = [&] { at_hasten = clock.reads; };
  polled.on_turn = [&] { at_turn = clock.reads; };
  engine->Add(gone);
  engine->Add(polled);
  engine->Remove(gone);
  const int before = clock.reads;
  engine->Poll();
  EXPECT_EQ(at_hasten, before);
  EXPECT_EQ(at_turn, before + 1);
  engine->Remove(polled);
}

// --- submissions ---

TEST(EngineSubmit, RunsInOrderInTheNextPoll) {
  const auto engine = NewEngine();
  std::vector<int> ran;
  std::vector<std::unique_ptr<Work>> works;
  for (int i = 0; i < 10; ++i) {
    works.push_back(std::make_unique<Work>([&ran, i] { ran.push_back(i); }));
    engine->Submit(*works.back());
  }
  EXPECT_TRUE(ran.empty());
  EXPECT_TRUE(engine->Poll());
  EXPECT_EQ(ran, std::vector<int>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_FALSE(engine->Poll());
}

TEST(EngineSubmit, WhatRunsMaySubmitItselfAgain) {
  const auto engine = NewEngine();
  int left = 3;
  Work work([&] {
    if (--left > 0) engine->Submit(work);
  });
  engine->Submit(work);
  EXPECT_TRUE(engine->RunUntil([&left] { return left == 0; }, Late()));
}

TEST(EngineSubmit, WhatIsLeftRunsBeforeTheEngineGoes) {
  bool ran = false;
  Work work([&ran] { ran = true; });
  NewEngine()->Submit(work);
  EXPECT_TRUE(ran);
}

// Each thread goes on only when its work was done, so the engine falls asleep
// all the time; one lost wakeup, and the test never ends.
TEST(EngineSubmit, WakesASleepingEngineFromManyThreads) {
  constexpr int kThreads = 4, kEach = 2000;
  const auto engine = NewEngine();
  ASSERT_TRUE(engine->Start().ok());
  std::vector<int> counts(kThreads);  // the engine's thread's
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&engine, &count = counts[size_t(t)]] {
      for (int i = 0; i < kEach; ++i) {
        std::atomic<bool> done{false};
        Work work([&] {
          ++count;
          done.store(true, std::memory_order_release);
        });
        engine->Submit(work);
        while (!done.load(std::memory_order_acquire)) std::this_thread::yield();
      }
    });
  }
  for (std::thread& each : threads) each.join();
  engine->Stop();
  EXPECT_EQ(counts, std::vector<int>(kThreads, kEach));
  EXPECT_GT(engine->statistics().sleeps, 0u);
}

TEST(EngineSubmit, TheOrderOfEachThreadIsKeptAmongMany) {
  constexpr int kThreads = 4, kEach = 2000;
  const auto engine = NewEngine();
  ASSERT_TRUE(engine->Start().ok());
  std::vector<std::vector<int>> ran(kThreads);
  std::vector<std::vector<std::unique_ptr<Work>>> works(kThreads);
  for (size_t t = 0; t < kThreads; ++t) {
    for (int i = 0; i < kEach; ++i) {
      works[t].push_back(
          std::make_unique<Work>([&mine = ran[t], i] { mine.push_back(i); }));
    }
  }
  std::vector<std::thread> threads;
  for (const auto& mine : works) {
    threads.emplace_back([&engine, &mine] {
      for (const auto& each : mine) engine->Submit(*each);
    });
  }
  for (std::thread& each : threads) each.join();
  // Behind all of them.
  ASSERT_TRUE(engine->Call([] {}, Late()).ok());
  engine->Stop();
  for (const std::vector<int>& mine : ran) {
    EXPECT_EQ(mine.size(), size_t{kEach});
    EXPECT_TRUE(std::ranges::is_sorted(mine));
  }
}

// --- calls ---

TEST(EngineCall, RunsAtOnceOnTheThread) {
  const auto engine = NewEngine();
  bool ran = false;
  ASSERT_TRUE(engine->OnThread());
  EXPECT_TRUE(engine->Call([&ran] { ran = true; }, Instant::min()).ok());
  EXPECT_TRUE(ran);
}

TEST(EngineCall, RunsOnTheEnginesThreadAndWaits) {
  const auto engine = NewEngine();
  ASSERT_TRUE(engine->Start().ok());
  EXPECT_FALSE(engine->OnThread());
  std::thread::id on;
  bool known = false;
  EXPECT_TRUE(engine
                  ->Call(
                      [&] {
                        on = std::this_thread::get_id();
                        known = engine->OnThread();
                      },
                      Late())
                  .ok());
  EXPECT_NE(on, std::thread::id());
  EXPECT_NE(on, std::this_thread::get_id());
  EXPECT_TRUE(known);
}

TEST(EngineCall, ThatNobodyServesEndsAtItsDeadlineAndIsNotRunLater) {
  const auto engine = NewEngine();  // this thread's, which does not poll
  bool ran = false;
  absl::Status status;
  std::thread caller([&] {
    status = engine->Call([&ran] { ran = true; },
                          Clock::Monotonic().Now() + milliseconds(1));
  });
  caller.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_TRUE(engine->Poll());
  EXPECT_FALSE(ran);
}

TEST(EngineCall, ThatHasBegunIsAwaitedBeyondItsDeadline) {
  const auto engine = NewEngine();
  std::atomic<bool> over{false};
  bool finished = false;
  absl::Status status;
  const Instant deadline = Clock::Monotonic().Now() + milliseconds(200);
  std::atomic<bool> begun{false};
  std::thread caller([&] {
    status = engine->Call(
        [&] {
          begun = true;
          while (!over) std::this_thread::yield();
          finished = true;
        },
        deadline);
  });
  std::thread opener([&] {
    while (Clock::Monotonic().Now() < deadline + milliseconds(1)) {
      std::this_thread::yield();
    }
    over = true;
  });
  // On a machine that has no time for it until then, it was given up.
  engine->RunUntil([&begun] { return begun.load(); },
                   deadline + milliseconds(1));
  caller.join();
  opener.join();
  EXPECT_EQ(begun.load(), finished);
  EXPECT_EQ(status.ok(), finished) << status;
}

// --- progress modes ---

TEST(EngineProgress, BusyNeverArms) {
  FakeClock clock;
  const auto engine = NewEngine(Progress::kBusy, clock);
  FakePollable pollable;
  engine->Add(pollable);
  for (int i = 0; i < 5; ++i) {
    clock.Advance(hours(1));
    EXPECT_FALSE(engine->Poll());
    EXPECT_FALSE(engine->PrepareToSleep().has_value());
  }
  EXPECT_EQ(pollable.turns, 5);
  EXPECT_EQ(pollable.arms, 0);
}

TEST(EngineProgress, EventArmsAsSoonAsNothingComes) {
  FakeClock clock;
  const auto engine = NewEngine(Progress::kEvent, clock);
  FakePollable pollable;
  engine->Add(pollable);
  pollable.came = true;
  EXPECT_TRUE(engine->Poll());
  EXPECT_EQ(pollable.arms, 0);
  EXPECT_FALSE(engine->PrepareToSleep().has_value());
  EXPECT_FALSE(engine->Poll());
  EXPECT_EQ(pollable.arms, 1);
  EXPECT_EQ(engine->PrepareToSleep(), Instant::max());
}

TEST(EngineProgress, AdaptiveSpinsItsTimeAfterTheLastThatCame) {
  FakeClock clock;
  const auto engine = NewEngine(Progress::kAdaptive, clock);
  FakePollable pollable;
  engine->Add(pollable);
  clock.Advance(microseconds(49));
  engine->Poll();
  EXPECT_EQ(pollable.arms, 0);
  pollable.came = true;
  engine->Poll();
  clock.Advance(microseconds(49));
  engine->Poll();
  EXPECT_EQ(pollable.arms, 0);
  EXPECT_FALSE(engine->PrepareToSleep().has_value());
  clock.Advance(microseconds(1));
  engine->Poll();
  EXPECT_EQ(pollable.arms, 1);
  EXPECT_TRUE(engine->PrepareToSleep().has_value());
}

TEST(EngineProgress, WhatComesBeforeItIsArmedKeepsItPolled) {
  FakeClock clock;
  const auto engine = NewEngine(Progress::kAdaptive, clock);
  FakePollable pollable;
  engine->Add(pollable);
  clock.Advance(microseconds(50));
  pollable.arm_result = false;
  EXPECT_TRUE(engine->Poll());
  EXPECT_FALSE(engine->PrepareToSleep().has_value());
  // It spins again.
  pollable.arm_result = true;
  engine->Poll();
  EXPECT_EQ(pollable.arms, 1);
  clock.Advance(microseconds(50));
  engine->Poll();
  EXPECT_EQ(pollable.arms, 2);
  EXPECT_TRUE(engine->PrepareToSleep().has_value());
}

TEST(EngineProgress, AsleepItIsTurnedOnlyWhenWoken) {
  FakeClock clock;
  const auto engine = NewEngine(Progress::kEvent, clock);
  FakePollable sleeper, other;
  engine->Add(sleeper);
  engine->Add(other);
  engine->Poll();
  ASSERT_EQ(sleeper.turns, 1);
  for (int i = 0; i < 3; ++i) {
    clock.Advance(hours(1));
    EXPECT_FALSE(engine->Poll());
  }
  EXPECT_EQ(sleeper.turns, 1);
  engine->Wake(sleeper);
  engine->Wake(sleeper);  // no effect on one that is awake
  EXPECT_FALSE(engine->PrepareToSleep().has_value());
  engine->Poll();
  EXPECT_EQ(sleeper.turns, 2);
  EXPECT_EQ(other.turns, 1);
}

TEST(EngineProgress, AsleepItIsTurnedAtItsDeadline) {
  FakeClock clock;
  const auto engine = NewEngine(Progress::kEvent, clock);
  FakePollable early, late;
  early.deadline = clock.Now() + milliseconds(5);
  late.deadline = clock.Now() + milliseconds(9);
  engine->Add(late);
  engine->Add(early);
  engine->Poll();
  EXPECT_EQ(engine->PrepareToSleep(), early.deadline);
  clock.Advance(milliseconds(5) - std::chrono::nanoseconds(1));
  EXPECT_FALSE(engine->Poll());
  clock.Advance(std::chrono::nanoseconds(1));
  EXPECT_TRUE(engine->Poll());
  early.deadline = Instant::max();
  engine->Poll();
  EXPECT_EQ(early.turns, 2);
  EXPECT_EQ(late.turns, 1);
  EXPECT_EQ(engine->PrepareToSleep(), late.deadline);
}

TEST(EngineProgress, AWatchedDescriptorWakesIt) {
  FakeClock clock;
  const auto engine = NewEngine(Progress::kEvent, clock);
  const EventFd event;
  FakePollable pollable;
  ASSERT_TRUE(engine
                  ->Watch(event.get(),
                          [&] {
                            event.Clear();
                            engine->Wake(pollable);
                          })
                  .ok());
  engine->Add(pollable);
  engine->Poll();
  event.Signal();
  EXPECT_TRUE(engine->Poll());
  engine->Poll();
  EXPECT_EQ(pollable.turns, 2);
}

TEST(EngineProgress, DescriptorsAreLookedAtWhileSomethingIsPolled) {
  FakeClock clock;
  const auto engine = NewEngine(Progress::kBusy, clock);
  const EventFd event;
  int seen = 0;
  ASSERT_TRUE(engine->Watch(event.get(), [&] { event.Clear(), ++seen; }).ok());
  FakePollable busy;
  busy.on_turn = [&busy] { busy.came = true; };
  engine->Add(busy);
  engine->Poll();
  event.Signal();
  clock.Advance(milliseconds(1));
  engine->Poll();
  EXPECT_EQ(seen, 1);
}

// --- coming and going in the middle ---

TEST(EnginePollables, AreAddedAndRemovedInsideATurn) {
  const auto engine = NewEngine(Progress::kBusy);
  FakePollable first, second, third;
  first.on_turn = [&] {
    first.on_turn = nullptr;
    engine->Remove(second);
    engine->Add(third);
  };
  engine->Add(first);
  engine->Add(second);
  engine->Poll();
  EXPECT_EQ(second.turns, 0);
  EXPECT_EQ(third.turns, 1);
  engine->Poll();
  EXPECT_EQ(first.turns, 2);
  EXPECT_EQ(second.turns, 0);
  EXPECT_EQ(third.turns, 2);
  engine->Remove(first);
  engine->Remove(third);
  engine->Remove(third);  // no effect
  EXPECT_FALSE(engine->Poll());
  EXPECT_EQ(first.turns, 2);
}

TEST(EnginePollables, AreRemovedInTheirOwnTurn) {
  const auto engine = NewEngine(Progress::kEvent);
  auto doomed = std::make_unique<FakePollable>();
  FakePollable behind;
  engine->Add(*doomed);
  engine->Add(behind);
  doomed->on_turn = [&] { engine->Remove(*doomed); };
  engine->Poll();
  doomed.reset();
  EXPECT_EQ(behind.turns, 1);
  EXPECT_EQ(engine->PrepareToSleep(), Instant::max());
}

// What comes while it is armed may be the last that it waited for.
TEST(EnginePollables, AreDestroyedWhileTheyAreArmed) {
  struct Doomed final : Pollable {
    Doomed(Engine& its, std::unique_ptr<Doomed>& own, bool result)
        : engine(its), self(own), armed(result) {}
    bool Turn(Instant) override { return false; }
    Instant NextDeadline() const override { return Instant::max(); }
    bool Arm() override {
      engine.Remove(*this);
      const bool result = armed;
      self.reset();
      return result;
    }
    Engine& engine;
    std::unique_ptr<Doomed>& self;
    const bool armed;
  };
  for (const bool result : {true, false}) {
    const auto engine = NewEngine(Progress::kEvent);
    std::unique_ptr<Doomed> doomed;
    doomed = std::make_unique<Doomed>(*engine, doomed, result);
    FakePollable behind;
    engine->Add(*doomed);
    engine->Add(behind);
    engine->Poll();
    EXPECT_EQ(doomed, nullptr);
    EXPECT_EQ(behind.turns, 1);
    engine->Poll();
    EXPECT_EQ(engine->PrepareToSleep(), Instant::max());
  }
}

TEST(EnginePollables, AreRemovedAsleep) {
  FakeClock clock;
  const auto engine = NewEngine(Progress::kEvent, clock);
  FakePollable pollable;
  pollable.deadline = clock.Now() + milliseconds(1);
  engine->Add(pollable);
  engine->Poll();
  engine->Remove(pollable);
  EXPECT_EQ(engine->PrepareToSleep(), Instant::max());
  clock.Advance(hours(1));
  EXPECT_FALSE(engine->Poll());
  EXPECT_EQ(pollable.turns, 1);
  engine->Add(pollable);
  engine->Poll();
  EXPECT_EQ(pollable.turns, 2);
}

TEST(EngineDescriptors, AreUnwatchedInsideACallback) {
  const auto engine = NewEngine();
  const EventFd a, b;
  // Whichever comes first takes both away.
  int called = 0;
  const auto callback = [&] {
    engine->Unwatch(a.get());
    engine->Unwatch(b.get());
    ++called;
  };
  ASSERT_TRUE(engine->Watch(a.get(), callback).ok());
  ASSERT_TRUE(engine->Watch(b.get(), callback).ok());
  a.Signal();
  b.Signal();
  EXPECT_TRUE(engine->Poll());
  EXPECT_FALSE(engine->Poll());
  EXPECT_EQ(called, 1);
  // And watched again.
  ASSERT_TRUE(engine->Watch(a.get(), callback).ok());
  EXPECT_TRUE(engine->Poll());
  EXPECT_EQ(called, 2);
}

TEST(EngineDescriptors, ThatCannotBeWatchedAreNamed) {
  const auto engine = NewEngine();
  EXPECT_FALSE(engine->Watch(-1, [] {}).ok());
}

// --- threads ---

TEST(EngineThread, IsOneAtATime) {
  const auto engine = NewEngine();
  ASSERT_TRUE(engine->Start().ok());
  EXPECT_EQ(engine->Start().code(), absl::StatusCode::kFailedPrecondition);
  engine->Stop();
}

TEST(EngineThread, StartsAgainAfterAnyNumberOfStops) {
  const auto engine = NewEngine();
  engine->Stop();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(engine->Start().ok());
    EXPECT_FALSE(engine->OnThread());
    // More than the first turn.
    for (int turn = 0; turn < 3; ++turn) {
      ASSERT_TRUE(engine->Call([] {}, Late()).ok());
    }
    engine->Stop();
    engine->Stop();
    EXPECT_TRUE(engine->OnThread());
  }
}

TEST(EngineThread, RunEndsByStopAndRunsAgain) {
  const auto engine = NewEngine();
  for (int i = 0; i < 3; ++i) {
    std::atomic<bool> served{false};
    std::thread other([&] {
      EXPECT_TRUE(engine->Call([&served] { served = true; }, Late()).ok());
      engine->Stop();
    });
    engine->Run();
    other.join();
    EXPECT_TRUE(served);
  }
}

TEST(EngineThread, RunMakesTheEngineTheThreadsThatCalls) {
  const auto engine = NewEngine();
  bool on_thread = false;
  std::thread runner([&] {
    Work work([&] {
      on_thread = engine->OnThread();
      engine->Stop();
    });
    engine->Submit(work);
    engine->Run();
  });
  runner.join();
  EXPECT_TRUE(on_thread);
  EXPECT_FALSE(engine->OnThread());
  engine->Adopt();
  EXPECT_TRUE(engine->OnThread());
}

TEST(EngineThread, StopBeforeRunEndsIt) {
  const auto engine = NewEngine();
  engine->Stop();
  engine->Run();
}

// Two Stops meet: one waits for the thread, which is in the other.
TEST(EngineThread, StopsItselfWhileAnotherStopsIt) {
  for (int i = 0; i < 50; ++i) {
    Engine* stopped = nullptr;
    Work work([&stopped] { stopped->Stop(); });  // or when the engine goes
    const auto engine = NewEngine();
    stopped = engine.get();
    ASSERT_TRUE(engine->Start().ok());
    engine->Submit(work);
    engine->Stop();
    EXPECT_TRUE(engine->OnThread());
  }
}

// --- waiting ---

TEST(EngineRunUntil, EndsAtItsDeadline) {
  const auto engine = NewEngine();
  EXPECT_FALSE(engine->RunUntil([] { return false; },
                                Clock::Monotonic().Now() + milliseconds(2)));
  EXPECT_GT(engine->statistics().sleeps, 0u);
}

TEST(EngineRunUntil, EndsAtItsDeadlineHoweverMuchComes) {
  FakeClock clock;
  const auto engine = NewEngine(Progress::kEvent, clock);
  FakePollable pollable;
  pollable.on_turn = [&] {
    pollable.came = true;
    clock.Advance(milliseconds(1));
  };
  engine->Add(pollable);
  EXPECT_FALSE(
      engine->RunUntil([] { return false; }, clock.Now() + milliseconds(10)));
  EXPECT_EQ(pollable.turns, 10);
}

TEST(EngineRunUntil, IsWokenByASubmissionOfAnotherThread) {
  const auto engine = NewEngine();
  bool done = false;
  Work work([&done] { done = true; });
  std::thread other([&] { engine->Submit(work); });
  EXPECT_TRUE(engine->RunUntil([&done] { return done; }, Late()));
  other.join();
}

TEST(EngineRunUntil, KnowsThatItIsInside) {
  const auto engine = NewEngine();
  bool inside = false;
  Work work([&] { inside = engine->InPoll(); });
  engine->Submit(work);
  engine->Poll();
  EXPECT_TRUE(inside);
  EXPECT_FALSE(engine->InPoll());
}

// --- in a loop of the application's ---

bool Readable(const Engine& engine, int timeout_ms) {
  pollfd entry{.fd = engine.fd(), .events = POLLIN, .revents = 0};
  return poll(&entry, 1, timeout_ms) == 1;
}

TEST(EngineInAForeignLoop, IsWokenByASubmission) {
  const auto engine = NewEngine();
  EXPECT_FALSE(engine->Poll());
  EXPECT_EQ(engine->PrepareToSleep(), Instant::max());
  EXPECT_FALSE(Readable(*engine, 0));
  bool ran = false;
  Work work([&ran] { ran = true; });
  std::thread other([&] { engine->Submit(work); });
  EXPECT_TRUE(Readable(*engine, 60000));
  other.join();
  EXPECT_TRUE(engine->Poll());
  EXPECT_TRUE(ran);
  // And is quiet again.
  EXPECT_FALSE(engine->Poll());
  EXPECT_FALSE(Readable(*engine, 0));
}

TEST(EngineInAForeignLoop, DoesNotSleepOverWhatWasSubmittedBefore) {
  const auto engine = NewEngine();
  Work work([] {});
  engine->Submit(work);
  EXPECT_FALSE(engine->PrepareToSleep().has_value());
  engine->Poll();
  EXPECT_TRUE(engine->PrepareToSleep().has_value());
}

TEST(EngineInAForeignLoop, IsWokenByItsDescriptors) {
  const auto engine = NewEngine();
  const EventFd event;
  int seen = 0;
  ASSERT_TRUE(engine->Watch(event.get(), [&] { event.Clear(), ++seen; }).ok());
  EXPECT_TRUE(engine->PrepareToSleep().has_value());
  EXPECT_FALSE(Readable(*engine, 0));
  event.Signal();
  EXPECT_TRUE(Readable(*engine, 0));
  EXPECT_TRUE(engine->Poll());
  EXPECT_EQ(seen, 1);
  EXPECT_FALSE(Readable(*engine, 0));
}

// The loop of the header's words; no wakeup is lost in it.
TEST(EngineInAForeignLoop, ServesManyThreads) {
  constexpr int kThreads = 3, kEach = 1000;
  const auto engine = NewEngine();
  int count = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        EXPECT_TRUE(engine->Call([&count] { ++count; }, Late()).ok());
      }
    });
  }
  while (count < kThreads * kEach) {
    engine->Poll();
    if (engine->PrepareToSleep() && count < kThreads * kEach) {
      ASSERT_TRUE(Readable(*engine, 60000));
    }
  }
  for (std::thread& each : threads) each.join();
}

}  // namespace
}  // namespace nd::transport
