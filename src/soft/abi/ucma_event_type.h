// The events of rdma_cm, as <rdma/rdma_cma.h> counts them: that header and the
// kernel's <rdma/rdma_user_cm.h> cannot both be included.
#ifndef ND_SOFT_ABI_UCMA_EVENT_TYPE_H_
#define ND_SOFT_ABI_UCMA_EVENT_TYPE_H_

#include <cstdint>

namespace nd::soft {

enum class UcmaEventType : uint32_t {
  kAddrResolved = 0,
  kAddrError = 1,
  kRouteResolved = 2,
  kConnectRequest = 4,
  kConnectResponse = 5,
  kUnreachable = 7,
  kRejected = 8,
  kEstablished = 9,
  kDisconnected = 10,
  kDeviceRemoval = 11,
  kMulticastJoin = 12,
  kMulticastError = 13,
  kTimewaitExit = 15,
};

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_UCMA_EVENT_TYPE_H_
