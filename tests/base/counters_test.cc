#include "base/counters.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <latch>
#include <string>
#include <thread>
#include <vector>

namespace nd {
namespace {

TEST(CounterSet, ListsCountersInTheOrderOfTheirMaking) {
  CounterSet counters;
  Counter& sent = counters.Get("sent_bytes_total", "Bytes sent.");
  counters.Get("a_total", "Nothing.");

  sent.Add(40);
  sent.Add();
  const std::vector<CounterSample> samples = counters.Read();

  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].name, "sent_bytes_total");
  EXPECT_EQ(samples[0].help, "Bytes sent.");
  EXPECT_EQ(samples[0].value, 41u);
  EXPECT_EQ(samples[1].name, "a_total");
  EXPECT_EQ(samples[1].value, 0u);
}

TEST(CounterSet, SameNameIsTheSameCounter) {
  CounterSet counters;
  Counter& first = counters.Get("sent_total", "Messages sent.");

  EXPECT_EQ(&counters.Get("sent_total", ""), &first);
  EXPECT_EQ(counters.Read().size(), 1u);
}

TEST(CounterSet, ReferencesStayValidWhileTheSetGrows) {
  CounterSet counters;
  Counter& first = counters.Get("first_total", "");
  for (int i = 0; i < 1000; ++i) counters.Get(std::to_string(i), "");

  first.Add(7);

  EXPECT_EQ(counters.Read().front().value, 7u);
}

TEST(CounterSet, LosesNoAdditionOfAnyThread) {
  constexpr int kThreads = 4;
  constexpr int kEach = 100'000;
  CounterSet counters;
  std::latch start(kThreads);
  {
    std::vector<std::jthread> threads;
    threads.reserve(kThreads);
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&counters, &start, t] {
        counters.Get("thread_" + std::to_string(t), "");
        Counter& all = counters.Get("all_total", "");
        start.arrive_and_wait();
        for (int i = 0; i < kEach; ++i) all.Add();
      });
    }
    counters.Read();
  }

  EXPECT_EQ(counters.Get("all_total", "").value(), uint64_t{kThreads} * kEach);
}

}  // namespace
}  // namespace nd
