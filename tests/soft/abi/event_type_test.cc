// The events' numbers, beside the ones that programs are compiled with.
#include <rdma/rdma_cma.h>

#include "soft/abi/ucma_event_type.h"

namespace nd::soft {
namespace {

constexpr bool Same(UcmaEventType ours, rdma_cm_event_type theirs) {
  return static_cast<uint32_t>(ours) == static_cast<uint32_t>(theirs);
}

static_assert(Same(UcmaEventType::kAddrResolved, RDMA_CM_EVENT_ADDR_RESOLVED));
static_assert(Same(UcmaEventType::kAddrError, RDMA_CM_EVENT_ADDR_ERROR));
static_assert(Same(UcmaEventType::kRouteResolved,
                   RDMA_CM_EVENT_ROUTE_RESOLVED));
static_assert(Same(UcmaEventType::kConnectRequest,
                   RDMA_CM_EVENT_CONNECT_REQUEST));
static_assert(Same(UcmaEventType::kConnectResponse,
                   RDMA_CM_EVENT_CONNECT_RESPONSE));
static_assert(Same(UcmaEventType::kUnreachable, RDMA_CM_EVENT_UNREACHABLE));
static_assert(Same(UcmaEventType::kRejected, RDMA_CM_EVENT_REJECTED));
static_assert(Same(UcmaEventType::kEstablished, RDMA_CM_EVENT_ESTABLISHED));
static_assert(Same(UcmaEventType::kDisconnected, RDMA_CM_EVENT_DISCONNECTED));
static_assert(Same(UcmaEventType::kDeviceRemoval,
                   RDMA_CM_EVENT_DEVICE_REMOVAL));
static_assert(Same(UcmaEventType::kMulticastJoin,
                   RDMA_CM_EVENT_MULTICAST_JOIN));
static_assert(Same(UcmaEventType::kMulticastError,
                   RDMA_CM_EVENT_MULTICAST_ERROR));
static_assert(Same(UcmaEventType::kTimewaitExit, RDMA_CM_EVENT_TIMEWAIT_EXIT));

}  // namespace
}  // namespace nd::soft
