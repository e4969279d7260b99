#include "transport/memory/copy_workers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/allocations.h"
#include "base/random.h"
#include "base/until_true.h"

namespace nd::transport {
namespace {

std::shared_ptr<CopyWorkers> Make(const CopyWorkers::Options& options) {
  auto workers = CopyWorkers::Create(options);
  if (!workers.ok()) ADD_FAILURE() << workers.status();
  return *workers;
}

std::vector<std::byte> Pattern(size_t size, uint64_t seed) {
  std::vector<std::byte> bytes(size);
  SeededRandom(seed).Fill(bytes);
  return bytes;
}

// Polls until so many jobs were handed back.
std::vector<CopyJob*> PollFor(CopyClient& client, size_t count) {
  std::vector<CopyJob*> done;
  EXPECT_TRUE(UntilTrue([&] {
                client.Poll([&](CopyJob& job) { done.push_back(&job); });
                return done.size() >= count;
              }).ok());
  return done;
}

class CopyOfSize : public ::testing::TestWithParam<size_t> {};

TEST_P(CopyOfSize, IsRightWhoeverMakesIt) {
  for (const size_t threads : {0, 1, 3}) {
    for (const size_t chunk_bytes : {1, 7, 4096}) {
      const auto workers = Make(
          {.threads = threads, .least_bytes = 0, .chunk_bytes = chunk_bytes});
      CopyClient client(workers, 1, [] {});
      const auto from = Pattern(GetParam(), 1);
      // Bytes around it stay what they were.
      std::vector<std::byte> to(from.size() + 2, std::byte{0xee});
      CopyJob job;
      const bool at_once = client.Copy(job, from, to.data() + 1);
      EXPECT_EQ(at_once, threads == 0 || from.empty());
      if (!at_once) {
        EXPECT_EQ(client.outstanding(), 1u);
        EXPECT_THAT(PollFor(client, 1), ::testing::ElementsAre(&job));
      }
      EXPECT_EQ(client.outstanding(), 0u);
      EXPECT_TRUE(std::equal(from.begin(), from.end(), to.begin() + 1));
      EXPECT_EQ(to.front(), std::byte{0xee});
      EXPECT_EQ(to.back(), std::byte{0xee});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(CopyWorkers, CopyOfSize,
                         ::testing::Values(0, 1, 6, 7, 8, 4095, 4096, 4097,
                                           12'289));

TEST(CopyWorkers, SmallCopiesAreNotHandedOver) {
  const auto workers = Make({.threads = 1, .least_bytes = 100});
  CopyClient client(workers, 4, [] {});
  const auto from = Pattern(100, 1);
  std::vector<std::byte> to(100);
  CopyJob small, large;
  EXPECT_TRUE(client.Copy(small, std::span(from).first(99), to.data()));
  EXPECT_EQ(client.statistics().copied_here, 1u);
  EXPECT_EQ(client.statistics().handed_over, 0u);
  EXPECT_FALSE(client.Copy(large, from, to.data()));
  EXPECT_EQ(client.statistics().handed_over, 1u);
  PollFor(client, 1);
  EXPECT_EQ(to, from);
}

// Keeps the only worker in its wake-up until it is let go.
struct HeldWorker {
  explicit HeldWorker(const CopyWorkers::Options& options)
      : workers(Make(options)), client(workers, 1, [this] {
          inside = true;
          EXPECT_TRUE(UntilTrue([this] { return go.load(); }).ok());
        }) {
    EXPECT_FALSE(client.Copy(job, from, to.data()));
    EXPECT_TRUE(UntilTrue([this] { return inside.load(); }).ok());
  }
  std::vector<std::byte> from = Pattern(1000, 9), to = Pattern(1000, 10);
  std::atomic<bool> inside{false}, go{false};
  CopyJob job;
  std::shared_ptr<CopyWorkers> workers;
  CopyClient client;
};

TEST(CopyWorkers, WhoFindsTheQueueFullCopiesItself) {
  HeldWorker held({.threads = 1, .least_bytes = 1, .max_jobs = 2});
  CopyClient client(held.workers, 100, [] {});
  const auto from = Pattern(5000, 1);
  std::vector<std::vector<std::byte>> to(3, std::vector<std::byte>(5000));
  std::vector<CopyJob> jobs(3);
  EXPECT_FALSE(client.Copy(jobs[0], from, to[0].data()));
  EXPECT_FALSE(client.Copy(jobs[1], from, to[1].data()));
  EXPECT_TRUE(client.Copy(jobs[2], from, to[2].data()));
  EXPECT_EQ(to[2], from);
  EXPECT_EQ(client.statistics().copied_here, 1u);
  EXPECT_EQ(client.outstanding(), 2u);
  EXPECT_EQ(client.Poll([](CopyJob&) {}), 0u);
  held.go = true;
  EXPECT_THAT(PollFor(client, 2), ::testing::ElementsAre(&jobs[0], &jobs[1]));
  EXPECT_EQ(to[0], from);
  EXPECT_EQ(to[1], from);
}

TEST(CopyWorkers, ClientHasABoundOfItsOwn) {
  HeldWorker held({.threads = 1, .least_bytes = 1});
  CopyClient client(held.workers, 1, [] {});
  const auto from = Pattern(5000, 1);
  std::vector<std::byte> one(5000), two(5000);
  CopyJob first, second;
  EXPECT_FALSE(client.Copy(first, from, one.data()));
  EXPECT_TRUE(client.Copy(second, from, two.data()));
  EXPECT_EQ(two, from);
  held.go = true;
  PollFor(client, 1);
  EXPECT_FALSE(client.Copy(second, from, two.data())) << "there is room again";
  PollFor(client, 1);
}

TEST(CopyWorkers, ClientThatGoesDoesWhatNobodyHasBegun) {
  HeldWorker held({.threads = 1, .least_bytes = 1, .chunk_bytes = 100});
  const auto from = Pattern(5000, 1);
  std::vector<std::byte> to(5000);
  CopyJob job;
  {
    CopyClient client(held.workers, 1, [] {});
    EXPECT_FALSE(client.Copy(job, from, to.data()));
  }
  EXPECT_EQ(to, from);
  held.go = true;
}

TEST(CopyWorkers, WakeComesWhenTheJobIsThere) {
  const auto workers =
      Make({.threads = 2, .least_bytes = 1, .chunk_bytes = 64});
  std::atomic<int> woken{0};
  CopyClient client(workers, 4, [&] { ++woken; });
  const auto from = Pattern(5000, 1);
  std::vector<std::byte> to(5000);
  CopyJob job;
  for (int round = 1; round <= 100; ++round) {
    ASSERT_FALSE(client.Copy(job, from, to.data()));
    ASSERT_TRUE(UntilTrue([&] { return woken == round; }).ok());
    ASSERT_EQ(client.Poll([](CopyJob&) {}), 1u);
  }
  EXPECT_EQ(to, from);
}

TEST(CopyWorkers, HandingOverTakesNothingFromTheHeap) {
  const auto workers = Make({.threads = 1, .least_bytes = 1});
  CopyClient client(workers, 4, [] {});
  const auto from = Pattern(5000, 1);
  std::vector<std::byte> to(5000);
  CopyJob job;
  const uint64_t before = AllocationsOfThisThread();
  EXPECT_FALSE(client.Copy(job, from, to.data()));
  while (client.Poll([](CopyJob&) {}) == 0) std::this_thread::yield();
  EXPECT_EQ(AllocationsOfThisThread(), before);
}

// The signals that each thread of that name blocks, as /proc shows them.
std::vector<uint64_t> BlockedSignals(const std::string& name) {
  std::vector<uint64_t> blocked;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream status(task.path() / "status");
    bool wanted = false;
    for (std::string line; std::getline(status, line);) {
      if (line == "Name:\t" + name) wanted = true;
      if (wanted && line.starts_with("SigBlk:")) {
        blocked.push_back(std::stoull(line.substr(7), nullptr, 16));
      }
    }
  }
  return blocked;
}

TEST(CopyWorkers, ThreadsRunNoSignalHandlers) {
  const auto workers = Make({.threads = 2});
  std::vector<uint64_t> blocked;
  ASSERT_TRUE(UntilTrue([&] {
                blocked = BlockedSignals("nd-copy");
                return blocked.size() == 2;
              }).ok());
  for (const uint64_t mask : blocked) {
    for (const int signal : {SIGTERM, SIGUSR1, SIGPROF, SIGRTMAX}) {
      EXPECT_TRUE((mask >> (signal - 1) & 1) != 0) << signal;
    }
  }
  sigset_t mine;
  pthread_sigmask(SIG_SETMASK, nullptr, &mine);
  EXPECT_EQ(sigismember(&mine, SIGUSR1), 0) << "its maker's mask is changed";
}

TEST(CopyWorkers, ChunksMayNotBeOfNoBytes) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      CopyWorkers::Create({.chunk_bytes = 0}).status()));
}

TEST(CopyWorkers, ManyReactorsShareThem) {
  const auto workers = Make(
      {.threads = 3, .least_bytes = 64, .chunk_bytes = 512, .max_jobs = 6});
  std::atomic<uint64_t> handed_over{0};
  const auto reactor = [&](uint64_t seed) {
    SeededRandom random(seed);
    struct Job : CopyJob {
      std::vector<std::byte> from, to;
      bool busy = false;
    };
    std::vector<Job> jobs(4);
    CopyClient client(workers, 3, [] {});
    size_t done = 0, begun = 0;
    const auto finish = [&](CopyJob& job) {
      Job& mine = static_cast<Job&>(job);
      EXPECT_EQ(mine.to, mine.from);
      mine.busy = false;
      ++done;
    };
    for (int round = 0; round < 300; ++round) {
      Job& job = jobs[random.Below(jobs.size())];
      if (!job.busy) {
        job.from = Pattern(random.Below(6000), random.Next());
        job.to.assign(job.from.size(), std::byte{});
        job.busy = true;
        ++begun;
        if (client.Copy(job, job.from, job.to.data())) finish(job);
      }
      client.Poll(finish);
    }
    EXPECT_TRUE(UntilTrue([&] {
                  client.Poll(finish);
                  return done == begun;
                }).ok());
    EXPECT_EQ(client.outstanding(), 0u);
    handed_over += client.statistics().handed_over;
  };
  {
    std::vector<std::jthread> reactors;
    for (uint64_t seed = 0; seed < 4; ++seed) {
      reactors.emplace_back(reactor, seed);
    }
  }
  EXPECT_GT(handed_over.load(), 0u);
}

}  // namespace
}  // namespace nd::transport
