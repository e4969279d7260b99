// Protection domains, memory regions and windows, address handles.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "soft/abi/forward.h"
#include "soft/abi/objects.h"
#include "soft/device/grh.h"

namespace nd::soft {
namespace {

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

constexpr unsigned kServedAccess =
    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
    IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND | IBV_ACCESS_ZERO_BASED;

int Populate(uintptr_t address, size_t length, bool write) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = address & ~(page - 1);
  const uintptr_t end = (address + length + page - 1) & ~(page - 1);
  return madvise(reinterpret_cast<void*>(begin), end - begin,
                 write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

// Linux 5.14 and later can touch memory without the risk of a signal.
bool CanPopulate() {
  static const bool can = [] {
    int here = 0;
    return Populate(reinterpret_cast<uintptr_t>(&here), sizeof(here), true) ==
           0;
  }();
  return can;
}

// What a kernel finds when it pins the memory: whether it is there.
bool IsThere(const void* address, size_t length, unsigned access) {
  const auto start = reinterpret_cast<uintptr_t>(address);
  if (length == 0) return true;
  if (start + length < start) return false;
  if (!CanPopulate()) return true;
  return Populate(start, length, (access & IBV_ACCESS_LOCAL_WRITE) != 0) == 0;
}

ibv_mr* Register(ibv_pd* pd, void* address, size_t length, uint64_t iova,
                 unsigned access) {
  access &= ~static_cast<unsigned>(IBV_ACCESS_OPTIONAL_RANGE);
  if ((access & ~(kServedAccess | IBV_ACCESS_HUGETLB)) != 0) {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  if (!IsThere(address, length, access)) {
    errno = EFAULT;
    return nullptr;
  }
  SoftPd* const owner = SoftCast<SoftPd>(pd);
  const auto key = DeviceOf(pd->context)
                       .RegisterMemory({.pd = owner->id,
                                        .address = address,
                                        .length = length,
                                        .iova = iova,
                                        .access = access});
  if (!key.ok()) {
    SetErrno(key.status());
    return nullptr;
  }
  ++owner->users;
  auto* const mr = new SoftMr;
  mr->verbs = {.context = pd->context,
               .pd = pd,
               .addr = address,
               .length = length,
               .handle = *key,
               .lkey = *key,
               .rkey = *key};
  return &mr->verbs;
}

}  // namespace

ibv_mw* AllocateWindow(ibv_pd* pd, ibv_mw_type type) {
  Device& device = DeviceOf(pd->context);
  if (!device.limits().windows ||
      (type != IBV_MW_TYPE_1 && type != IBV_MW_TYPE_2)) {
    errno = device.limits().windows ? EINVAL : EOPNOTSUPP;
    return nullptr;
  }
  SoftPd* const owner = SoftCast<SoftPd>(pd);
  const auto key = device.AllocateWindow(owner->id, type);
  if (!key.ok()) {
    SetErrno(key.status());
    return nullptr;
  }
  ++owner->users;
  auto* const mw = new SoftMw;
  mw->verbs = {.context = pd->context,
               .pd = pd,
               .rkey = *key,
               .handle = *key,
               .type = type};
  return &mw->verbs;
}

int FreeWindow(ibv_mw* mw) {
  DeviceOf(mw->context).FreeWindow(mw->rkey);
  --SoftCast<SoftPd>(mw->pd)->users;
  delete SoftCast<SoftMw>(mw);
  return 0;
}

// The window has its new key at once; peers find it once its turn has come.
int BindWindow(ibv_qp* qp, ibv_mw* mw, ibv_mw_bind* bind) {
  const ibv_mw_bind_info& info = bind->bind_info;
  if (mw->type != IBV_MW_TYPE_1) return EINVAL;
  if (info.mr == nullptr && info.length != 0) return EINVAL;
  if (info.mr != nullptr && (info.mr->pd != mw->pd || mw->pd != qp->pd)) {
    return EPERM;
  }
  const uint32_t new_key = MemoryTable::NextKey(mw->rkey);
  const int error = DeviceOf(qp->context)
                        .PostBind(*SoftCast<SoftQp>(qp)->queue, bind->wr_id,
                                  bind->send_flags, mw->rkey, new_key,
                                  {.region_key = info.mr ? info.mr->lkey : 0,
                                   .address = info.addr,
                                   .length = info.length,
                                   .access = info.mw_access_flags});
  if (error == 0) mw->rkey = new_key;
  return error;
}

}  // namespace nd::soft

using namespace nd::soft;  // NOLINT: what follows is C

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

extern "C" {

ibv_pd* ibv_alloc_pd(ibv_context* context) {
  if (!IsSoft(context)) return ND_FORWARD(ibv_alloc_pd, "1.1")(context);
  const auto id = DeviceOf(context).AllocatePd();
  if (!id.ok()) {
    SetErrno(id.status());
    return nullptr;
  }
  auto* const pd = new SoftPd;
  pd->verbs = {.context = context, .handle = static_cast<uint32_t>(*id)};
  pd->id = *id;
  AddImportable(*pd);
  return &pd->verbs;
}

int ibv_dealloc_pd(ibv_pd* pd) {
  if (!IsSoft(pd->context)) return ND_FORWARD(ibv_dealloc_pd, "1.1")(pd);
  SoftPd* soft = SoftCast<SoftPd>(pd);
  if (soft->imported_from != nullptr) soft = soft->imported_from;
  if (!RemoveImportable(*soft)) return EBUSY;
  DeviceOf(pd->context).FreePd();
  delete soft;
  return 0;
}

ibv_mr* ibv_reg_mr(ibv_pd* pd, void* address, size_t length, int access) {
  if (!IsSoft(pd->context)) {
    return ND_FORWARD(ibv_reg_mr, "1.1")(pd, address, length, access);
  }
  return Register(pd, address, length, reinterpret_cast<uintptr_t>(address),
                  static_cast<unsigned>(access));
}

ibv_mr* ibv_reg_mr_iova(ibv_pd* pd, void* address, size_t length, uint64_t iova,
                        int access) {
  if (!IsSoft(pd->context)) {
    return ND_FORWARD(ibv_reg_mr_iova, "1.7")(pd, address, length, iova,
                                              access);
  }
  return Register(pd, address, length, iova, static_cast<unsigned>(access));
}

ibv_mr* ibv_reg_mr_iova2(ibv_pd* pd, void* address, size_t length,
                         uint64_t iova, unsigned access) {
  if (!IsSoft(pd->context)) {
    return ND_FORWARD(ibv_reg_mr_iova2, "1.8")(pd, address, length, iova,
                                               access);
  }
  return Register(pd, address, length, iova, access);
}

ibv_mr* ibv_reg_dmabuf_mr(ibv_pd* pd, uint64_t offset, size_t length,
                          uint64_t iova, int fd, int access) {
  if (!IsSoft(pd->context)) {
    return ND_FORWARD(ibv_reg_dmabuf_mr, "1.12")(pd, offset, length, iova, fd,
                                                 access);
  }
  errno = EOPNOTSUPP;
  return nullptr;
}

int ibv_rereg_mr(ibv_mr* mr, int flags, ibv_pd* pd, void* address,
                 size_t length, int access) {
  if (!IsSoft(mr->context)) {
    return ND_FORWARD(ibv_rereg_mr, "1.1")(mr, flags, pd, address, length,
                                           access);
  }
  constexpr int kFlags = IBV_REREG_MR_CHANGE_TRANSLATION |
                         IBV_REREG_MR_CHANGE_PD | IBV_REREG_MR_CHANGE_ACCESS;
  const bool moves = (flags & IBV_REREG_MR_CHANGE_TRANSLATION) != 0;
  const bool changes_pd = (flags & IBV_REREG_MR_CHANGE_PD) != 0;
  if ((flags & ~kFlags) != 0 || flags == 0 || (changes_pd && pd == nullptr) ||
      (moves && (address == nullptr || length == 0))) {
    errno = EINVAL;
    return IBV_REREG_MR_ERR_INPUT;
  }
  std::optional<unsigned> rights;
  if ((flags & IBV_REREG_MR_CHANGE_ACCESS) != 0) {
    rights = static_cast<unsigned>(access) &
             ~static_cast<unsigned>(IBV_ACCESS_OPTIONAL_RANGE);
    if ((*rights & ~kServedAccess) != 0) {
      errno = EOPNOTSUPP;
      return IBV_REREG_MR_ERR_INPUT;
    }
  }
  if (moves && !IsThere(address, length, rights.value_or(0))) {
    errno = EFAULT;
    return IBV_REREG_MR_ERR_INPUT;
  }
  const absl::Status changed =
      DeviceOf(mr->context)
          .ChangeMemory(
              mr->lkey,
              {.pd = changes_pd ? std::optional(SoftCast<SoftPd>(pd)->id)
                                : std::nullopt,
               .range = moves
                            ? std::optional(MemoryTable::Range{address, length})
                            : std::nullopt,
               .access = rights});
  if (!changed.ok()) {
    SetErrno(changed);
    return IBV_REREG_MR_ERR_CMD;
  }
  if (changes_pd) {
    --SoftCast<SoftPd>(mr->pd)->users;
    ++SoftCast<SoftPd>(pd)->users;
    mr->pd = pd;
  }
  if (moves) {
    mr->addr = address;
    mr->length = length;
  }
  return 0;
}

int ibv_dereg_mr(ibv_mr* mr) {
  if (!IsSoft(mr->context)) return ND_FORWARD(ibv_dereg_mr, "1.1")(mr);
  const absl::Status gone = DeviceOf(mr->context).DeregisterMemory(mr->lkey);
  if (!gone.ok()) return absl::IsNotFound(gone) ? EINVAL : EBUSY;
  --SoftCast<SoftPd>(mr->pd)->users;
  delete SoftCast<SoftMr>(mr);
  return 0;
}

ibv_ah* ibv_create_ah(ibv_pd* pd, ibv_ah_attr* attr) {
  if (!IsSoft(pd->context)) return ND_FORWARD(ibv_create_ah, "1.1")(pd, attr);
  const auto path = DeviceOf(pd->context).PathOf(*attr);
  if (!path) {
    errno = EINVAL;
    return nullptr;
  }
  SoftPd* const owner = SoftCast<SoftPd>(pd);
  ++owner->users;
  auto* const ah = new SoftAh;
  ah->handle.verbs = {.context = pd->context, .pd = pd, .handle = 0};
  ah->handle.pd = owner->id;
  ah->handle.path = *path;
  return &ah->handle.verbs;
}

int ibv_destroy_ah(ibv_ah* ah) {
  if (!IsSoft(ah->context)) return ND_FORWARD(ibv_destroy_ah, "1.1")(ah);
  --SoftCast<SoftPd>(ah->pd)->users;
  delete SoftCast<SoftAh>(ah);
  return 0;
}

int ibv_init_ah_from_wc(ibv_context* context, uint8_t port, ibv_wc* wc,
                        ibv_grh* grh, ibv_ah_attr* attr) {
  if (!IsSoft(context)) {
    return ND_FORWARD(ibv_init_ah_from_wc, "1.1")(context, port, wc, grh, attr);
  }
  std::memset(attr, 0, sizeof(*attr));
  const auto path = ReadGrh(std::span<const std::byte, kGrhBytes>(
      reinterpret_cast<const std::byte*>(grh), kGrhBytes));
  const auto index = path && (wc->wc_flags & IBV_WC_GRH) != 0
                         ? DeviceOf(context).GidIndex(path->source)
                         : std::nullopt;
  if (!index) {
    errno = EINVAL;
    return -1;
  }
  attr->is_global = 1;
  attr->port_num = port;
  std::ranges::copy(path->destination, attr->grh.dgid.raw);
  attr->grh.sgid_index = static_cast<uint8_t>(*index);
  attr->grh.flow_label = path->flow_label;
  attr->grh.hop_limit = path->hop_limit;
  attr->grh.traffic_class = path->traffic_class;
  return 0;
}

ibv_ah* ibv_create_ah_from_wc(ibv_pd* pd, ibv_wc* wc, ibv_grh* grh,
                              uint8_t port) {
  if (!IsSoft(pd->context)) {
    return ND_FORWARD(ibv_create_ah_from_wc, "1.1")(pd, wc, grh, port);
  }
  ibv_ah_attr attr;
  if (ibv_init_ah_from_wc(pd->context, port, wc, grh, &attr) != 0) {
    return nullptr;
  }
  return ibv_create_ah(pd, &attr);
}

}  // extern "C"
