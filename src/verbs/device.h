// The RDMA devices of this host: what they are and what they can do.
#ifndef ND_VERBS_DEVICE_H_
#define ND_VERBS_DEVICE_H_

#include <infiniband/verbs.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/wait.h"

namespace nd::verbs {

// One entry of a port's GID table. On RoCE a GID is an IP address of the
// port's network interface.
struct GidEntry {
  uint32_t index = 0;
  std::array<uint8_t, 16> gid{};
  uint32_t type = 0;  // ibv_gid_type: IB, RoCE v1 or RoCE v2
  std::string netdev{};

  std::string Address() const;   // "10.98.0.1", "fe80::1"
  std::string TypeName() const;  // "IB", "RoCE v1", "RoCE v2"
};

struct Port {
  uint8_t number = 0;  // from 1
  ibv_port_attr attr{};
  std::vector<GidEntry> gids{};  // the valid ones

  uint32_t active_mtu_bytes() const;  // 256 to 4096
  uint32_t max_mtu_bytes() const;
  std::string StateName() const;      // "PORT_ACTIVE"
  std::string LinkLayerName() const;  // "Ethernet", "InfiniBand"
};

// An asynchronous event of a device, already acknowledged: it holds numbers,
// not objects, so it can outlive what it speaks of.
struct AsyncEvent {
  ibv_event_type type{};
  std::optional<uint32_t> qpn{};  // for events of a QP
  std::optional<uint8_t> port{};  // for events of a port
  std::string ToString() const;   // "QP_FATAL, qpn 0x11"
};

struct DeviceInfo {
  std::string name;
  uint64_t node_guid = 0;  // host byte order
};

// Every device that libibverbs shows, in its order.
absl::StatusOr<std::vector<DeviceInfo>> ListDevices();

// An open device. Thread-safe. Everything made on it keeps it open.
class Context {
 public:
  // Opens the device of that name; the first one if `name` is empty.
  static absl::StatusOr<std::shared_ptr<Context>> Open(absl::string_view name);

  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const std::string& name() const { return name_; }
  const ibv_device_attr_ex& attr() const { return attr_; }
  const ibv_device_attr& limits() const { return attr_.orig_attr; }
  ibv_context* get() const { return context_; }

  // Reads the port's attributes and GID table anew.
  absl::StatusOr<Port> QueryPort(uint8_t number) const;
  absl::StatusOr<std::vector<Port>> QueryPorts() const;

  // Readable when an asynchronous event waits.
  int async_fd() const { return context_->async_fd; }

  // The next asynchronous event; DEADLINE_EXCEEDED when none came in time.
  absl::StatusOr<AsyncEvent> NextAsyncEvent(const Deadline& deadline,
                                            const Cancellation* cancel) const;

 private:
  Context(ibv_context* context, std::string name);

  ibv_context* const context_;
  const std::string name_;
  ibv_device_attr_ex attr_{};
};

}  // namespace nd::verbs

#endif  // ND_VERBS_DEVICE_H_
