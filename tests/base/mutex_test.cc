#include "base/mutex.h"

#include <gtest/gtest.h>

#include <thread>

namespace nd {
namespace {

// Under ThreadSanitizer this also proves that the guard is understood.
TEST(MutexLock, ExcludesOtherThreads) {
  constexpr int kEach = 10'000;
  absl::Mutex mutex;
  int count = 0;
  const auto add = [&] {
    for (int i = 0; i < kEach; ++i) {
      MutexLock lock(&mutex);
      ++count;
    }
  };

  std::jthread other(add);
  add();
  other.join();

  EXPECT_EQ(count, 2 * kEach);
}

}  // namespace
}  // namespace nd
