#include "soft/abi/cm_device.h"

#include <endian.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <memory>
#include <span>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/lock.h"
#include "soft/abi/hooks_off.h"
#include "soft/abi/objects.h"
#include "soft/abi/process.h"
#include "soft/abi/service_ports.h"
#include "soft/abi/ucma.h"
#include "soft/device/event_queue.h"

namespace nd::soft {
namespace {

// Tells eventfds apart; their inode is one for all. 0: this kernel does not
// say, and the number has to do.
uint64_t EventFdId(int fd) {
  const HooksOff off;
  char path[64];
  std::snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path, "re"),
                                                   std::fclose);
  if (file == nullptr) return 0;
  char line[128];
  uint64_t id = 0;
  while (std::fgets(line, sizeof(line), file.get()) != nullptr) {
    if (std::sscanf(line, "eventfd-id: %" SCNu64, &id) == 1) return id + 1;
  }
  return 0;
}

// rdma_cm of this process: what Ucma needs of the device, under the device's
// lock, and the descriptors of its files. Any thread.
class CmFiles final : private UcmaHost {
 public:
  explicit CmFiles(SoftProcess& process)
      : device_(process.device()),
        ports_(Locked().network(), process.random()),
        ucma_(*this) {
    Holding lock(device_.mutex());
    device_.set_cm_events(
        [this](const CmEvent& event) { ucma_.OnEvent(event); });
    device_.set_on_removal([this] { ucma_.OnDeviceRemoval(); });
  }

  Lock& mutex() { return device_.mutex(); }

  absl::StatusOr<int> Open(int flags) {
    auto event_fd = EventFd::Create();
    if (!event_fd.ok()) return event_fd.status();
    const int fd = event_fd->get();
    if ((flags & O_NONBLOCK) != 0) fcntl(fd, F_SETFL, O_NONBLOCK);
    if ((flags & O_CLOEXEC) == 0) fcntl(fd, F_SETFD, 0);
    const uint64_t id = EventFdId(fd);
    UcmaFile file{};
    {
      Holding lock(mutex());
      file = ucma_.Open();
      events_.emplace(file, *std::move(event_fd));
    }
    Holding lock(files_lock_);
    files_.insert_or_assign(fd, File{.id = id, .file = file});
    return fd;
  }

  bool Has(int fd) {
    const auto file = Find(fd);
    return file && EventFdId(fd) == file->id;
  }

  int64_t Command(int fd, std::span<const std::byte> bytes) {
    const auto file = Find(fd);
    if (!file) return -EBADF;
    Holding lock(mutex());
    return ucma_.Command(file->file, bytes);
  }

  void Duplicate(int fd, int made) {
    const auto file = Find(fd);
    if (!file) return;
    Holding lock(files_lock_);
    files_.insert_or_assign(made, *file);
  }

  // The descriptor itself is closed by whoever asked for that.
  void Close(int fd) {
    const auto file = Find(fd);
    if (!file) return;
    const std::optional<int> other = Remove(fd, *file);
    Holding lock(mutex());
    if (other) {
      if (events_.at(file->file).get() == fd) {
        events_.at(file->file).GoOnAt(*other);
      }
      return;
    }
    ucma_.Close(file->file);
    events_.at(file->file).Abandon();
    events_.erase(file->file);
  }

  // As the kernel does when a process ends: its connections end too, and their
  // peers are told. Where the lock is not to be had, perhaps since exit is
  // called by a signal's handler that interrupted its holder, they are not.
  void CloseAllAtExit() {
    constexpr int kTries = 100;
    constexpr timespec kPause{.tv_sec = 0, .tv_nsec = 1'000'000};
    for (int i = 0; i < kTries; ++i, nanosleep(&kPause, nullptr)) {
      if (!mutex().TryAcquire()) continue;
      for (const auto& [file, event_fd] : events_) ucma_.Close(file);
      mutex().Release();
      return;
    }
  }

 private:
  struct File {
    uint64_t id = 0;
    UcmaFile file{};
  };

  std::optional<File> Find(int fd) {
    Holding lock(files_lock_);
    const auto found = files_.find(fd);
    if (found == files_.end()) return std::nullopt;
    return found->second;
  }

  // Another descriptor of the file, if one is open; forgets those that are not.
  std::optional<int> Remove(int fd, const File& file) {
    Holding lock(files_lock_);
    files_.erase(fd);
    std::optional<int> other;
    absl::erase_if(files_, [&](const auto& entry) {
      if (entry.second.file != file.file) return false;
      const bool gone = EventFdId(entry.first) != file.id;
      if (!gone) other = entry.first;
      return gone;
    });
    return other;
  }

  // Whoever calls this holds the lock, or is alone still.
  Device& Locked() ABSL_NO_THREAD_SAFETY_ANALYSIS { return device_; }

  CmManager& manager() override ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return device_.cm();
  }
  Instant Now() const override { return device_.clock().Now(); }
  uint64_t node_guid() const override { return htobe64(device_.host()->guid); }
  uint32_t device_index() const override { return kDeviceIndex; }
  uint8_t path_mtu() const override { return device_.active_mtu(); }

  absl::StatusOr<Gid> SourceFor(const Gid& destination) override {
    if (device_.IsLocal(destination)) return destination;
    auto source = SourceAddressFor(destination);
    if (source.ok() && !device_.IsLocal(*source)) {
      return absl::UnavailableError("the address is new to the device");
    }
    return source;
  }
  bool IsLocal(const Gid& address) override { return device_.IsLocal(address); }
  int GidIndex(const Gid& address) override {
    return device_.GidIndex(address).value_or(-1);
  }

  absl::StatusOr<PortTable::Bound> BindPort(const PortTable::Binding& binding,
                                            bool announced) override {
    return ports_.Bind(binding, announced);
  }
  absl::Status ListenOnPort(PortClaim claim) override {
    return ports_.Listen(claim);
  }
  void ReleasePort(PortClaim claim) override { ports_.Release(claim); }

  void Deliver(const CmOutput& output) override ABSL_NO_THREAD_SAFETY_ANALYSIS {
    device_.Deliver(output);
  }

  // No other thread takes from the count: what is there can be read at once.
  void EventsChanged(UcmaFile file, int count) override {
    EventFd& events = events_.at(file);
    if (count > 0) events.Add(static_cast<size_t>(count));
    for (; count < 0; ++count) events.TakeBack();
  }

  Device& device_;
  ServicePorts ports_;
  Ucma ucma_;
  absl::flat_hash_map<UcmaFile, EventFd> events_;
  // By descriptor. The hooks ask whether one is ours while the device's lock is
  // held: this one is never kept.
  Lock files_lock_;
  absl::flat_hash_map<int, File> files_ ABSL_GUARDED_BY(files_lock_);
};

std::atomic<CmFiles*> g_files{nullptr};
std::atomic<SoftProcess*> g_owner{nullptr};

// Of the process as it is now: a child of fork has none before it opens one.
CmFiles* Files() {
  return g_owner.load() == SoftProcess::Current() ? g_files.load() : nullptr;
}

// After all of the program's own that runs at its exit.
[[gnu::destructor]] void CloseFilesAtExit() {
  if (CmFiles* const files = Files()) files->CloseAllAtExit();
}

absl::StatusOr<CmFiles*> BeginFiles() {
  static Lock mutex;
  auto process = SoftProcess::Get();
  if (!process.ok()) return process.status();
  Holding lock(mutex);
  if (g_owner.load() != *process) {
    g_files.store(new CmFiles(**process));
    g_owner.store(*process);
  }
  return g_files.load();
}

}  // namespace

int OpenCmDevice(int flags) {
  const auto files = BeginFiles();
  if (!files.ok()) {
    SetErrno(files.status());
    return -1;
  }
  const auto fd = (*files)->Open(flags);
  if (!fd.ok()) {
    errno = EMFILE;
    return -1;
  }
  return *fd;
}

bool IsCmDevice(int fd) {
  CmFiles* const files = Files();
  return files != nullptr && files->Has(fd);
}

// GET_EVENT waits where the file blocks, and holds no lock meanwhile. As in the
// kernel such a wait outlasts the descriptor: who closes it under a thread that
// waits does not want to hear of that.
ssize_t WriteCmDevice(int fd, const void* command, size_t bytes) {
  const std::span all(static_cast<const std::byte*>(command), bytes);
  CmFiles* const files = Files();
  const bool waits =
      Ucma::IsGetEvent(all) && (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
  for (;;) {
    const int64_t result =
        files != nullptr ? files->Command(fd, all) : int64_t{-EBADF};
    if (result >= 0) return result;
    const bool closed = result == -EBADF;
    if (!waits || (result != -EAGAIN && !closed)) {
      errno = static_cast<int>(-result);
      return -1;
    }
    pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&wait, closed ? 0 : 1, -1) < 0) return -1;
  }
}

void DuplicateCmDevice(int fd, int made) {
  if (CmFiles* const files = Files()) files->Duplicate(fd, made);
}

void CloseCmDevice(int fd) {
  if (CmFiles* const files = Files()) files->Close(fd);
}

}  // namespace nd::soft
