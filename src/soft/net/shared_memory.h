// Memory that two processes share.
#ifndef ND_SOFT_NET_SHARED_MEMORY_H_
#define ND_SOFT_NET_SHARED_MEMORY_H_

#include <cstddef>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "base/fd.h"

namespace nd::soft {

// Its size is sealed, so that no other process can take pages from under it.
class SharedMemory {
 public:
  // Zeros.
  static absl::StatusOr<SharedMemory> Create(size_t bytes);
  // Of a descriptor that another process gave us.
  static absl::StatusOr<SharedMemory> Adopt(Fd fd, size_t max_bytes);

  SharedMemory(SharedMemory&& other) noexcept
      : fd_(std::move(other.fd_)), bytes_(std::exchange(other.bytes_, {})) {}
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  std::span<std::byte> bytes() const { return bytes_; }
  int fd() const { return fd_.get(); }
  // The memory stays.
  void CloseFd() { fd_ = Fd(); }

 private:
  SharedMemory(Fd fd, std::span<std::byte> bytes)
      : fd_(std::move(fd)), bytes_(bytes) {}
  static absl::StatusOr<SharedMemory> Map(Fd fd, size_t bytes);

  Fd fd_;
  std::span<std::byte> bytes_;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_SHARED_MEMORY_H_
