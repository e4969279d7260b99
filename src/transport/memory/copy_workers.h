// Threads that copy while the wire works.
#ifndef ND_TRANSPORT_MEMORY_COPY_WORKERS_H_
#define ND_TRANSPORT_MEMORY_COPY_WORKERS_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/mpsc_ring.h"

namespace nd::transport {

class CopyClient;

// A copy that workers have, and whatever a derived class adds. It stays where
// it is, and the memory with it, until CopyClient::Poll has handed it back;
// then it can be used again.
class CopyJob {
 public:
  CopyJob() = default;
  CopyJob(const CopyJob&) = delete;
  CopyJob& operator=(const CopyJob&) = delete;

 private:
  friend class CopyClient;
  friend class CopyWorkers;

  std::span<const std::byte> from_{};
  std::byte* to_ = nullptr;
  size_t claimed_ = 0;           // bytes of chunks that are done or being done
  CopyJob* next_ = nullptr;      // in the queue
  std::atomic<size_t> left_{0};  // bytes that are not yet done
  CopyClient* client_ = nullptr;
};

// The threads, for all reactors of a process. A job is cut into chunks, which
// the threads take from the oldest job: several copy one job at a time, and who
// wants the first bytes of a message to go out while the others are copied
// makes a job of each piece.
//
// Thread-safe. The threads run no signal handlers.
class CopyWorkers {
 public:
  struct Options {
    size_t threads = 2;  // 0: all is copied by who asks
    // Less than this is copied by who asks: it costs less than handing it over.
    size_t least_bytes = size_t{256} << 10;
    size_t chunk_bytes = size_t{128} << 10;  // > 0
    size_t max_jobs = 1024;  // that wait; more are copied by who asks
  };
  // RESOURCE_EXHAUSTED: the system has no more threads.
  static absl::StatusOr<std::shared_ptr<CopyWorkers>> Create(
      const Options& options);
  // Those of this process, made when they are first asked for; without threads
  // where the system has no more of them.
  static std::shared_ptr<CopyWorkers> Shared();
  CopyWorkers(const CopyWorkers&) = delete;
  CopyWorkers& operator=(const CopyWorkers&) = delete;
  ~CopyWorkers();

 private:
  friend class CopyClient;
  struct Chunk {
    CopyJob* job;
    size_t offset;
    size_t size;
  };

  explicit CopyWorkers(const Options& options) : options_(options) {}
  absl::Status Start();
  bool Submit(CopyJob& job);  // false if there is no room
  void Run();
  Chunk ClaimChunk();  // with mutex_ held, of a queue with something in it
  static void Copy(const Chunk& chunk);
  bool Help();  // copies a chunk; false if there is none

  const Options options_;
  // Not absl's: ThreadSanitizer does not see its waits.
  std::mutex mutex_;
  std::condition_variable changed_;
  // Under mutex_.
  bool stopping_ = false;
  size_t queued_ = 0;  // jobs with chunks that nobody has claimed
  CopyJob* oldest_ = nullptr;
  CopyJob* newest_ = nullptr;
  std::vector<std::thread> threads_;
};

// A reactor's way to the workers. One thread's, but for what the workers do
// inside: `wake` is called by them, when a job is there for Poll.
class CopyClient {
 public:
  struct Statistics {
    uint64_t copied_here = 0;  // small, or nobody had room for them
    uint64_t handed_over = 0;
  };

  // At most `max_jobs` at a time; more are copied by who asks.
  CopyClient(std::shared_ptr<CopyWorkers> workers, size_t max_jobs,
             std::function<void()> wake);
  CopyClient(const CopyClient&) = delete;
  CopyClient& operator=(const CopyClient&) = delete;
  // Jobs that are not yet handed back are done and forgotten. That takes as
  // long as copying what was submitted.
  ~CopyClient();

  // Copies `from` to `to`, which do not overlap. True: it is done. False: it
  // will be when Poll hands `job` back.
  [[nodiscard]] bool Copy(CopyJob& job, std::span<const std::byte> from,
                          std::byte* to);

  // Calls `done` with each job that is done, in the order in which they got
  // done. Returns how many.
  size_t Poll(absl::FunctionRef<void(CopyJob&)> done);

  size_t outstanding() const { return outstanding_; }
  const Statistics& statistics() const { return statistics_; }

 private:
  friend class CopyWorkers;
  void Finish(CopyJob& job);  // by a worker

  const std::shared_ptr<CopyWorkers> workers_;
  const size_t max_jobs_;
  const std::function<void()> wake_;
  MpscRing<CopyJob*> done_;
  std::atomic<size_t> with_workers_{0};
  size_t outstanding_ = 0;  // what Poll has yet to hand back
  Statistics statistics_;
};

}  // namespace nd::transport

#endif  // ND_TRANSPORT_MEMORY_COPY_WORKERS_H_
