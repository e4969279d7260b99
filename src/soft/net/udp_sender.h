// What sends packets to other hosts.
#ifndef ND_SOFT_NET_UDP_SENDER_H_
#define ND_SOFT_NET_UDP_SENDER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "base/random.h"
#include "soft/net/counters.h"
#include "soft/net/device_fds.h"
#include "soft/net/frame.h"
#include "soft/net/inet.h"
#include "soft/net/network.h"
#include "soft/wire/icrc.h"

namespace nd::soft {

// Packets of one family, in order. Of a packet that lasts (Outgoing), the
// payload is read where it lies when it is sent, once for the ICRC and once by
// the kernel; if it changes in between, the ICRC is wrong, and the packet is
// lost. One thread at a time.
class UdpSender {
 public:
  static constexpr size_t kQueueLength = 64;
  // The ports that flows are sent from, so that they take different ways where
  // there are several.
  static constexpr size_t kPorts = 4;

  // Sends from ports of RoCE's range to `destination_port`. Has fewer than
  // kPorts where there are no descriptors for more.
  static absl::StatusOr<UdpSender> Open(IpFamily family,
                                        uint16_t destination_port,
                                        Random& random);

  size_t room() const { return kQueueLength - count_; }
  // There was room. Leaves by `interface` if that is not 0. Packets of one flow
  // leave from one port; flows may be any numbers, spread evenly. What lasts
  // has to until Flush or Keep.
  void Send(const Path& path, uint32_t interface, uint32_t flow,
            const PacketSource& packet);
  // Gives the kernel what it takes; what it takes never is dropped. If it takes
  // no more for now, keeps the rest and returns the descriptor that becomes
  // writable.
  std::optional<int> Flush(NetCounters& counters);
  // Copies what waits: nothing is looked at any more where it lies.
  void Keep();

  // Throws away what came to the ports that it sends from, and errors.
  void Drain() const;

  struct Socket {
    OwnFd fd;
    uint16_t port = 0;
  };
  const std::vector<Socket>& sockets() const { return sockets_; }

 private:
  static constexpr size_t kControlBytes = 128;
  struct Control {
    alignas(cmsghdr) std::array<std::byte, kControlBytes> bytes;
    size_t size;
  };

  // Where packets go, and how. Those of one route follow one another.
  struct Route {
    Path path;
    uint32_t interface = 0;
    size_t socket = 0;  // that they leave by
    Control control{};
    SocketAddress destination;
    NetHeaders headers;
  };

  // What lies in more pieces is copied.
  static constexpr size_t kMostPieces = 4;

  // Its bytes are its own but for a payload that is lent, which belongs behind
  // its headers.
  struct Datagram {
    uint64_t route = 0;  // its number
    size_t size = 0;     // with what is lent
    size_t header_bytes = 0;
    size_t lent_bytes = 0;
    size_t pieces = 0;
    std::array<std::span<const std::byte>, kMostPieces> lent;
    std::array<std::byte, kMaxPacketBytes + kIcrcBytes> bytes;

    // From the BTH to the pad.
    std::span<std::byte> own() {
      return std::span(bytes).first(size - kIcrcBytes - lent_bytes);
    }
  };

  static absl::StatusOr<Socket> OpenSocket(IpFamily family, Random& random);
  UdpSender(std::vector<Socket> sockets, IpFamily family,
            uint16_t destination_port);
  uint64_t RouteFor(const Path& path, uint32_t interface, size_t socket);
  Control WriteControl(const Path& path, uint32_t interface) const;
  Route& RouteOf(const Datagram& datagram) {
    return routes_[datagram.route % kRoutes];
  }
  static bool Lend(const Outgoing& outgoing, Datagram& datagram);
  static void Keep(Datagram& datagram);
  Datagram& At(size_t index) { return queue_[(first_ + index) % kQueueLength]; }
  size_t BatchSize();
  size_t TrainSize(size_t begin, size_t end);
  void Seal(Datagram& datagram, size_t place_in_train);
  static size_t PiecesOf(Datagram& datagram, iovec* out);
  int SendBatch(size_t size);

  std::vector<Socket> sockets_;  // at least one
  IpFamily family_;
  bool trains_ = true;  // the kernel cuts up what goes as one
  uint16_t destination_port_;
  std::vector<Datagram> queue_;
  size_t first_ = 0;
  size_t count_ = 0;
  // The last one and those of what waits, by number.
  static constexpr size_t kRoutes = 2 * kQueueLength;
  std::vector<Route> routes_;
  uint64_t last_route_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_UDP_SENDER_H_
