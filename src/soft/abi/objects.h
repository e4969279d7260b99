// The objects that verbs hands out: the part that applications know, which
// comes first, and ours behind it.
#ifndef ND_SOFT_ABI_OBJECTS_H_
#define ND_SOFT_ABI_OBJECTS_H_

#include <infiniband/verbs.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "base/lock.h"
#include "soft/abi/soft_device.h"
#include "soft/device/device.h"
#include "soft/net/device_fds.h"

namespace nd::soft {

// Of `to`, whose first member is what verbs knows.
template <typename To, typename From>
To* SoftCast(From* from) {
  return reinterpret_cast<To*>(from);
}

struct SoftContext {
  verbs_context verbs{};
  Device* device = nullptr;
  std::unique_ptr<AsyncEvents> events;
  ShownFd command;  // its copies say which device it is

  static SoftContext* Of(ibv_context* context) {
    return reinterpret_cast<SoftContext*>(reinterpret_cast<char*>(context) -
                                          offsetof(verbs_context, context));
  }
};
inline Device& DeviceOf(ibv_context* context) {
  return *SoftContext::Of(context)->device;
}

// Counts those that refer to an object: it cannot go before them.
using Users = std::atomic<int>;

struct SoftPd {
  ibv_pd verbs{};
  PdId id{};
  Users users{0};
  // Other contexts' handles to it, which live as long as it does; of one of
  // those: what it was imported from.
  std::vector<std::unique_ptr<SoftPd>> imports;
  SoftPd* imported_from = nullptr;
};

struct SoftMr {
  ibv_mr verbs{};
};

struct SoftMw {
  ibv_mw verbs{};
};

struct SoftAh {
  AddressHandle handle;  // begins with verbs'
};

struct SoftChannel {
  explicit SoftChannel(EventFd fd) : events(std::move(fd)) {}

  ibv_comp_channel verbs{};
  CompletionChannel events;
  Users users{0};
};

struct SoftCq {
  ibv_cq_ex verbs{};
  std::unique_ptr<CompletionQueue> queue;
  std::atomic<uint32_t> events_taken{0};
  std::atomic<uint32_t> async_taken{0};
  Users users{0};

  // From start_poll to end_poll.
  Lock polling;
  ibv_wc current{};

  ibv_cq* plain() { return ibv_cq_ex_to_cq(&verbs); }
};

struct SoftSrq {
  ibv_srq verbs{};
  std::unique_ptr<SharedReceiveQueue> queue;
  std::atomic<uint32_t> async_taken{0};
  Users users{0};
};

// A request between ibv_wr_start and ibv_wr_complete.
struct BuiltRequest {
  ibv_send_wr wr{};
  std::vector<ibv_sge> sges;
  std::vector<std::byte> inline_data;
};

struct SoftQp {
  ibv_qp_ex verbs{};
  QueuePair* queue = nullptr;
  ibv_qp_init_attr init{};
  std::atomic<uint32_t> async_taken{0};

  // From ibv_wr_start to ibv_wr_complete or ibv_wr_abort.
  Lock building;
  std::vector<BuiltRequest> built;  // the first `requests` count
  size_t requests = 0;

  ibv_qp* plain() { return &verbs.qp_base; }
};

// Says in errno what a status means, and returns that.
int SetErrno(const absl::Status& status);

inline bool IsSoft(const ibv_context* context) {
  return IsSoftDevice(context->device);
}

// A descriptor whose copies ibv_import_device takes for this process's device.
Fd MakeCommandFd(const Device& device);
// Null: errno says why.
ibv_context* MakeContext(Device& device, Fd command);

// Protection domains can be imported from their allocation until they go.
void AddImportable(SoftPd& pd);
// False: it is in use.
[[nodiscard]] bool RemoveImportable(SoftPd& pd);

// Before an object goes: takes back its events that nobody has seen, and waits
// for the acknowledgement of the others.
void SettleAsyncEvents(SoftQp& qp);
void SettleAsyncEvents(SoftSrq& srq);

// ---- What the context's tables point to.
int PollCq(ibv_cq* cq, int count, ibv_wc* wc);
int RequestNotify(ibv_cq* cq, int solicited_only);
ibv_cq_ex* CreateCqEx(ibv_context* context, ibv_cq_init_attr_ex* attr);
ibv_mw* AllocateWindow(ibv_pd* pd, ibv_mw_type type);
int BindWindow(ibv_qp* qp, ibv_mw* mw, ibv_mw_bind* bind);
int FreeWindow(ibv_mw* mw);
int PostSend(ibv_qp* qp, ibv_send_wr* wr, ibv_send_wr** bad);
int PostReceive(ibv_qp* qp, ibv_recv_wr* wr, ibv_recv_wr** bad);
int PostSrqReceive(ibv_srq* srq, ibv_recv_wr* wr, ibv_recv_wr** bad);
ibv_qp* CreateQpEx(ibv_context* context, ibv_qp_init_attr_ex* attr);
ibv_srq* CreateSrqEx(ibv_context* context, ibv_srq_init_attr_ex* attr);
int QueryPort(ibv_context* context, uint8_t port, ibv_port_attr* attr,
              size_t attr_bytes);
int QueryDeviceEx(ibv_context* context, const ibv_query_device_ex_input* input,
                  ibv_device_attr_ex* attr, size_t attr_bytes);

// Fills ibv_qp_ex's pointers.
void SetUpBuilder(ibv_qp_ex& qp);

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_OBJECTS_H_
