#include "transport/memory/copy_workers.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::transport {

absl::StatusOr<std::shared_ptr<CopyWorkers>> CopyWorkers::Create(
    const Options& options) {
  if (options.chunk_bytes == 0) {
    return absl::InvalidArgumentError("chunk_bytes: 0");
  }
  std::shared_ptr<CopyWorkers> workers(new CopyWorkers(options));
  ND_RETURN_IF_ERROR(workers->Start());
  return workers;
}

absl::Status CopyWorkers::Start() {
  // A thread begins with its maker's mask.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  absl::Status status;
  try {
    while (threads_.size() < options_.threads) {
      threads_.emplace_back([this] { Run(); });
    }
  } catch (const std::system_error& error) {
    status = absl::ResourceExhaustedError(
        absl::StrCat("copy worker ", threads_.size() + 1, " of ",
                     options_.threads, ": ", error.what()));
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return status;
}

// Every client keeps the workers, so nothing is queued.
std::shared_ptr<CopyWorkers> CopyWorkers::Shared() {
  static std::mutex mutex;
  static std::weak_ptr<CopyWorkers> shared;
  const std::lock_guard lock(mutex);
  std::shared_ptr<CopyWorkers> workers = shared.lock();
  if (workers != nullptr) return workers;
  auto made = Create({});
  workers = made.ok()
                ? *std::move(made)
                : std::shared_ptr<CopyWorkers>(new CopyWorkers({.threads = 0}));
  shared = workers;
  return workers;
}

CopyWorkers::~CopyWorkers() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    assert(queued_ == 0);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void CopyWorkers::Run() {
  pthread_setname_np(pthread_self(), "nd-copy");
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || queued_ > 0; });
    if (stopping_) return;
    const Chunk chunk = ClaimChunk();
    lock.unlock();
    Copy(chunk);
    lock.lock();
  }
}

bool CopyWorkers::Submit(CopyJob& job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (queued_ == options_.max_jobs) return false;
    (queued_ == 0 ? oldest_ : newest_->next_) = &job;
    newest_ = &job;
    ++queued_;
  }
  // The job may be done by now: what it says is no longer ours to read.
  changed_.notify_all();
  return true;
}

CopyWorkers::Chunk CopyWorkers::ClaimChunk() {
  CopyJob& job = *oldest_;
  const size_t offset = job.claimed_;
  const size_t size = std::min(options_.chunk_bytes, job.from_.size() - offset);
  job.claimed_ += size;
  if (job.claimed_ == job.from_.size()) {
    oldest_ = job.next_;
    --queued_;
  }
  return {&job, offset, size};
}

void CopyWorkers::Copy(const Chunk& chunk) {
  CopyJob& job = *chunk.job;
  std::memcpy(job.to_ + chunk.offset, job.from_.data() + chunk.offset,
              chunk.size);
  // Who does the last of it has seen what the others did, and tells the client.
  if (job.left_.fetch_sub(chunk.size, std::memory_order_acq_rel) ==
      chunk.size) {
    job.client_->Finish(job);
  }
}

bool CopyWorkers::Help() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (queued_ == 0) return false;
  const Chunk chunk = ClaimChunk();
  lock.unlock();
  Copy(chunk);
  return true;
}

CopyClient::CopyClient(std::shared_ptr<CopyWorkers> workers, size_t max_jobs,
                       std::function<void()> wake)
    : workers_(std::move(workers)),
      max_jobs_(max_jobs),
      wake_(std::move(wake)),
      done_(max_jobs) {}

CopyClient::~CopyClient() {
  while (with_workers_.load(std::memory_order_acquire) != 0) {
    if (!workers_->Help()) std::this_thread::yield();
  }
}

bool CopyClient::Copy(CopyJob& job, std::span<const std::byte> from,
                      std::byte* to) {
  const CopyWorkers::Options& options = workers_->options_;
  const bool here = options.threads == 0 || outstanding_ == max_jobs_ ||
                    from.size() < options.least_bytes || from.empty();
  if (!here) {
    job.from_ = from;
    job.to_ = to;
    job.claimed_ = 0;
    job.next_ = nullptr;
    job.left_.store(from.size(), std::memory_order_relaxed);
    job.client_ = this;
    with_workers_.fetch_add(1, std::memory_order_relaxed);
    if (workers_->Submit(job)) {
      ++outstanding_;
      ++statistics_.handed_over;
      return false;
    }
    with_workers_.fetch_sub(1, std::memory_order_relaxed);
  }
  if (!from.empty()) std::memcpy(to, from.data(), from.size());
  ++statistics_.copied_here;
  return true;
}

// The client's destructor waits for the last line: nothing comes after it.
void CopyClient::Finish(CopyJob& job) {
  // There is a place for each job that is out.
  [[maybe_unused]] const bool pushed = done_.TryPush(&job);
  assert(pushed);
  wake_();
  with_workers_.fetch_sub(1, std::memory_order_release);
}

size_t CopyClient::Poll(absl::FunctionRef<void(CopyJob&)> done) {
  size_t count = 0;
  while (const auto job = done_.TryPop()) {
    ++count;
    --outstanding_;
    done(**job);
  }
  return count;
}

}  // namespace nd::transport
