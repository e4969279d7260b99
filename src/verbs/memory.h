// Protection domains, memory regions and memory windows.
#ifndef ND_VERBS_MEMORY_H_
#define ND_VERBS_MEMORY_H_

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "verbs/device.h"

namespace nd::verbs {

// Thread-safe. What is made in it keeps it alive.
class ProtectionDomain {
 public:
  static absl::StatusOr<std::shared_ptr<ProtectionDomain>> Create(
      std::shared_ptr<Context> context);

  ~ProtectionDomain();
  ProtectionDomain(const ProtectionDomain&) = delete;
  ProtectionDomain& operator=(const ProtectionDomain&) = delete;

  const std::shared_ptr<Context>& context() const { return context_; }
  ibv_pd* get() const { return pd_; }

 private:
  ProtectionDomain(std::shared_ptr<Context> context, ibv_pd* pd);

  const std::shared_ptr<Context> context_;
  ibv_pd* const pd_;
};

// Registered memory. It does not own the memory, which must outlive it.
// Immutable, so thread-safe.
class MemoryRegion {
 public:
  // Registers `memory` for `access` (IBV_ACCESS_*). IBV_ACCESS_ON_DEMAND on a
  // device without on-demand paging is UNIMPLEMENTED; a locked-memory limit
  // that is too low is RESOURCE_EXHAUSTED and says how to raise it.
  static absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(
      std::shared_ptr<ProtectionDomain> pd, std::span<std::byte> memory,
      unsigned access);

  // Registers `length` bytes from `offset` of a dma-buf; `iova` is the address
  // by which work requests name its first byte. UNIMPLEMENTED where the
  // provider has no dma-buf support.
  struct DmaBuf {
    int fd = -1;
    uint64_t offset = 0;
    size_t length = 0;
    uint64_t iova = 0;
  };
  static absl::StatusOr<std::unique_ptr<MemoryRegion>> RegisterDmaBuf(
      std::shared_ptr<ProtectionDomain> pd, const DmaBuf& buf, unsigned access);

  ~MemoryRegion();
  MemoryRegion(const MemoryRegion&) = delete;
  MemoryRegion& operator=(const MemoryRegion&) = delete;

  const std::shared_ptr<ProtectionDomain>& pd() const { return pd_; }
  uint64_t address() const { return address_; }
  size_t size() const { return mr_->length; }
  uint32_t lkey() const { return mr_->lkey; }
  uint32_t rkey() const { return mr_->rkey; }
  ibv_mr* get() const { return mr_; }

  // A scatter/gather element of `length` bytes from `offset`; the caller keeps
  // it within size().
  ibv_sge Sge(size_t offset, uint32_t length) const {
    return {.addr = address_ + offset, .length = length, .lkey = mr_->lkey};
  }

 private:
  MemoryRegion(std::shared_ptr<ProtectionDomain> pd, ibv_mr* mr,
               uint64_t address);

  const std::shared_ptr<ProtectionDomain> pd_;
  ibv_mr* const mr_;
  const uint64_t address_;
};

// A window onto a part of a region, with its own R_Key (IBA 10.6.7). Type 1 is
// bound by QueuePair::BindWindow, type 2 by a work request IBV_WR_BIND_MW.
// The region that it is bound to must outlive the binding.
class MemoryWindow {
 public:
  static absl::StatusOr<std::unique_ptr<MemoryWindow>> Create(
      std::shared_ptr<ProtectionDomain> pd, ibv_mw_type type);

  ~MemoryWindow();
  MemoryWindow(const MemoryWindow&) = delete;
  MemoryWindow& operator=(const MemoryWindow&) = delete;

  ibv_mw_type type() const { return mw_->type; }
  uint32_t rkey() const { return mw_->rkey; }

  // The key of the next type 2 binding: the same index, the next low byte.
  uint32_t NextRkey() const { return ibv_inc_rkey(mw_->rkey); }
  // Records the key with which a type 2 binding was posted.
  void set_rkey(uint32_t rkey) { mw_->rkey = rkey; }
  ibv_mw* get() const { return mw_; }

 private:
  MemoryWindow(std::shared_ptr<ProtectionDomain> pd, ibv_mw* mw);

  const std::shared_ptr<ProtectionDomain> pd_;
  ibv_mw* const mw_;
};

}  // namespace nd::verbs

#endif  // ND_VERBS_MEMORY_H_
