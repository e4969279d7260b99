#include "verbs/device.h"

#include <arpa/inet.h>
#include <endian.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "verbs/explain.h"

namespace nd::verbs {
namespace {

using DeviceList = std::unique_ptr<ibv_device*[], void (*)(ibv_device**)>;

// As many as one call can return: the kernel takes a buffer below 64 KiB.
constexpr size_t kMaxGids = UINT16_MAX / sizeof(ibv_gid_entry);

absl::StatusOr<DeviceList> GetDeviceList(int* count) {
  DeviceList list(ibv_get_device_list(count), [](ibv_device** devices) {
    if (devices != nullptr) ibv_free_device_list(devices);
  });
  if (list != nullptr) return list;
  if (errno == ENOSYS) {
    return absl::FailedPreconditionError(
        "ibv_get_device_list: this kernel has no RDMA support loaded "
        "(modprobe ib_uverbs, then the device's driver)");
  }
  return ErrnoStatus(errno, "ibv_get_device_list");
}

uint32_t MtuBytes(ibv_mtu mtu) { return 128u << mtu; }

bool IsQpEvent(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      return true;
    default:
      return false;
  }
}

bool IsPortEvent(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_PORT_ACTIVE:
    case IBV_EVENT_PORT_ERR:
    case IBV_EVENT_LID_CHANGE:
    case IBV_EVENT_PKEY_CHANGE:
    case IBV_EVENT_GID_CHANGE:
    case IBV_EVENT_SM_CHANGE:
    case IBV_EVENT_CLIENT_REREGISTER:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<std::vector<GidEntry>> QueryGids(ibv_context* context,
                                                uint8_t port,
                                                const std::string& device) {
  std::vector<ibv_gid_entry> entries(kMaxGids);
  const ssize_t count =
      ibv_query_gid_table(context, entries.data(), entries.size(), 0);
  if (count < 0) {
    return ErrnoStatus(static_cast<int>(-count),
                       absl::StrCat("ibv_query_gid_table, device ", device));
  }
  std::vector<GidEntry> gids;
  for (const ibv_gid_entry& entry :
       std::span(entries).first(static_cast<size_t>(count))) {
    if (entry.port_num != port) continue;
    GidEntry gid{.index = entry.gid_index, .type = entry.gid_type};
    std::copy_n(entry.gid.raw, gid.gid.size(), gid.gid.begin());
    char name[IF_NAMESIZE];
    if (if_indextoname(entry.ndev_ifindex, name) != nullptr) gid.netdev = name;
    gids.push_back(std::move(gid));
  }
  return gids;
}

}  // namespace

std::string GidEntry::Address() const {
  char text[INET6_ADDRSTRLEN];
  constexpr std::array<uint8_t, 12> kMappedIpv4 = {0, 0, 0, 0, 0,    0,
                                                   0, 0, 0, 0, 0xff, 0xff};
  if (std::equal(kMappedIpv4.begin(), kMappedIpv4.end(), gid.begin())) {
    inet_ntop(AF_INET, gid.data() + kMappedIpv4.size(), text, sizeof(text));
  } else {
    inet_ntop(AF_INET6, gid.data(), text, sizeof(text));
  }
  return text;
}

std::string GidEntry::TypeName() const {
  switch (type) {
    case IBV_GID_TYPE_IB:
      return "IB";
    case IBV_GID_TYPE_ROCE_V1:
      return "RoCE v1";
    case IBV_GID_TYPE_ROCE_V2:
      return "RoCE v2";
    default:
      return absl::StrCat("type ", type);
  }
}

uint32_t Port::active_mtu_bytes() const { return MtuBytes(attr.active_mtu); }
uint32_t Port::max_mtu_bytes() const { return MtuBytes(attr.max_mtu); }

std::string Port::StateName() const {
  switch (attr.state) {
    case IBV_PORT_DOWN:
      return "PORT_DOWN";
    case IBV_PORT_INIT:
      return "PORT_INIT";
    case IBV_PORT_ARMED:
      return "PORT_ARMED";
    case IBV_PORT_ACTIVE:
      return "PORT_ACTIVE";
    case IBV_PORT_ACTIVE_DEFER:
      return "PORT_ACTIVE_DEFER";
    default:
      return "PORT_NOP";
  }
}

std::string Port::LinkLayerName() const {
  switch (attr.link_layer) {
    case IBV_LINK_LAYER_INFINIBAND:
      return "InfiniBand";
    case IBV_LINK_LAYER_ETHERNET:
      return "Ethernet";
    default:
      return "unspecified";
  }
}

std::string AsyncEvent::ToString() const {
  std::string text(Explain(type).name);
  if (qpn) absl::StrAppend(&text, ", qpn 0x", absl::Hex(*qpn));
  if (port) absl::StrAppend(&text, ", port ", int{*port});
  return text;
}

absl::StatusOr<std::vector<DeviceInfo>> ListDevices() {
  int count = 0;
  ND_ASSIGN_OR_RETURN(const DeviceList list, GetDeviceList(&count));
  std::vector<DeviceInfo> devices;
  devices.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    devices.push_back({.name = ibv_get_device_name(list[i]),
                       .node_guid = be64toh(ibv_get_device_guid(list[i]))});
  }
  return devices;
}

absl::StatusOr<std::shared_ptr<Context>> Context::Open(absl::string_view name) {
  int count = 0;
  ND_ASSIGN_OR_RETURN(const DeviceList list, GetDeviceList(&count));
  const std::span<ibv_device* const> devices(list.get(), count);
  if (devices.empty()) {
    return absl::NotFoundError("this host has no RDMA device");
  }
  const auto found =
      std::find_if(devices.begin(), devices.end(), [&](ibv_device* device) {
        return name.empty() || ibv_get_device_name(device) == name;
      });
  if (found == devices.end()) {
    std::vector<absl::string_view> names;
    for (ibv_device* device : devices) {
      names.push_back(ibv_get_device_name(device));
    }
    return absl::NotFoundError(absl::StrCat("no RDMA device named ", name,
                                            "; this host has ",
                                            absl::StrJoin(names, ", ")));
  }
  const std::string found_name = ibv_get_device_name(*found);
  ibv_context* raw = ibv_open_device(*found);
  if (raw == nullptr) {
    return ErrnoStatus(errno,
                       absl::StrCat("ibv_open_device, device ", found_name));
  }
  std::shared_ptr<Context> context(new Context(raw, found_name));
  if (const int error = ibv_query_device_ex(raw, nullptr, &context->attr_)) {
    return ErrnoStatus(
        error, absl::StrCat("ibv_query_device_ex, device ", found_name));
  }
  ND_RETURN_IF_ERROR(SetNonBlocking(raw->async_fd));
  return context;
}

Context::Context(ibv_context* context, std::string name)
    : context_(context), name_(std::move(name)) {}

Context::~Context() { ibv_close_device(context_); }

absl::StatusOr<Port> Context::QueryPort(uint8_t number) const {
  Port port{.number = number};
  if (const int error = ibv_query_port(context_, number, &port.attr)) {
    return ErrnoStatus(error, absl::StrCat("ibv_query_port, device ", name_,
                                           " port ", int{number}));
  }
  ND_ASSIGN_OR_RETURN(port.gids, QueryGids(context_, number, name_));
  return port;
}

absl::StatusOr<std::vector<Port>> Context::QueryPorts() const {
  std::vector<Port> ports;
  for (int number = 1; number <= limits().phys_port_cnt; ++number) {
    ND_ASSIGN_OR_RETURN(Port port, QueryPort(static_cast<uint8_t>(number)));
    ports.push_back(std::move(port));
  }
  return ports;
}

absl::StatusOr<AsyncEvent> Context::NextAsyncEvent(
    const Deadline& deadline, const Cancellation* cancel) const {
  for (;;) {
    ND_RETURN_IF_ERROR(WaitReadable(async_fd(), deadline, cancel));
    ibv_async_event raw;
    if (ibv_get_async_event(context_, &raw) == 0) {
      AsyncEvent event{.type = raw.event_type};
      if (IsQpEvent(raw.event_type)) event.qpn = raw.element.qp->qp_num;
      if (IsPortEvent(raw.event_type)) {
        event.port = static_cast<uint8_t>(raw.element.port_num);
      }
      ibv_ack_async_event(&raw);
      return event;
    }
    // Another thread may have taken the event that made the fd readable.
    if (errno != EAGAIN && errno != EINTR) {
      return ErrnoStatus(errno,
                         absl::StrCat("ibv_get_async_event, device ", name_));
    }
  }
}

}  // namespace nd::verbs
