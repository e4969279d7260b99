#include "soft/net/shared_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::soft {
namespace {

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

}  // namespace

absl::StatusOr<SharedMemory> SharedMemory::Map(Fd fd, size_t bytes) {
  void* const start =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (start == MAP_FAILED) {
    return ErrnoStatus(errno, absl::StrCat("mmap ", bytes, " shared bytes"));
  }
  return SharedMemory(std::move(fd), {static_cast<std::byte*>(start), bytes});
}

absl::StatusOr<SharedMemory> SharedMemory::Create(size_t bytes) {
  Fd fd(memfd_create("nd-soft", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return ErrnoStatus(errno, "memfd_create");
  if (ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return ErrnoStatus(errno, absl::StrCat("memfd of ", bytes, " bytes"));
  }
  if (fcntl(fd.get(), F_ADD_SEALS, kSizeSeals) != 0) {
    return ErrnoStatus(errno, "seal memfd");
  }
  return Map(std::move(fd), bytes);
}

absl::StatusOr<SharedMemory> SharedMemory::Adopt(Fd fd, size_t max_bytes) {
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0) return ErrnoStatus(errno, "seals of a peer's memory");
  if ((seals & kSizeSeals) != kSizeSeals) {
    return absl::PermissionDeniedError("a peer's memory can change its size");
  }
  // One of huge pages can run out of them when it is touched.
  struct statfs system;
  if (fstatfs(fd.get(), &system) != 0) {
    return ErrnoStatus(errno, "file system of a peer's memory");
  }
  if (system.f_type != TMPFS_MAGIC) {
    return absl::PermissionDeniedError("a peer's memory is no plain memory");
  }
  struct stat status;
  if (fstat(fd.get(), &status) != 0) {
    return ErrnoStatus(errno, "size of a peer's memory");
  }
  if (status.st_size <= 0 || static_cast<size_t>(status.st_size) > max_bytes) {
    return absl::OutOfRangeError(
        absl::StrCat("a peer's memory has ", status.st_size, " bytes"));
  }
  return Map(std::move(fd), static_cast<size_t>(status.st_size));
}

SharedMemory::~SharedMemory() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

}  // namespace nd::soft
