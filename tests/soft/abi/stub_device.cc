#include "soft/abi/stub_device.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "base/environment.h"
#include "soft/abi/cm_device.h"
#include "soft/abi/soft_device.h"

namespace nd::soft {
namespace {

struct Counts {
  std::atomic<int> opened;
  std::atomic<int> written;
  std::atomic<int> closed;
};

// One page for this process and its children.
Counts& Shared() {
  static Counts* counts =
      static_cast<Counts*>(mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  return *counts;
}

std::array<std::atomic<bool>, 4096> open_fds;
std::atomic<bool> active = true;

}  // namespace

int OpenCmDevice(int flags) {
  const int fd =
      eventfd(0, EFD_SEMAPHORE | (flags & O_CLOEXEC ? EFD_CLOEXEC : 0) |
                     (flags & O_NONBLOCK ? EFD_NONBLOCK : 0));
  if (fd < 0) return -1;
  open_fds.at(fd) = true;
  ++Shared().opened;
  return fd;
}

// Uses the calls that are hooked, as a device may.
bool IsCmDevice(int fd) {
  struct stat status;
  return open_fds.at(fd) && fstat(fd, &status) == 0 && !S_ISCHR(status.st_mode);
}

ssize_t WriteCmDevice(int fd, const void* command, size_t bytes) {
  ++Shared().written;
  if (*static_cast<const char*>(command) == kRefuse) {
    errno = EINVAL;
    return -1;
  }
  const uint64_t one = 1;
  if (write(fd, &one, sizeof(one)) != sizeof(one)) return -1;
  return static_cast<ssize_t>(bytes);
}

void DuplicateCmDevice(int, int made) { open_fds.at(made) = true; }

void CloseCmDevice(int fd) {
  open_fds.at(fd) = false;
  ++Shared().closed;
}

bool SoftIsActive() {
  return active && *Environment("ND_STUB_INACTIVE") == '\0';
}

std::optional<PathFacts> CurrentPathFacts() {
  // A device may look at the kernel's tree.
  if (access("/sys/class/infiniband/nd0", F_OK) == 0) std::abort();
  PathFacts facts;
  facts.name = "nd0";
  facts.uverbs_name = "uverbs7";
  facts.node_guid = 0x0200'00ff'fe00'0001;
  facts.firmware_version = "1.2";
  facts.netdev = "lo";
  facts.gids.resize(2);
  facts.gids[0] = {.raw = {0xfe, 0x80}, .type = "RoCE v2", .netdev = "lo"};
  return facts;
}

bool IsSoftDevice(const ibv_device*) { return true; }

}  // namespace nd::soft

StubCounts stub_counts() {
  const auto& counts = nd::soft::Shared();
  return {counts.opened, counts.written, counts.closed};
}

void stub_set_active(bool value) { nd::soft::active = value; }
