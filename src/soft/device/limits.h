// What the device can do, as it advertises it.
#ifndef ND_SOFT_DEVICE_LIMITS_H_
#define ND_SOFT_DEVICE_LIMITS_H_

#include <cstdint>

namespace nd::soft {

// Of one process, unless it says otherwise. Objects are modest in number: some
// programs create as many as a device has.
struct Limits {
  uint32_t max_pds = 4096;
  uint32_t max_regions = 32768;  // and windows
  uint32_t max_cqs = 8192;
  uint32_t max_cqes = 1 << 22;
  uint32_t max_srqs = 1024;
  uint32_t max_qps = 8192;
  uint32_t max_ahs = 32768;
  uint32_t max_wrs = 16384;  // of a queue
  uint32_t max_sges = 32;
  uint32_t max_inline = 1024;    // bytes
  uint32_t max_rd_atomic = 128;  // of a QP, each way
  uint32_t max_groups = 256;     // multicast groups; 0: there are none
  uint32_t max_group_qps = 256;  // of a group
  uint32_t gid_places = 32;      // of the port; more where the host has more
  bool windows = true;
  bool srqs = true;
};

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_LIMITS_H_
