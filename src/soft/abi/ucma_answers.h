// What rdma_cm's character device tells the application, put into the kernel's
// structures. Pure.
#ifndef ND_SOFT_ABI_UCMA_ANSWERS_H_
#define ND_SOFT_ABI_UCMA_ANSWERS_H_

// The kernel's IPv6 structures give way to libc's where those come first.
#include <netinet/in.h>
#include <rdma/rdma_user_cm.h>

#include "soft/abi/ucma_event_type.h"
#include "soft/abi/ucma_id.h"
#include "soft/cm/events.h"

namespace nd::soft {

// What is the same for all ids.
struct UcmaDevice {
  uint64_t node_guid = 0;  // in network order
  uint32_t index = 0;
};

// rdma_ucm_query_path_resp with its record, if there is one.
struct UcmaPathAnswer {
  uint32_t num_paths = 0;
  uint32_t reserved = 0;
  ib_path_rec_data path{};
};

// RDMA_UDP_QKEY: what every datagram QP of rdma_cm's has.
inline constexpr uint32_t kUdpQkey = 0x01234567;

rdma_ucm_query_route_resp DescribeRoute(const UcmaId& id,
                                        const UcmaDevice& device);
rdma_ucm_query_addr_resp DescribeAddresses(const UcmaId& id,
                                           const UcmaDevice& device);
rdma_ucm_query_addr_resp DescribeGids(const UcmaId& id,
                                      const UcmaDevice& device);
ib_path_rec_data DescribePath(const UcmaPath& path);

// For a QP without a connection, `qp_state` an enum ibv_qp_state.
ib_uverbs_qp_attr DescribeQp(const UcmaId& id, uint32_t qp_state);
// For a QP of a connection.
ib_uverbs_qp_attr DescribeQp(const UcmaId& id, QpStage stage,
                             const CmQpParams& params, int gid_index);

// An event of the id's own.
rdma_ucm_event_resp DescribeEvent(const UcmaId& id, UcmaEventType type,
                                  int status);

// A group that an id joined.
struct UcmaGroup {
  uint32_t number = 0;  // of the join
  uint64_t uid = 0;     // the application's name for the join
  Gid group{};
};
// What came of it. The id's address stands at `gid_index` in the device's
// table, or is gone where that is negative.
rdma_ucm_event_resp DescribeJoin(const UcmaId& id, const UcmaGroup& joined,
                                 int gid_index);

// One of the manager's. `id` is the listener where it is a kConnectRequest.
rdma_ucm_event_resp DescribeEvent(const UcmaId& id, const CmEvent& event,
                                  int gid_index);

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_UCMA_ANSWERS_H_
