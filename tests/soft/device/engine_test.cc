#include "soft/device/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/fake_clock.h"
#include "base/random.h"
#include "base/until_true.h"
#include "soft/device/device.h"
#include "soft/device/silent_network.h"

namespace nd::soft {
namespace {

// Stands still until it is moved, and counts how often it is read.
class CountingClock final : public Clock {
 public:
  Instant Now() const override {
    ++reads_;
    return clock_.Now();
  }
  void Advance(Duration by) { clock_.Advance(by); }
  uint64_t reads() const { return reads_; }

 private:
  FakeClock clock_;
  mutable std::atomic<uint64_t> reads_{0};
};

// Always has something: whoever takes it goes on.
class CountingNetwork final : public SilentNetwork {
 public:
  explicit CountingNetwork(std::atomic<uint64_t>& looks) : looks_(looks) {}
  size_t Receive(Instant, ArrivalSink&) override {
    ++looks_;
    return 1;
  }
  bool Rest() override { return false; }

 private:
  std::atomic<uint64_t>& looks_;
};

class EngineTest : public testing::Test {
 protected:
  EngineTest()
      : device_({}, std::make_unique<CountingNetwork>(looks_), clock_,
                random_) {}

  ~EngineTest() override { device_.DestroyCq(std::move(cq_)); }

  void Poll() {
    ibv_wc completion;
    EXPECT_EQ(device_.Poll(*cq_, {&completion, 1}), 0);
  }
  bool ClockIsRead(uint64_t times) {
    const uint64_t until = clock_.reads() + times;
    return UntilTrue([&] { return clock_.reads() >= until; }).ok();
  }
  bool LooksGoOn() {
    const uint64_t until = looks_ + 64;
    return UntilTrue([&] { return looks_ >= until; }).ok();
  }

  SystemRandom random_;
  std::atomic<uint64_t> looks_{0};
  CountingClock clock_;
  Device device_;
  std::unique_ptr<CompletionQueue> cq_ =
      device_.CreateCq(16, nullptr, nullptr).value();
};

// It had no processor between two polls.
TEST_F(EngineTest, AnApplicationThatHasPolledIsNotTakenOverBetweenItsPolls) {
  Poll();
  const uint64_t looks = looks_;
  const Engine engine(device_);
  ASSERT_TRUE(ClockIsRead(64));
  clock_.Advance(std::chrono::microseconds(5));
  ASSERT_TRUE(ClockIsRead(64));
  EXPECT_EQ(looks_, looks);
  clock_.Advance(std::chrono::milliseconds(1));
  EXPECT_TRUE(LooksGoOn());
}

TEST_F(EngineTest, AnApplicationThatArmsItsQueueIsServedFromThenOn) {
  Poll();
  const Engine engine(device_);
  ASSERT_TRUE(ClockIsRead(64));
  device_.Arm(*cq_, false);
  EXPECT_TRUE(LooksGoOn());
}

}  // namespace
}  // namespace nd::soft
