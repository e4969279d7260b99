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

// Packets of one family, in order. One thread at a time.
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
  // leave from one port; flows may be any numbers, spread evenly.
  void Send(const Path& path, uint32_t interface, uint32_t flow,
            const PacketSource& packet);
  // Gives the kernel what it takes; what it takes never is dropped. If it takes
  // no more for now, returns the descriptor that becomes writable.
  std::optional<int> Flush(NetCounters& counters);

  // Throws away what came to the ports that it sends from, and errors.
  void Drain() const;

  struct Socket {
    OwnFd fd;
    uint16_t port = 0;
  };
  const std::vector<Socket>& sockets() const { return sockets_; }

 private:
  static constexpr size_t kControlBytes = 128;

  struct Datagram {
    alignas(cmsghdr) std::array<std::byte, kControlBytes> control;
    size_t control_size = 0;
    size_t socket = 0;  // that it leaves by
    SocketAddress destination;
    NetHeaders headers;
    size_t size = 0;
    std::array<std::byte, kMaxPacketBytes + kIcrcBytes> bytes;
  };

  static absl::StatusOr<Socket> OpenSocket(IpFamily family, Random& random);
  UdpSender(std::vector<Socket> sockets, IpFamily family,
            uint16_t destination_port);
  void WriteControl(const Path& path, uint32_t interface,
                    Datagram& datagram) const;
  Datagram& At(size_t index) { return queue_[(first_ + index) % kQueueLength]; }
  size_t BatchSize();
  static bool GoesAlike(const Datagram& a, const Datagram& b);
  size_t TrainSize(size_t begin, size_t end);
  void Seal(Datagram& datagram, size_t place_in_train) const;
  int SendBatch(size_t size);

  std::vector<Socket> sockets_;  // at least one
  IpFamily family_;
  bool trains_ = true;  // the kernel cuts up what goes as one
  uint16_t destination_port_;
  std::vector<Datagram> queue_;
  size_t first_ = 0;
  size_t count_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_UDP_SENDER_H_
