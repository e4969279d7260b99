// Uses the hooks from a constructor that runs before theirs could: preloaded
// after them, it is initialised before.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

namespace {

[[gnu::constructor]] void CallEarly() {
  const int fd = open("/dev/infiniband/rdma_cm", O_RDWR);
  struct stat status = {};
  const bool right = fd >= 0 && fstat(fd, &status) == 0 &&
                     S_ISCHR(status.st_mode) && write(fd, "e", 1) == 1 &&
                     close(fd) == 0 && dlopen("libm.so.6", RTLD_NOW) &&
                     dlopen("libibverbs.so.1", RTLD_NOW) &&
                     access("/sys/class/infiniband/nd0", F_OK) == 0;
  if (!right) _exit(99);
}

}  // namespace
