#include "soft/net/udp_sender.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "soft/wire/icrc.h"

namespace nd::soft {
namespace {

// Source ports say which way packets take (IBA annex A17, 17.9.1).
constexpr uint16_t kFirstPort = 0xc000;
constexpr uint16_t kPortsThere = 0x4000;
constexpr int kPortTries = 64;

// Of datagrams that go as one: less than IP allows, with all headers. The
// kernel's own bound on their number, 64, is that of the queue.
constexpr size_t kMaxTrainBytes = 65000;
static_assert(UdpSender::kQueueLength <= 64);

constexpr int kBufferBytes = 4 << 20;

// Adds control messages to a buffer.
class ControlWriter {
 public:
  ControlWriter(std::byte* buffer, size_t size) : at_(buffer), left_(size) {}

  template <typename T>
  size_t Add(int level, int type, const T& value) {
    if (CMSG_SPACE(sizeof(T)) > left_) return 0;
    cmsghdr header{};
    header.cmsg_level = level;
    header.cmsg_type = type;
    header.cmsg_len = CMSG_LEN(sizeof(T));
    std::memcpy(at_, &header, sizeof(header));
    std::memcpy(at_ + CMSG_LEN(0), &value, sizeof(T));
    at_ += CMSG_SPACE(sizeof(T));
    left_ -= CMSG_SPACE(sizeof(T));
    return CMSG_SPACE(sizeof(T));
  }

 private:
  std::byte* at_;
  size_t left_;
};

// The host's own processes have what is for groups already.
bool Prepare(int fd, IpFamily family) {
  SetBuffer(fd, SO_SNDBUF, SO_SNDBUFFORCE, kBufferBytes);
  // With PROBE the IPv4 identification is 0, which the ICRC counts on.
  if (family == IpFamily::kIpv4) {
    return SetOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE) &&
           SetOption(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
  }
  return SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) &&
         SetOption(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0) &&
         SetOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
}

}  // namespace

absl::StatusOr<UdpSender::Socket> UdpSender::OpenSocket(IpFamily family,
                                                        Random& random) {
  Fd fd(socket(SocketFamily(family), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
               0));
  if (!fd.valid()) return ErrnoStatus(errno, "UDP socket to send from");
  if (!Prepare(fd.get(), family)) {
    return ErrnoStatus(errno, "UDP socket to send from: options");
  }
  for (int i = 0; i < kPortTries; ++i) {
    const auto port =
        static_cast<uint16_t>(kFirstPort + random.Below(kPortsThere));
    const SocketAddress address =
        ToSocketAddress(family == IpFamily::kIpv4 ? kAnyIpv4 : kAnyIpv6, port);
    if (bind(fd.get(), address.get(), address.length) == 0) {
      return Socket{.fd = OwnFd(std::move(fd)), .port = port};
    }
    if (errno != EADDRINUSE) {
      return ErrnoStatus(errno, absl::StrCat("bind to UDP port ", port));
    }
  }
  return absl::ResourceExhaustedError("no free UDP port from 0xc000 on");
}

absl::StatusOr<UdpSender> UdpSender::Open(IpFamily family,
                                          uint16_t destination_port,
                                          Random& random) {
  std::vector<Socket> sockets;
  for (size_t i = 0; i < kPorts; ++i) {
    auto socket = OpenSocket(family, random);
    if (!socket.ok() && sockets.empty()) return socket.status();
    if (!socket.ok()) break;
    sockets.push_back(*std::move(socket));
  }
  return UdpSender(std::move(sockets), family, destination_port);
}

UdpSender::UdpSender(std::vector<Socket> sockets, IpFamily family,
                     uint16_t destination_port)
    : sockets_(std::move(sockets)),
      family_(family),
      destination_port_(destination_port),
      queue_(kQueueLength) {}

void UdpSender::Send(const Path& path, uint32_t interface, uint32_t flow,
                     const PacketSource& packet) {
  Datagram& datagram = At(count_);
  ++count_;
  datagram.socket = uint64_t{flow} * sockets_.size() >> 32;
  packet.CopyTo(std::span(datagram.bytes).first(packet.size()));
  datagram.headers = {.source = path.source,
                      .destination = path.destination,
                      .source_port = sockets_[datagram.socket].port,
                      .destination_port = destination_port_};
  datagram.size = packet.size() + kIcrcBytes;
  datagram.destination =
      ToSocketAddress(path.destination, destination_port_, interface);
  WriteControl(path, interface, datagram);
}

void UdpSender::WriteControl(const Path& path, uint32_t interface,
                             Datagram& datagram) const {
  // The kernel refuses a hop limit of 0.
  const int hop_limit = std::max<int>(path.hop_limit, 1);
  const int traffic_class = path.traffic_class;
  datagram.control = {};
  ControlWriter writer(datagram.control.data(), datagram.control.size());
  if (family_ == IpFamily::kIpv4) {
    in_pktinfo source{};
    source.ipi_ifindex = static_cast<int>(interface);
    source.ipi_spec_dst = ToInAddr(path.source);
    datagram.control_size = writer.Add(IPPROTO_IP, IP_PKTINFO, source) +
                            writer.Add(IPPROTO_IP, IP_TTL, hop_limit) +
                            writer.Add(IPPROTO_IP, IP_TOS, traffic_class);
  } else {
    in6_pktinfo source{};
    source.ipi6_addr = ToIn6Addr(path.source);
    source.ipi6_ifindex = interface;
    datagram.control_size =
        writer.Add(IPPROTO_IPV6, IPV6_PKTINFO, source) +
        writer.Add(IPPROTO_IPV6, IPV6_HOPLIMIT, hop_limit) +
        writer.Add(IPPROTO_IPV6, IPV6_TCLASS, traffic_class);
  }
}

// How many datagrams, from the first on, leave by the same socket.
size_t UdpSender::BatchSize() {
  size_t size = 1;
  while (size < count_ && At(size).socket == At(0).socket) ++size;
  return size;
}

bool UdpSender::GoesAlike(const Datagram& a, const Datagram& b) {
  return a.destination.length == b.destination.length &&
         a.control_size == b.control_size &&
         std::memcmp(&a.destination.storage, &b.destination.storage,
                     a.destination.length) == 0 &&
         std::memcmp(a.control.data(), b.control.data(), a.control_size) == 0;
}

// Datagrams from `begin` on that the kernel may take as one and cut up again:
// alike, but for a last one that is shorter.
size_t UdpSender::TrainSize(size_t begin, size_t end) {
  const Datagram& first = At(begin);
  size_t size = 1;
  size_t bytes = first.size;
  for (; trains_ && begin + size < end; ++size) {
    const Datagram& next = At(begin + size);
    bytes += next.size;
    if (At(begin + size - 1).size != first.size || next.size > first.size ||
        bytes > kMaxTrainBytes || !GoesAlike(first, next)) {
      break;
    }
  }
  return size;
}

// The kernel numbers the pieces of a train in the identification of IPv4, which
// the ICRC covers.
void UdpSender::Seal(Datagram& datagram, size_t place_in_train) const {
  datagram.headers.identification =
      family_ == IpFamily::kIpv4 ? static_cast<uint16_t>(place_in_train) : 0;
  const std::span bytes(datagram.bytes);
  const size_t size = datagram.size - kIcrcBytes;
  StoreIcrc(Icrc(datagram.headers, bytes.first(size)),
            bytes.subspan(size).first<kIcrcBytes>());
}

// `size` datagrams from the first on, of one socket; how many were sent, or -1
// and errno.
int UdpSender::SendBatch(size_t size) {
  std::array<mmsghdr, kQueueLength> messages{};
  std::array<iovec, kQueueLength> pieces;
  std::array<size_t, kQueueLength> ends;  // of the messages' datagrams
  unsigned count = 0;
  for (size_t i = 0; i < size; ++count) {
    Datagram& datagram = At(i);
    msghdr& header = messages[count].msg_hdr;
    header.msg_name = datagram.destination.get();
    header.msg_namelen = datagram.destination.length;
    header.msg_iov = &pieces[i];
    header.msg_iovlen = TrainSize(i, size);
    header.msg_control = datagram.control.data();
    header.msg_controllen = datagram.control_size;
    if (header.msg_iovlen > 1) {
      ControlWriter writer(datagram.control.data() + datagram.control_size,
                           datagram.control.size() - datagram.control_size);
      header.msg_controllen += writer.Add(SOL_UDP, UDP_SEGMENT,
                                          static_cast<uint16_t>(datagram.size));
    }
    for (const size_t begin = i; i < begin + header.msg_iovlen; ++i) {
      Seal(At(i), i - begin);
      pieces[i] = {.iov_base = At(i).bytes.data(), .iov_len = At(i).size};
    }
    ends[count] = i;
  }
  const int sent = sendmmsg(sockets_[At(0).socket].fd.get(), messages.data(),
                            count, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent <= 0) return sent;
  return static_cast<int>(ends[static_cast<size_t>(sent) - 1]);
}

std::optional<int> UdpSender::Flush(NetCounters& counters) {
  while (count_ > 0) {
    const int sent = SendBatch(BatchSize());
    size_t done = sent < 0 ? 0 : static_cast<size_t>(sent);
    if (sent < 0) {
      if (errno == EAGAIN || errno == ENOBUFS) {
        return sockets_[At(0).socket].fd.get();
      }
      if (errno == EINTR) continue;
      if (TrainSize(0, BatchSize()) > 1) {
        trains_ = false;
        continue;
      }
      // What the kernel will not take is lost, as on a wire.
      ++counters.dropped_send_failed;
      done = 1;
    }
    first_ = (first_ + done) % kQueueLength;
    count_ -= done;
  }
  return std::nullopt;
}

void UdpSender::Drain() const {
  constexpr int kAtATime = 16;
  std::byte thrown_away;
  for (const Socket& socket : sockets_) {
    for (int i = 0; i < kAtATime; ++i) {
      if (recv(socket.fd.get(), &thrown_away, 1, MSG_DONTWAIT | MSG_TRUNC) <
              0 &&
          errno == EAGAIN) {
        break;
      }
    }
  }
}

}  // namespace nd::soft
