#include "base/fd.h"

#include <unistd.h>

namespace nd {

Fd::~Fd() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace nd
