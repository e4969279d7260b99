// The UDP port at which packets from other hosts arrive: one process of a host
// holds it.
#ifndef ND_SOFT_NET_WIRE_PORT_H_
#define ND_SOFT_NET_WIRE_PORT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/fd.h"
#include "soft/net/counters.h"
#include "soft/net/device_fds.h"
#include "soft/net/inet.h"
#include "soft/net/network.h"
#include "soft/wire/icrc.h"

namespace nd::soft {

// What came, its ICRC right: BTH to pad.
using WireSink =
    absl::FunctionRef<void(const Path& path, std::span<const std::byte>)>;

// One address, most often that of all interfaces. One thread at a time.
class WirePort {
 public:
  WirePort(const Gid& address, uint16_t port);
  WirePort(WirePort&&) noexcept;
  ~WirePort();

  // AlreadyExists: another process has it.
  absl::Status Hold();
  void Release() { fd_ = OwnFd(); }
  bool held() const { return fd_.valid(); }

  // Hands out up to about `budget` packets; returns how many datagrams came.
  size_t Receive(size_t budget, NetCounters& counters, WireSink sink);

  int fd() const { return fd_.get(); }

 private:
  struct Batch;

  static void OnDatagram(const NetHeaders& headers, const Path& path,
                         std::span<const std::byte> bytes,
                         NetCounters& counters, WireSink sink);

  const Gid address_;
  const uint16_t port_;
  OwnFd fd_;
  std::unique_ptr<Batch> batch_;  // while held
};

}  // namespace nd::soft

#endif  // ND_SOFT_NET_WIRE_PORT_H_
