// What sends packets to other hosts.
#ifndef ND_SOFT_NET_UDP_SENDER_H_
#define ND_SOFT_NET_UDP_SENDER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "base/random.h"
#include "soft/net/counters.h"
#include "soft/net/device_fds.h"
#include "soft/net/frame.h"
#include "soft/net/inet.h"
#include "soft/net/network.h"

namespace nd::soft {

// One socket of one family. One thread at a time.
class UdpSender {
 public:
  static constexpr size_t kQueueLength = 64;

  // Sends from a port of RoCE's range to `destination_port`.
  static absl::StatusOr<UdpSender> Open(IpFamily family,
                                        uint16_t destination_port,
                                        Random& random);

  size_t room() const { return kQueueLength - count_; }
  // There was room. Leaves by `interface` if that is not 0.
  void Send(const Path& path, uint32_t interface, const PacketSource& packet);
  // Gives the kernel what it takes; what it takes never is dropped. False: it
  // takes no more for now, and the socket becomes writable.
  bool Flush(NetCounters& counters);

  // Throws away what came to the port that it sends from, and errors.
  void Drain() const;

  uint16_t source_port() const { return source_port_; }
  int fd() const { return fd_.get(); }

 private:
  static constexpr size_t kControlBytes = 96;

  struct Datagram {
    alignas(cmsghdr) std::array<std::byte, kControlBytes> control;
    size_t control_size = 0;
    SocketAddress destination;
    size_t size = 0;
    std::array<std::byte, kMaxPacketBytes + 4> bytes;  // with the ICRC
  };

  UdpSender(Fd fd, IpFamily family, uint16_t source_port,
            uint16_t destination_port);
  void WriteControl(const Path& path, uint32_t interface,
                    Datagram& datagram) const;
  int SendBatch(size_t size);

  OwnFd fd_;
  IpFamily family_;
  uint16_t source_port_;
  uint16_t destination_port_;
  std::vector<Datagram> queue_;
  size_t first_ = 0;
  size_t count_ = 0;
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_UDP_SENDER_H_
