#include "soft/net/unix_socket.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status.h"

namespace nd::soft {
namespace {

constexpr absl::string_view kSlotInfix = "/slot/";
constexpr absl::string_view kServiceInfix = "/service/";
constexpr absl::string_view kGroupInfix = "/group/";
constexpr absl::string_view kGroupNewsInfix = "/group-news/";

constexpr size_t kMaxFds = 2;
constexpr size_t kControlBytes =
    CMSG_SPACE(kMaxFds * sizeof(int)) + CMSG_SPACE(sizeof(ucred));

struct Address {
  sockaddr_un un{};
  socklen_t length = 0;
};

// An abstract name: a zero byte in front, none behind.
std::optional<Address> AddressOf(absl::string_view name) {
  Address address;
  if (name.size() + 1 > sizeof(address.un.sun_path)) return std::nullopt;
  address.un.sun_family = AF_UNIX;
  std::copy(name.begin(), name.end(), address.un.sun_path + 1);
  address.length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

std::string NameOf(const sockaddr_un& un, socklen_t length) {
  constexpr size_t kPath = offsetof(sockaddr_un, sun_path);
  if (length <= kPath + 1 || un.sun_path[0] != 0) return {};
  return std::string(un.sun_path + 1, length - kPath - 1);
}

std::string HexOf(const Gid& gid) {
  return absl::BytesToHexString(
      {reinterpret_cast<const char*>(gid.data()), gid.size()});
}

void TakeControl(msghdr& header, UnixMessage& message) {
  message.uid = std::numeric_limits<uid_t>::max();
  for (cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr;
       control = CMSG_NXTHDR(&header, control)) {
    if (control->cmsg_level != SOL_SOCKET) continue;
    if (control->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials;
      std::memcpy(&credentials, CMSG_DATA(control), sizeof(credentials));
      message.uid = credentials.uid;
      message.pid = credentials.pid;
    } else if (control->cmsg_type == SCM_RIGHTS) {
      const size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(fd));
        Fd owned(fd);
        if (i < kMaxFds) message.fds[i] = std::move(owned);
      }
    }
  }
}

}  // namespace

std::string HostNames::Slot(uint32_t slot) const {
  return absl::StrCat(prefix_, kSlotInfix, slot);
}

std::string HostNames::Service(const HostService& service) const {
  const Gid& address = service.address;
  std::string place;
  if (address == Gid{}) {
    place = service.ipv6_only ? "6" : "46";
  } else if (address == Mapped(Gid{})) {
    place = "4";
  } else {
    place = HexOf(address);
  }
  return absl::StrCat(prefix_, kServiceInfix, absl::Hex(service.id), "/",
                      place);
}

std::string HostNames::Group(const Gid& group, uint32_t slot) const {
  return absl::StrCat(prefix_, kGroupInfix, HexOf(group), "/", slot);
}

std::string HostNames::GroupNews(uint32_t slot) const {
  return absl::StrCat(prefix_, kGroupNewsInfix, slot);
}

std::optional<uint32_t> HostNames::SlotFrom(absl::string_view name) const {
  uint32_t slot = 0;
  if (!absl::ConsumePrefix(&name, prefix_) ||
      !absl::ConsumePrefix(&name, kSlotInfix) ||
      !absl::SimpleAtoi(name, &slot)) {
    return std::nullopt;
  }
  return slot;
}

absl::StatusOr<UnixSocket> UnixSocket::Bind(absl::string_view name) {
  const auto address = AddressOf(name);
  if (!address.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("name of a socket too long: ", name));
  }
  Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "unix datagram socket");
  const int on = 1;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0) {
    return ErrnoStatus(errno, "SO_PASSCRED");
  }
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address->un),
           address->length) != 0) {
    if (errno == EADDRINUSE) {
      return absl::AlreadyExistsError(
          absl::StrCat("another process has ", name));
    }
    return ErrnoStatus(errno, absl::StrCat("bind to ", name));
  }
  return UnixSocket(std::move(fd));
}

bool UnixSocket::Exists(absl::string_view name) {
  const auto address = AddressOf(name);
  const Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!address.has_value() || !fd.valid()) return true;
  return connect(fd.get(), reinterpret_cast<const sockaddr*>(&address->un),
                 address->length) == 0 ||
         errno != ECONNREFUSED;
}

int UnixSocket::SendTo(absl::string_view name, std::span<const std::byte> bytes,
                       std::span<const int> fds) const {
  auto address = AddressOf(name);
  if (!address.has_value()) return EINVAL;
  iovec data{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_name = &address->un;
  header.msg_namelen = address->length;
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control{};
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  return sendmsg(fd_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno
                                                                      : 0;
}

std::optional<UnixMessage> UnixSocket::Receive(
    std::span<std::byte> buffer) const {
  sockaddr_un from{};
  iovec data{buffer.data(), buffer.size()};
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control;
  msghdr header{};
  header.msg_name = &from;
  header.msg_namelen = sizeof(from);
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t size =
      recvmsg(fd_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) return std::nullopt;
  UnixMessage message;
  message.bytes = buffer.first(static_cast<size_t>(size));
  message.sender = NameOf(from, header.msg_namelen);
  TakeControl(header, message);
  // Part of it is none of it.
  if ((header.msg_flags & MSG_TRUNC) != 0) message.bytes = {};
  return message;
}

}  // namespace nd::soft
