#include "verbs/memory.h"

#include <sys/resource.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace nd::verbs {
namespace {

absl::Status RegistrationError(int error, const std::string& what,
                               size_t length) {
  if (error != ENOMEM) return ErrnoStatus(error, what);
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
      limit.rlim_cur == RLIM_INFINITY) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what,
                     ": the memory cannot be pinned (out of memory, or "
                     "the device has no more regions)"));
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      what, ": ", length, " bytes cannot be locked; the limit is ",
      limit.rlim_cur,
      " bytes for this process: raise it with `ulimit -l unlimited`, "
      "LimitMEMLOCK= of the systemd unit, or CAP_IPC_LOCK"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<ProtectionDomain>> ProtectionDomain::Create(
    std::shared_ptr<Context> context) {
  ibv_pd* pd = ibv_alloc_pd(context->get());
  if (pd == nullptr) {
    return ErrnoStatus(errno,
                       absl::StrCat("ibv_alloc_pd, device ", context->name()));
  }
  return std::shared_ptr<ProtectionDomain>(
      new ProtectionDomain(std::move(context), pd));
}

ProtectionDomain::ProtectionDomain(std::shared_ptr<Context> context, ibv_pd* pd)
    : context_(std::move(context)), pd_(pd) {}

ProtectionDomain::~ProtectionDomain() { ibv_dealloc_pd(pd_); }

absl::StatusOr<std::unique_ptr<MemoryRegion>> MemoryRegion::Register(
    std::shared_ptr<ProtectionDomain> pd, std::span<std::byte> memory,
    unsigned access) {
  const Context& context = *pd->context();
  if ((access & IBV_ACCESS_ON_DEMAND) != 0 &&
      (context.attr().odp_caps.general_caps & IBV_ODP_SUPPORT) == 0) {
    return absl::UnimplementedError(
        absl::StrCat("device ", context.name(), " has no on-demand paging"));
  }
  ibv_mr* mr = ibv_reg_mr(pd->get(), memory.data(), memory.size(), access);
  if (mr == nullptr) {
    return RegistrationError(
        errno,
        absl::StrCat("ibv_reg_mr of ", memory.size(), " bytes, access 0x",
                     absl::Hex(access), ", device ", context.name()),
        memory.size());
  }
  const uint64_t address = reinterpret_cast<uint64_t>(memory.data());
  return std::unique_ptr<MemoryRegion>(
      new MemoryRegion(std::move(pd), mr, address));
}

absl::StatusOr<std::unique_ptr<MemoryRegion>> MemoryRegion::RegisterDmaBuf(
    std::shared_ptr<ProtectionDomain> pd, const DmaBuf& buf, unsigned access) {
  ibv_mr* mr = ibv_reg_dmabuf_mr(pd->get(), buf.offset, buf.length, buf.iova,
                                 buf.fd, static_cast<int>(access));
  if (mr == nullptr) {
    return RegistrationError(
        errno,
        absl::StrCat("ibv_reg_dmabuf_mr of ", buf.length, " bytes, fd ", buf.fd,
                     ", device ", pd->context()->name()),
        buf.length);
  }
  return std::unique_ptr<MemoryRegion>(
      new MemoryRegion(std::move(pd), mr, buf.iova));
}

MemoryRegion::MemoryRegion(std::shared_ptr<ProtectionDomain> pd, ibv_mr* mr,
                           uint64_t address)
    : pd_(std::move(pd)), mr_(mr), address_(address) {}

MemoryRegion::~MemoryRegion() { ibv_dereg_mr(mr_); }

absl::StatusOr<std::unique_ptr<MemoryWindow>> MemoryWindow::Create(
    std::shared_ptr<ProtectionDomain> pd, ibv_mw_type type) {
  ibv_mw* mw = ibv_alloc_mw(pd->get(), type);
  if (mw == nullptr) {
    return ErrnoStatus(
        errno, absl::StrCat("ibv_alloc_mw of type ", static_cast<int>(type),
                            ", device ", pd->context()->name()));
  }
  return std::unique_ptr<MemoryWindow>(new MemoryWindow(std::move(pd), mw));
}

MemoryWindow::MemoryWindow(std::shared_ptr<ProtectionDomain> pd, ibv_mw* mw)
    : pd_(std::move(pd)), mw_(mw) {}

MemoryWindow::~MemoryWindow() { ibv_dealloc_mw(mw_); }

}  // namespace nd::verbs
