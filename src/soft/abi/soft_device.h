// What the hooks and the forwarding stubs ask of the device.
#ifndef ND_SOFT_ABI_SOFT_DEVICE_H_
#define ND_SOFT_ABI_SOFT_DEVICE_H_

#include <infiniband/verbs.h>

#include <optional>

#include "soft/abi/path_view.h"

namespace nd::soft {

// Whether this process shall see the device. Any thread, and before any
// constructor has run; must not take a lock that may be held at fork.
bool SoftIsActive();

// The device as the file system is to show it, where SoftIsActive. The calling
// thread's hooks are off meanwhile. As SoftIsActive, but may allocate.
std::optional<PathFacts> CurrentPathFacts();

// Whether it is ours, not one of the real libibverbs.
bool IsSoftDevice(const ibv_device* device);

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_SOFT_DEVICE_H_
