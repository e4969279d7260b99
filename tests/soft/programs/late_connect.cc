// Preloaded into a client of rdma_cm, it has the client connect a while after
// it decided to. perftest's server tells its client to connect a second time
// and listens only after that, and so a client that is faster than the server
// is rejected; no order in which the programs are started changes that.
#include <dlfcn.h>
#include <rdma/rdma_cma.h>
#include <unistd.h>

namespace {

constexpr useconds_t kLateUs = 300'000;

}  // namespace

extern "C" int rdma_connect(rdma_cm_id* id, rdma_conn_param* parameters) {
  static const auto connect =
      reinterpret_cast<int (*)(rdma_cm_id*, rdma_conn_param*)>(
          dlsym(RTLD_NEXT, "rdma_connect"));
  usleep(kLateUs);
  return connect(id, parameters);
}
