// The device: listed, opened, asked what it is.
#include <endian.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <vector>

#include "soft/abi/forward.h"
#include "soft/abi/hooks_off.h"
#include "soft/abi/objects.h"
#include "soft/abi/process.h"

namespace nd::soft {
namespace {

constexpr uint64_t kMaxRegionBytes = uint64_t{1} << 47;
constexpr uint32_t kMaxMessageLength = uint32_t{1} << 31;
constexpr int kCompletionVectors = 1;
constexpr uint8_t kAckDelay = 15;
constexpr uint16_t kOnlyPkey = 0xffff;
constexpr uint32_t kVendorId = 0xffffff;  // rxe's: nobody's
constexpr uint8_t kLinkDisabled = 3;      // IBA vol. 1, 14.2.5.6
constexpr uint8_t kLinkUp = 5;
constexpr uint8_t kWidth4x = 2;
constexpr uint8_t kSpeedEdr = 32;

ibv_device_attr AttributesOf(const Device& device) {
  const Limits& limits = device.limits();
  ibv_device_attr attr{};
  std::strncpy(attr.fw_ver, kFirmwareVersion, sizeof(attr.fw_ver) - 1);
  attr.node_guid = attr.sys_image_guid = htobe64(device.host()->guid);
  attr.vendor_id = kVendorId;
  attr.max_mr_size = kMaxRegionBytes;
  attr.page_size_cap = 0xfffff000;
  attr.max_qp = static_cast<int>(limits.max_qps);
  attr.max_qp_wr = static_cast<int>(limits.max_wrs);
  attr.device_cap_flags = IBV_DEVICE_CURR_QP_STATE_MOD |
                          IBV_DEVICE_SYS_IMAGE_GUID | IBV_DEVICE_RC_RNR_NAK_GEN;
  if (limits.windows) {
    attr.device_cap_flags |= IBV_DEVICE_MEM_WINDOW |
                             IBV_DEVICE_MEM_WINDOW_TYPE_2B |
                             IBV_DEVICE_MEM_MGT_EXTENSIONS;
    attr.max_mw = static_cast<int>(limits.max_regions);
  }
  attr.max_sge = attr.max_sge_rd = static_cast<int>(limits.max_sges);
  attr.max_cq = static_cast<int>(limits.max_cqs);
  attr.max_cqe = static_cast<int>(limits.max_cqes);
  attr.max_mr = static_cast<int>(limits.max_regions);
  attr.max_pd = static_cast<int>(limits.max_pds);
  attr.max_qp_rd_atom = static_cast<int>(limits.max_rd_atomic);
  attr.max_qp_init_rd_atom = static_cast<int>(limits.max_rd_atomic);
  attr.max_res_rd_atom =
      static_cast<int>(limits.max_rd_atomic * limits.max_qps);
  attr.atomic_cap = IBV_ATOMIC_HCA;
  attr.max_ah = static_cast<int>(limits.max_ahs);
  attr.max_mcast_grp = static_cast<int>(limits.max_groups);
  attr.max_mcast_qp_attach = static_cast<int>(limits.max_group_qps);
  attr.max_total_mcast_qp_attach =
      static_cast<int>(limits.max_groups * limits.max_group_qps);
  if (limits.srqs) {
    attr.device_cap_flags |= IBV_DEVICE_SRQ_RESIZE;
    attr.max_srq = static_cast<int>(limits.max_srqs);
    attr.max_srq_wr = static_cast<int>(limits.max_wrs);
    attr.max_srq_sge = static_cast<int>(limits.max_sges);
  }
  attr.max_pkeys = 1;
  attr.local_ca_ack_delay = kAckDelay;
  attr.phys_port_cnt = 1;
  return attr;
}

uint32_t GidPlaces(const Device& device) {
  return std::max(device.limits().gid_places,
                  static_cast<uint32_t>(device.host()->gids.size()));
}

ibv_port_attr PortOf(const Device& device) {
  ibv_port_attr port{};
  port.state = device.port_up() ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
  port.max_mtu = IBV_MTU_4096;
  port.active_mtu = device.active_mtu();
  port.gid_tbl_len = static_cast<int>(GidPlaces(device));
  port.port_cap_flags = IBV_PORT_CM_SUP | IBV_PORT_IP_BASED_GIDS;
  port.max_msg_sz = kMaxMessageLength;
  port.pkey_tbl_len = 1;
  port.max_vl_num = 1;
  port.active_width = kWidth4x;
  port.active_speed = kSpeedEdr;
  port.phys_state = device.port_up() ? kLinkUp : kLinkDisabled;
  port.link_layer = IBV_LINK_LAYER_ETHERNET;
  return port;
}

bool HasGidPlace(ibv_context* context, uint32_t port, uint32_t index) {
  return port == 1 && index < GidPlaces(DeviceOf(context));
}

// Nothing: the place is empty.
std::optional<GidEntry> GidAt(ibv_context* context, uint32_t port,
                              uint32_t index) {
  const auto host = DeviceOf(context).host();
  if (port != 1 || index >= host->gids.size() ||
      host->gids[index].gid == Gid{}) {
    return std::nullopt;
  }
  return host->gids[index];
}

void FillEntry(const GidEntry& from, uint32_t index, ibv_gid_entry& to) {
  to = {};
  std::ranges::copy(from.gid, to.gid.raw);
  to.gid_index = index;
  to.port_num = 1;
  to.gid_type = IBV_GID_TYPE_ROCE_V2;
  to.ndev_ifindex = from.interface_index;
}

// Copies what fits and clears what we do not know of.
template <typename T>
void CopyOut(const T& from, void* to, size_t bytes) {
  std::memset(to, 0, bytes);
  std::memcpy(to, &from, std::min(bytes, sizeof(from)));
}

void FillOps(verbs_context& verbs) {
  ibv_context_ops& ops = verbs.context.ops;
  ops.alloc_mw = AllocateWindow;
  ops.bind_mw = BindWindow;
  ops.dealloc_mw = FreeWindow;
  ops.poll_cq = PollCq;
  ops.req_notify_cq = RequestNotify;
  ops.post_srq_recv = PostSrqReceive;
  ops.post_send = PostSend;
  ops.post_recv = PostReceive;
  verbs.query_port = QueryPort;
  verbs.query_device_ex = QueryDeviceEx;
  verbs.create_cq_ex = CreateCqEx;
  verbs.create_qp_ex = CreateQpEx;
  verbs.create_srq_ex = CreateSrqEx;
  verbs.sz = sizeof(verbs);
}

// Neither the real library's list nor an error of it stops ours.
std::vector<ibv_device*> RealDevices(ibv_device**& list) {
  const HooksOff off;
  list = nullptr;
  int count = 0;
  auto* const get =
      Real<decltype(ibv_get_device_list)>("ibv_get_device_list", "IBVERBS_1.1");
  if (get != nullptr) list = get(&count);
  if (list == nullptr) return {};
  return {list, list + count};
}

void FreeRealList(ibv_device** list) {
  auto* const free_list = Real<decltype(ibv_free_device_list)>(
      "ibv_free_device_list", "IBVERBS_1.1");
  if (list != nullptr && free_list != nullptr) free_list(list);
}

// What the device reads and writes is the process's own memory, which a child
// has copies of; only real devices need more.
bool ForkNeedsCare() {
  if (!SoftIsActive()) return true;
  ibv_device** list = nullptr;
  const bool any = !RealDevices(list).empty();
  FreeRealList(list);
  return any;
}

}  // namespace

int SetErrno(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kResourceExhausted:
      return errno = ENOMEM;
    case absl::StatusCode::kUnimplemented:
      return errno = EOPNOTSUPP;
    case absl::StatusCode::kUnavailable:
      return errno = ENODEV;
    default:
      return errno = EINVAL;
  }
}

ibv_context* MakeContext(Device& device, Fd command) {
  auto fd = EventFd::Create();
  if (!fd.ok()) {
    SetErrno(fd.status());
    return nullptr;
  }
  auto* const soft = new SoftContext;
  soft->device = &device;
  soft->events = std::make_unique<AsyncEvents>(*std::move(fd));
  soft->command = ShownFd(std::move(command));
  ibv_context& context = soft->verbs.context;
  context.device = SoftDeviceHandle();
  context.cmd_fd = soft->command.get();
  context.async_fd = soft->events->fd();
  context.num_comp_vectors = kCompletionVectors;
  context.abi_compat = __VERBS_ABI_IS_EXTENDED;
  pthread_mutex_init(&context.mutex, nullptr);
  FillOps(soft->verbs);
  device.AddListener(*soft->events);
  return &context;
}

int QueryPort(ibv_context* context, uint8_t port, ibv_port_attr* attr,
              size_t attr_bytes) {
  if (port != 1) return EINVAL;
  if (DeviceOf(context).removed()) return EIO;
  CopyOut(PortOf(DeviceOf(context)), attr, attr_bytes);
  return 0;
}

int QueryDeviceEx(ibv_context* context, const ibv_query_device_ex_input* input,
                  ibv_device_attr_ex* attr, size_t attr_bytes) {
  if (input != nullptr && input->comp_mask != 0) return EINVAL;
  if (attr_bytes < sizeof(attr->orig_attr)) return EINVAL;
  if (DeviceOf(context).removed()) return EIO;
  ibv_device_attr_ex known{};
  known.orig_attr = AttributesOf(DeviceOf(context));
  known.device_cap_flags_ex = known.orig_attr.device_cap_flags;
  known.phys_port_cnt_ex = 1;
  CopyOut(known, attr, attr_bytes);
  return 0;
}

}  // namespace nd::soft

using namespace nd::soft;  // NOLINT: what follows is C

#undef ibv_get_device_list
#undef ibv_query_port

// Behind the pointers and their null: the real list, which they come from.
// librdmacm sorts the pointers in place, and some programs free() the array.
extern "C" {

ibv_device** ibv_get_device_list(int* count) {
  ibv_device** real = nullptr;
  std::vector<ibv_device*> devices = RealDevices(real);
  if (SoftIsActive()) devices.push_back(SoftDeviceHandle());
  auto** const list = static_cast<ibv_device**>(
      // NOLINTNEXTLINE(bugprone-sizeof-expression): it holds pointers
      std::calloc(devices.size() + 2, sizeof(ibv_device*)));
  if (list == nullptr) {
    FreeRealList(real);
    errno = ENOMEM;
    return nullptr;
  }
  std::ranges::copy(devices, list);
  list[devices.size() + 1] = reinterpret_cast<ibv_device*>(real);
  if (count != nullptr) *count = static_cast<int>(devices.size());
  return list;
}

void ibv_free_device_list(ibv_device** list) {
  ibv_device** end = list;
  while (*end != nullptr) ++end;
  FreeRealList(reinterpret_cast<ibv_device**>(end[1]));
  std::free(list);
}

const char* ibv_get_device_name(ibv_device* device) {
  if (IsSoftDevice(device)) return device->name;
  return ND_FORWARD(ibv_get_device_name, "1.1")(device);
}

__be64 ibv_get_device_guid(ibv_device* device) {
  if (!IsSoftDevice(device)) {
    return ND_FORWARD(ibv_get_device_guid, "1.1")(device);
  }
  return htobe64(ReadHostAddresses().guid);
}

int ibv_get_device_index(ibv_device* device) {
  if (!IsSoftDevice(device)) {
    return ND_FORWARD(ibv_get_device_index, "1.9")(device);
  }
  return kDeviceIndex;
}

ibv_context* ibv_open_device(ibv_device* device) {
  if (!IsSoftDevice(device)) {
    const HooksOff off;
    return ND_FORWARD(ibv_open_device, "1.1")(device);
  }
  const auto process = SoftProcess::Get();
  if (!process.ok()) {
    SetErrno(process.status());
    return nullptr;
  }
  Device& soft = (*process)->device();
  if (soft.removed()) {
    errno = ENODEV;
    return nullptr;
  }
  return MakeContext(soft, MakeCommandFd(soft));
}

int ibv_close_device(ibv_context* context) {
  if (!IsSoft(context)) return ND_FORWARD(ibv_close_device, "1.1")(context);
  DeviceOf(context).ForgetListener(*SoftContext::Of(context)->events);
  pthread_mutex_destroy(&context->mutex);
  delete SoftContext::Of(context);
  return 0;
}

int ibv_query_device(ibv_context* context, ibv_device_attr* attr) {
  if (!IsSoft(context)) {
    return ND_FORWARD(ibv_query_device, "1.1")(context, attr);
  }
  if (DeviceOf(context).removed()) return EIO;
  *attr = AttributesOf(DeviceOf(context));
  return 0;
}

int ibv_query_port(ibv_context* context, uint8_t port,
                   _compat_ibv_port_attr* attr) {
  if (!IsSoft(context)) {
    return ND_FORWARD(ibv_query_port, "1.1")(context, port, attr);
  }
  return QueryPort(context, port, reinterpret_cast<ibv_port_attr*>(attr),
                   offsetof(ibv_port_attr, port_cap_flags2));
}

int ibv_query_gid(ibv_context* context, uint8_t port, int index, ibv_gid* gid) {
  if (!IsSoft(context)) {
    return ND_FORWARD(ibv_query_gid, "1.1")(context, port, index, gid);
  }
  const auto place = static_cast<uint32_t>(index);
  if (!HasGidPlace(context, port, place)) {
    errno = EINVAL;
    return -1;
  }
  const auto entry = GidAt(context, port, place);
  *gid = {};
  if (entry) std::ranges::copy(entry->gid, gid->raw);
  return 0;
}

int _ibv_query_gid_ex(ibv_context* context, uint32_t port, uint32_t index,
                      ibv_gid_entry* entry, uint32_t flags,
                      size_t entry_bytes) {
  if (!IsSoft(context)) {
    return ND_FORWARD(_ibv_query_gid_ex, "1.11")(context, port, index, entry,
                                                 flags, entry_bytes);
  }
  if (flags != 0) return EOPNOTSUPP;
  if (!HasGidPlace(context, port, index)) return EINVAL;
  const auto found = GidAt(context, port, index);
  if (!found) return ENODATA;
  ibv_gid_entry known;
  FillEntry(*found, index, known);
  CopyOut(known, entry, entry_bytes);
  return 0;
}

ssize_t _ibv_query_gid_table(ibv_context* context, ibv_gid_entry* entries,
                             size_t max_entries, uint32_t flags,
                             size_t entry_bytes) {
  if (!IsSoft(context)) {
    return ND_FORWARD(_ibv_query_gid_table, "1.11")(
        context, entries, max_entries, flags, entry_bytes);
  }
  if (flags != 0) return -EOPNOTSUPP;
  const auto host = DeviceOf(context).host();
  if (host->addresses().size() > max_entries) return -EINVAL;
  size_t count = 0;
  for (size_t i = 0; i < host->gids.size(); ++i) {
    if (host->gids[i].gid == Gid{}) continue;
    ibv_gid_entry known;
    FillEntry(host->gids[i], static_cast<uint32_t>(i), known);
    CopyOut(known, reinterpret_cast<char*>(entries) + count++ * entry_bytes,
            entry_bytes);
  }
  return static_cast<ssize_t>(count);
}

// Private to rdma-core, and used: the older enumeration of GID types. An empty
// place is of the first of them, says libibverbs.
int ibv_query_gid_type(ibv_context* context, uint8_t port, unsigned index,
                       int* type) {
  constexpr int kRoceV1 = 0;  // enum ibv_gid_type_sysfs
  constexpr int kRoceV2 = 1;
  if (!IsSoft(context)) {
    auto* const real = Real<decltype(ibv_query_gid_type)>("ibv_query_gid_type",
                                                          "IBVERBS_PRIVATE_34");
    if (real != nullptr) return real(context, port, index, type);
    errno = ENOSYS;
    return -1;
  }
  if (!HasGidPlace(context, port, index)) {
    errno = EINVAL;
    return -1;
  }
  *type = GidAt(context, port, index).has_value() ? kRoceV2 : kRoceV1;
  return 0;
}

int ibv_query_pkey(ibv_context* context, uint8_t port, int index,
                   __be16* pkey) {
  if (!IsSoft(context)) {
    return ND_FORWARD(ibv_query_pkey, "1.1")(context, port, index, pkey);
  }
  if (port != 1 || index != 0) {
    errno = EINVAL;
    return -1;
  }
  *pkey = htobe16(kOnlyPkey);
  return 0;
}

int ibv_fork_init() {
  auto* const real =
      Real<decltype(ibv_fork_init)>("ibv_fork_init", "IBVERBS_1.1");
  return real != nullptr && ForkNeedsCare() ? real() : 0;
}

ibv_fork_status ibv_is_fork_initialized() {
  auto* const real = Real<decltype(ibv_is_fork_initialized)>(
      "ibv_is_fork_initialized", "IBVERBS_1.13");
  return real != nullptr && ForkNeedsCare() ? real() : IBV_FORK_UNNEEDED;
}

int ibv_get_pkey_index(ibv_context* context, uint8_t port, __be16 pkey) {
  if (!IsSoft(context)) {
    return ND_FORWARD(ibv_get_pkey_index, "1.5")(context, port, pkey);
  }
  if (port == 1 && pkey == htobe16(kOnlyPkey)) return 0;
  errno = EINVAL;
  return -1;
}

}  // extern "C"
