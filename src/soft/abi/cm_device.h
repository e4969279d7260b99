// /dev/infiniband/rdma_cm as libc's calls see it: what the hooks hand their
// arguments to. All are safe from any thread.
#ifndef ND_SOFT_ABI_CM_DEVICE_H_
#define ND_SOFT_ABI_CM_DEVICE_H_

#include <sys/types.h>

#include <cstddef>

namespace nd::soft {

// open(2): a descriptor, an eventfd in truth, or -1 and errno.
int OpenCmDevice(int flags);

// Whether `fd` is one of them still: it may have been closed, or be another
// file by now, without our knowing.
bool IsCmDevice(int fd);

// write(2) of a command: its bytes, or -1 and errno. Only where IsCmDevice.
ssize_t WriteCmDevice(int fd, const void* command, size_t bytes);

// `made` is `fd` once more, which IsCmDevice: the file is open until both are
// closed.
void DuplicateCmDevice(int fd, int made);

// `fd` is about to be closed by whoever calls this.
void CloseCmDevice(int fd);

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_CM_DEVICE_H_
