#include "soft/net/link.h"

#include <sys/socket.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::soft {

void Bell::Ring() const {
  const std::byte ring{};
  (void)send(fd_.get(), &ring, sizeof(ring), MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool Bell::Silence() const {
  std::array<std::byte, 64> rung;
  const ssize_t size = recv(fd_.get(), rung.data(), rung.size(), MSG_DONTWAIT);
  return size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR));
}

OutboundLink::OutboundLink(SharedMemory memory, Fd near_end, Fd far_end)
    : memory_(std::move(memory)),
      ring_(memory_.bytes()),
      bell_(std::move(near_end)),
      far_end_(std::move(far_end)) {}

absl::StatusOr<OutboundLink> OutboundLink::Create(size_t ring_bytes) {
  ND_ASSIGN_OR_RETURN(SharedMemory memory,
                      SharedMemory::Create(kRingControlBytes + ring_bytes));
  std::array<int, 2> ends;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                 ends.data()) != 0) {
    return ErrnoStatus(errno, "socket pair of a link");
  }
  return OutboundLink(std::move(memory), Fd(ends[0]), Fd(ends[1]));
}

void OutboundLink::CloseOffer() {
  memory_.CloseFd();
  far_end_ = Fd();
}

InboundLink::InboundLink(SharedMemory memory, Fd socket)
    : memory_(std::move(memory)),
      ring_(memory_.bytes()),
      bell_(std::move(socket)) {}

absl::StatusOr<InboundLink> InboundLink::Adopt(std::array<Fd, 2> offer) {
  if (!offer[0].valid() || !offer[1].valid()) {
    return absl::InvalidArgumentError("a link without its descriptors");
  }
  ND_ASSIGN_OR_RETURN(SharedMemory memory,
                      SharedMemory::Adopt(std::move(offer[0]),
                                          kRingControlBytes + kMaxRingBytes));
  if (!IsRingSize(memory.bytes().size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a ring of ", memory.bytes().size(), " bytes: no power of two"));
  }
  memory.CloseFd();
  return InboundLink(std::move(memory), std::move(offer[1]));
}

}  // namespace nd::soft
