#include "soft/net/wire_port.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "soft/net/frame.h"
#include "soft/wire/icrc.h"

// linux/udp.h, which cannot stand beside netinet/udp.h.
#ifndef UDP_NO_CHECK6_RX
#define UDP_NO_CHECK6_RX 102
#endif

namespace nd::soft {
namespace {

constexpr size_t kBatch = 4;
// Datagrams of one flow come joined where the kernel can: up to a packet of IP.
constexpr size_t kJoinedBytes = size_t{1} << 16;
constexpr int kBufferBytes = 8 << 20;

bool Prepare(int fd, IpFamily family) {
  SetBuffer(fd, SO_RCVBUF, SO_RCVBUFFORCE, kBufferBytes);
  (void)SetOption(fd, IPPROTO_UDP, UDP_GRO, 1);  // it is not everywhere
  if (family == IpFamily::kIpv4) {
    return SetOption(fd, IPPROTO_IP, IP_PKTINFO, 1) &&
           SetOption(fd, IPPROTO_IP, IP_RECVTOS, 1) &&
           SetOption(fd, IPPROTO_IP, IP_RECVTTL, 1);
  }
  // The kernel's rxe sends no UDP checksum, which IPv6 by itself forbids.
  return SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) &&
         SetOption(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1) &&
         SetOption(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) &&
         SetOption(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1) &&
         SetOption(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
}

template <typename T>
T DataOf(const cmsghdr* control) {
  T value{};
  const size_t there = control->cmsg_len - CMSG_LEN(0);
  std::memcpy(&value, CMSG_DATA(control), std::min(sizeof(value), there));
  return value;
}

// Fills in what the control messages tell. False: not even the destination.
bool ReadControl(msghdr& header, Path& path, size_t& datagram_bytes) {
  bool found = false;
  for (cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr;
       control = CMSG_NXTHDR(&header, control)) {
    if (control->cmsg_level == IPPROTO_IP) {
      if (control->cmsg_type == IP_PKTINFO) {
        path.destination = ToGid(DataOf<in_pktinfo>(control).ipi_addr);
        found = true;
      } else if (control->cmsg_type == IP_TOS) {
        path.traffic_class = DataOf<uint8_t>(control);
      } else if (control->cmsg_type == IP_TTL) {
        path.hop_limit = static_cast<uint8_t>(DataOf<int>(control));
      }
    } else if (control->cmsg_level == IPPROTO_IPV6) {
      if (control->cmsg_type == IPV6_PKTINFO) {
        path.destination = ToGid(DataOf<in6_pktinfo>(control).ipi6_addr);
        found = true;
      } else if (control->cmsg_type == IPV6_TCLASS) {
        path.traffic_class = static_cast<uint8_t>(DataOf<int>(control));
      } else if (control->cmsg_type == IPV6_HOPLIMIT) {
        path.hop_limit = static_cast<uint8_t>(DataOf<int>(control));
      }
    } else if (control->cmsg_level == SOL_UDP &&
               control->cmsg_type == UDP_GRO) {
      datagram_bytes = static_cast<size_t>(DataOf<int>(control));
    }
  }
  return found;
}

}  // namespace

struct WirePort::Batch {
  struct Datagram {
    alignas(cmsghdr) std::array<std::byte, 128> control;
    SocketAddress source;
    std::array<std::byte, kJoinedBytes> bytes;
  };

  // Makes everything ready to be received into.
  void Prepare() {
    for (size_t i = 0; i < kBatch; ++i) {
      Datagram& datagram = datagrams[i];
      pieces[i] = {.iov_base = datagram.bytes.data(),
                   .iov_len = datagram.bytes.size()};
      msghdr& header = messages[i].msg_hdr;
      header = {};
      header.msg_name = datagram.source.get();
      header.msg_namelen = sizeof(datagram.source.storage);
      header.msg_iov = &pieces[i];
      header.msg_iovlen = 1;
      header.msg_control = datagram.control.data();
      header.msg_controllen = datagram.control.size();
    }
  }

  std::array<Datagram, kBatch> datagrams;
  std::array<iovec, kBatch> pieces;
  std::array<mmsghdr, kBatch> messages;
};

WirePort::WirePort(const Gid& address, uint16_t port)
    : address_(address), port_(port) {}
WirePort::WirePort(WirePort&&) noexcept = default;
WirePort::~WirePort() = default;

absl::Status WirePort::Hold() {
  if (held()) return absl::OkStatus();
  const IpFamily family = FamilyOf(address_);
  Fd fd(socket(SocketFamily(family), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
               0));
  if (!fd.valid()) return ErrnoStatus(errno, "UDP socket to receive from");
  if (!Prepare(fd.get(), family)) {
    return ErrnoStatus(errno, "UDP socket to receive from: options");
  }
  const SocketAddress address = ToSocketAddress(address_, port_);
  if (bind(fd.get(), address.get(), address.length) != 0) {
    if (errno == EADDRINUSE) {
      return absl::AlreadyExistsError(
          absl::StrCat("UDP port ", port_, " is another process's"));
    }
    return ErrnoStatus(errno, absl::StrCat("bind to UDP port ", port_));
  }
  fd_ = OwnFd(std::move(fd));
  batch_ = std::make_unique<Batch>();
  return absl::OkStatus();
}

size_t WirePort::Receive(size_t budget, NetCounters& counters, WireSink sink) {
  if (!held()) return 0;
  batch_->Prepare();
  const size_t size = std::min(budget, kBatch);
  const int count =
      recvmmsg(fd_.get(), batch_->messages.data(), static_cast<unsigned>(size),
               MSG_DONTWAIT, nullptr);
  if (count <= 0) return 0;
  size_t received = 0;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    mmsghdr& message = batch_->messages[i];
    const Batch::Datagram& datagram = batch_->datagrams[i];
    Path path{.source = GidOf(datagram.source)};
    size_t each = message.msg_len;
    if (!ReadControl(message.msg_hdr, path, each) || each == 0 ||
        (message.msg_hdr.msg_flags & MSG_TRUNC) != 0) {
      ++received;
      ++counters.dropped_malformed;
      continue;
    }
    const NetHeaders headers{.source = path.source,
                             .destination = path.destination,
                             .source_port = PortOf(datagram.source),
                             .destination_port = port_};
    auto rest = std::span(datagram.bytes).first(message.msg_len);
    for (; !rest.empty(); ++received) {
      const auto bytes = rest.first(std::min(each, rest.size()));
      rest = rest.subspan(bytes.size());
      OnDatagram(headers, path, bytes, counters, sink);
    }
  }
  return received;
}

void WirePort::OnDatagram(const NetHeaders& headers, const Path& path,
                          std::span<const std::byte> bytes,
                          NetCounters& counters, WireSink sink) {
  const Sealed sealed = Unseal(bytes);
  if (sealed.packet.empty() || sealed.packet.size() > kMaxPacketBytes) {
    ++counters.dropped_malformed;
  } else if (!IcrcMatches(headers, sealed)) {
    ++counters.dropped_bad_icrc;
  } else {
    sink(path, sealed.packet);
  }
}

}  // namespace nd::soft
