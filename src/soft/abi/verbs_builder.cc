// ibv_wr_*: requests that are built by calls and posted together.
#include <cerrno>
#include <cstring>

#include "absl/base/attributes.h"
#include "soft/abi/objects.h"

namespace nd::soft {
namespace {

SoftQp& SoftOf(ibv_qp_ex* qp) { return *SoftCast<SoftQp>(qp); }

void Start(ibv_qp_ex* qp) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  SoftOf(qp).building.Acquire();
  SoftOf(qp).requests = 0;
}

void Abort(ibv_qp_ex* qp) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  SoftOf(qp).building.Release();
}

ABSL_ATTRIBUTE_HOT BuiltRequest& Add(ibv_qp_ex* qp, ibv_wr_opcode opcode) {
  SoftQp& soft = SoftOf(qp);
  if (soft.requests == soft.built.size()) soft.built.emplace_back();
  BuiltRequest& request = soft.built[soft.requests++];
  request.wr = {};
  request.wr.wr_id = qp->wr_id;
  request.wr.send_flags = qp->wr_flags & ~unsigned{IBV_SEND_INLINE};
  request.wr.opcode = opcode;
  request.sges.clear();
  return request;
}

BuiltRequest& Last(ibv_qp_ex* qp) {
  SoftQp& soft = SoftOf(qp);
  return soft.built[soft.requests - 1];
}

// Posts all or nothing.
ABSL_ATTRIBUTE_HOT int Complete(ibv_qp_ex* qp) {
  SoftQp& soft = SoftOf(qp);
  int error = 0;
  ibv_send_wr* next = nullptr;
  for (size_t i = soft.requests; i-- > 0;) {
    BuiltRequest& request = soft.built[i];
    request.wr.sg_list = request.sges.data();
    request.wr.num_sge = static_cast<int>(request.sges.size());
    request.wr.next = next;
    next = &request.wr;
  }
  if (next != nullptr) {
    ibv_send_wr* bad = nullptr;
    error = DeviceOf(soft.plain()->context)
                .PostSend(*soft.queue, next, &bad, soft.requests);
  }
  Abort(qp);
  return error;
}

void SetRdma(ibv_send_wr& wr, uint32_t rkey, uint64_t address) {
  wr.wr.rdma = {.remote_addr = address, .rkey = rkey};
}

void Write(ibv_qp_ex* qp, uint32_t rkey, uint64_t address) {
  SetRdma(Add(qp, IBV_WR_RDMA_WRITE).wr, rkey, address);
}

void WriteImm(ibv_qp_ex* qp, uint32_t rkey, uint64_t address, __be32 data) {
  ibv_send_wr& wr = Add(qp, IBV_WR_RDMA_WRITE_WITH_IMM).wr;
  SetRdma(wr, rkey, address);
  wr.imm_data = data;
}

void Read(ibv_qp_ex* qp, uint32_t rkey, uint64_t address) {
  SetRdma(Add(qp, IBV_WR_RDMA_READ).wr, rkey, address);
}

void CompareSwap(ibv_qp_ex* qp, uint32_t rkey, uint64_t address,
                 uint64_t compare, uint64_t swap) {
  Add(qp, IBV_WR_ATOMIC_CMP_AND_SWP).wr.wr.atomic = {.remote_addr = address,
                                                     .compare_add = compare,
                                                     .swap = swap,
                                                     .rkey = rkey};
}

void FetchAdd(ibv_qp_ex* qp, uint32_t rkey, uint64_t address, uint64_t add) {
  Add(qp, IBV_WR_ATOMIC_FETCH_AND_ADD).wr.wr.atomic = {
      .remote_addr = address, .compare_add = add, .swap = 0, .rkey = rkey};
}

void Send(ibv_qp_ex* qp) { Add(qp, IBV_WR_SEND); }

void SendImm(ibv_qp_ex* qp, __be32 data) {
  Add(qp, IBV_WR_SEND_WITH_IMM).wr.imm_data = data;
}

void SendInv(ibv_qp_ex* qp, uint32_t rkey) {
  Add(qp, IBV_WR_SEND_WITH_INV).wr.invalidate_rkey = rkey;
}

void LocalInv(ibv_qp_ex* qp, uint32_t rkey) {
  Add(qp, IBV_WR_LOCAL_INV).wr.invalidate_rkey = rkey;
}

void BindMw(ibv_qp_ex* qp, ibv_mw* mw, uint32_t rkey,
            const ibv_mw_bind_info* info) {
  Add(qp, IBV_WR_BIND_MW).wr.bind_mw = {
      .mw = mw, .rkey = rkey, .bind_info = *info};
}

void SetUdAddress(ibv_qp_ex* qp, ibv_ah* ah, uint32_t qpn, uint32_t qkey) {
  Last(qp).wr.wr.ud = {.ah = ah, .remote_qpn = qpn, .remote_qkey = qkey};
}

void SetSge(ibv_qp_ex* qp, uint32_t lkey, uint64_t address, uint32_t length) {
  if (length == 0) return;
  Last(qp).sges.push_back({.addr = address, .length = length, .lkey = lkey});
}

void SetSgeList(ibv_qp_ex* qp, size_t count, const ibv_sge* list) {
  Last(qp).sges.assign(list, list + count);
}

// The data is taken now: the application may use its memory again.
ABSL_ATTRIBUTE_HOT void SetInlineDataList(ibv_qp_ex* qp, size_t count,
                                          const ibv_data_buf* list) {
  BuiltRequest& request = Last(qp);
  request.inline_data.clear();
  for (const ibv_data_buf& buffer : std::span(list, count)) {
    const auto* const bytes = static_cast<const std::byte*>(buffer.addr);
    request.inline_data.insert(request.inline_data.end(), bytes,
                               bytes + buffer.length);
  }
  request.wr.send_flags |= IBV_SEND_INLINE;
  request.sges.push_back(
      {.addr = reinterpret_cast<uintptr_t>(request.inline_data.data()),
       .length = static_cast<uint32_t>(request.inline_data.size()),
       .lkey = 0});
}

ABSL_ATTRIBUTE_HOT void SetInlineData(ibv_qp_ex* qp, void* address,
                                      size_t length) {
  const ibv_data_buf buffer{.addr = address, .length = length};
  SetInlineDataList(qp, 1, &buffer);
}

}  // namespace

void SetUpBuilder(ibv_qp_ex& qp) {
  qp.wr_start = Start;
  qp.wr_complete = Complete;
  qp.wr_abort = Abort;
  qp.wr_rdma_write = Write;
  qp.wr_rdma_write_imm = WriteImm;
  qp.wr_rdma_read = Read;
  qp.wr_atomic_cmp_swp = CompareSwap;
  qp.wr_atomic_fetch_add = FetchAdd;
  qp.wr_send = Send;
  qp.wr_send_imm = SendImm;
  qp.wr_send_inv = SendInv;
  qp.wr_local_inv = LocalInv;
  qp.wr_bind_mw = BindMw;
  qp.wr_set_ud_addr = SetUdAddress;
  qp.wr_set_sge = SetSge;
  qp.wr_set_sge_list = SetSgeList;
  qp.wr_set_inline_data = SetInlineData;
  qp.wr_set_inline_data_list = SetInlineDataList;
}

}  // namespace nd::soft
