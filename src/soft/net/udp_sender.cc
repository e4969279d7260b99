#include "soft/net/udp_sender.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"
#include "soft/rc/segments.h"
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

// A copy of less takes no longer than two more pieces for the kernel.
constexpr size_t kWorthLending = 1024;

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
      queue_(kQueueLength),
      routes_(kRoutes) {}

void UdpSender::Send(const Path& path, uint32_t interface, uint32_t flow,
                     const PacketSource& packet) {
  Datagram& datagram = At(count_);
  ++count_;
  datagram.route =
      RouteFor(path, interface, uint64_t{flow} * sockets_.size() >> 32);
  datagram.size = packet.size() + kIcrcBytes;
  const Outgoing* const outgoing = packet.outgoing();
  if (outgoing == nullptr || !Lend(*outgoing, datagram)) {
    datagram.lent_bytes = datagram.pieces = 0;
    packet.CopyTo(datagram.own());
  }
}

// False: it is to be copied.
bool UdpSender::Lend(const Outgoing& outgoing, Datagram& datagram) {
  const Slice& payload = outgoing.payload;
  if (!outgoing.lasts || payload.length < kWorthLending) return false;
  datagram.pieces = 0;
  ForEachPiece(payload, [&datagram](Segment piece) {
    if (datagram.pieces < kMostPieces) datagram.lent[datagram.pieces] = piece;
    ++datagram.pieces;
  });
  if (datagram.pieces > kMostPieces) return false;
  datagram.lent_bytes = payload.length;
  ByteWriter writer(datagram.own());
  WriteHeaders(outgoing.packet, writer);
  datagram.header_bytes = writer.written().size();
  writer.WriteZeros(outgoing.packet.bth.pad);
  return true;
}

void UdpSender::Keep() {
  for (size_t i = 0; i < count_; ++i) Keep(At(i));
}

void UdpSender::Keep(Datagram& datagram) {
  if (datagram.lent_bytes == 0) return;
  const size_t pad = datagram.own().size() - datagram.header_bytes;
  datagram.lent_bytes = 0;
  ByteWriter writer(datagram.own().subspan(datagram.header_bytes));
  for (const auto piece : std::span(datagram.lent).first(datagram.pieces)) {
    writer.WriteBytes(piece);
  }
  writer.WriteZeros(pad);
  datagram.pieces = 0;
}

// Packets mostly go where the one before them went.
uint64_t UdpSender::RouteFor(const Path& path, uint32_t interface,
                             size_t socket) {
  const Route& last = routes_[last_route_ % kRoutes];
  if (last_route_ > 0 && last.path == path && last.interface == interface &&
      last.socket == socket) {
    return last_route_;
  }
  ++last_route_;
  routes_[last_route_ % kRoutes] = {
      .path = path,
      .interface = interface,
      .socket = socket,
      .control = WriteControl(path, interface),
      .destination =
          ToSocketAddress(path.destination, destination_port_, interface),
      .headers = {.source = path.source,
                  .destination = path.destination,
                  .source_port = sockets_[socket].port,
                  .destination_port = destination_port_}};
  return last_route_;
}

UdpSender::Control UdpSender::WriteControl(const Path& path,
                                           uint32_t interface) const {
  // The kernel refuses a hop limit of 0.
  const int hop_limit = std::max<int>(path.hop_limit, 1);
  const int traffic_class = path.traffic_class;
  Control control{};
  ControlWriter writer(control.bytes.data(), control.bytes.size());
  if (family_ == IpFamily::kIpv4) {
    in_pktinfo source{};
    source.ipi_ifindex = static_cast<int>(interface);
    source.ipi_spec_dst = ToInAddr(path.source);
    control.size = writer.Add(IPPROTO_IP, IP_PKTINFO, source) +
                   writer.Add(IPPROTO_IP, IP_TTL, hop_limit) +
                   writer.Add(IPPROTO_IP, IP_TOS, traffic_class);
  } else {
    in6_pktinfo source{};
    source.ipi6_addr = ToIn6Addr(path.source);
    source.ipi6_ifindex = interface;
    control.size = writer.Add(IPPROTO_IPV6, IPV6_PKTINFO, source) +
                   writer.Add(IPPROTO_IPV6, IPV6_HOPLIMIT, hop_limit) +
                   writer.Add(IPPROTO_IPV6, IPV6_TCLASS, traffic_class);
  }
  return control;
}

// How many datagrams, from the first on, leave by the same socket.
size_t UdpSender::BatchSize() {
  const size_t socket = RouteOf(At(0)).socket;
  size_t size = 1;
  while (size < count_ && RouteOf(At(size)).socket == socket) ++size;
  return size;
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
        bytes > kMaxTrainBytes || next.route != first.route) {
      break;
    }
  }
  return size;
}

// The kernel numbers the pieces of a train in the identification of IPv4, which
// the ICRC covers.
void UdpSender::Seal(Datagram& datagram, size_t place_in_train) {
  NetHeaders headers = RouteOf(datagram).headers;
  headers.identification =
      family_ == IpFamily::kIpv4 ? static_cast<uint16_t>(place_in_train) : 0;
  const auto own = datagram.own();
  const auto begin =
      datagram.pieces > 0 ? own.first(datagram.header_bytes) : own;
  uint32_t icrc = BeginIcrc(headers, begin, datagram.size - kIcrcBytes);
  for (const auto piece : std::span(datagram.lent).first(datagram.pieces)) {
    icrc = ExtendIcrc(icrc, piece);
  }
  icrc = ExtendIcrc(icrc, own.subspan(begin.size()));
  StoreIcrc(icrc,
            std::span(datagram.bytes).subspan(own.size()).first<kIcrcBytes>());
}

// Where its bytes lie; how many pieces that is.
size_t UdpSender::PiecesOf(Datagram& datagram, iovec* out) {
  const size_t own_bytes = datagram.size - datagram.lent_bytes;
  if (datagram.pieces == 0) {
    *out = {.iov_base = datagram.bytes.data(), .iov_len = own_bytes};
    return 1;
  }
  size_t count = 0;
  out[count++] = {.iov_base = datagram.bytes.data(),
                  .iov_len = datagram.header_bytes};
  for (const auto piece : std::span(datagram.lent).first(datagram.pieces)) {
    out[count++] = {.iov_base = const_cast<std::byte*>(piece.data()),
                    .iov_len = piece.size()};
  }
  out[count++] = {.iov_base = &datagram.bytes[datagram.header_bytes],
                  .iov_len = own_bytes - datagram.header_bytes};
  return count;
}

// `size` datagrams from the first on, of one socket; how many were sent, or -1
// and errno.
int UdpSender::SendBatch(size_t size) {
  std::array<mmsghdr, kQueueLength> messages;
  std::array<Control, kQueueLength> controls;  // the messages'
  std::array<iovec, kQueueLength*(kMostPieces + 2)> pieces;
  std::array<size_t, kQueueLength> ends;  // of the messages' datagrams
  unsigned count = 0;
  iovec* next = pieces.data();
  for (size_t i = 0; i < size; ++count) {
    const size_t begin = i;
    const size_t end = begin + TrainSize(begin, size);
    Route& route = RouteOf(At(begin));
    Control& control = controls[count] = route.control;
    if (end - begin > 1) {
      ControlWriter writer(control.bytes.data() + control.size,
                           control.bytes.size() - control.size);
      control.size += writer.Add(SOL_UDP, UDP_SEGMENT,
                                 static_cast<uint16_t>(At(begin).size));
    }
    iovec* const first = next;
    for (; i < end; ++i) {
      Seal(At(i), i - begin);
      next += PiecesOf(At(i), next);
    }
    messages[count] = {};
    messages[count].msg_hdr = {.msg_name = route.destination.get(),
                               .msg_namelen = route.destination.length,
                               .msg_iov = first,
                               .msg_iovlen = static_cast<size_t>(next - first),
                               .msg_control = control.bytes.data(),
                               .msg_controllen = control.size,
                               .msg_flags = 0};
    ends[count] = end;
  }
  const int sent =
      sendmmsg(sockets_[RouteOf(At(0)).socket].fd.get(), messages.data(), count,
               MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent <= 0) return sent;
  return static_cast<int>(ends[static_cast<size_t>(sent) - 1]);
}

std::optional<int> UdpSender::Flush(NetCounters& counters) {
  while (count_ > 0) {
    const int sent = SendBatch(BatchSize());
    size_t done = sent < 0 ? 0 : static_cast<size_t>(sent);
    if (sent < 0) {
      if (errno == EAGAIN || errno == ENOBUFS) {
        Keep();
        return sockets_[RouteOf(At(0)).socket].fd.get();
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
