// Descriptors of rdma_cm's character device, among all others.
#ifndef ND_SOFT_ABI_FD_HOOKS_H_
#define ND_SOFT_ABI_FD_HOOKS_H_

#include <sys/types.h>

namespace nd::soft {

// open(2) of the device: a descriptor that the hooks know from now on.
int OpenMarkedCmDevice(int flags);

// Whether it is the device and this process opened it. Where it is not, a test
// of one bit as a rule.
bool IsOurFd(int fd);

// The number of the character device: the kernel's, where it has one, since
// librdmacm may have asked the kernel for it.
dev_t CmDeviceNumber();

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_FD_HOOKS_H_
