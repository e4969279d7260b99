// Public symbols of libibverbs that are newer than the header we are built
// with, where they take an object that may be ours. The others cannot meet one.
// What is not known here by its type is passed on as a pointer.
#include <infiniband/verbs.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "soft/abi/real_verbs.h"
#include "soft/abi/soft_device.h"

namespace nd::soft {
namespace {

template <typename Object>
bool IsSoft(const Object* object) {
  return IsSoftDevice(object->context->device);
}
bool IsSoft(const ibv_context* context) {
  return IsSoftDevice(context->device);
}

// What failed: null and errno.
template <typename Object, typename... Args>
void* PointerOf(const char* symbol, const char* version, Object* object,
                Args... args) {
  auto* real =
      IsSoft(object) ? nullptr : Real<void*(Object*, Args...)>(symbol, version);
  if (real != nullptr) return real(object, args...);
  errno = EOPNOTSUPP;
  return nullptr;
}

// What failed: an errno.
template <typename Object, typename... Args>
int ErrorOf(const char* symbol, const char* version, Object* object,
            Args... args) {
  auto* real =
      IsSoft(object) ? nullptr : Real<int(Object*, Args...)>(symbol, version);
  return real != nullptr ? real(object, args...) : EOPNOTSUPP;
}

}  // namespace

extern "C" {

void* ibv_alloc_dmah(ibv_context* context, void* attr) {
  return PointerOf("ibv_alloc_dmah", "IBVERBS_1.15", context, attr);
}

void* ibv_reg_mr_ex(ibv_pd* pd, void* attr) {
  return PointerOf("ibv_reg_mr_ex", "IBVERBS_1.15", pd, attr);
}

int ibv_query_port_speed(ibv_context* context, uint32_t port, uint64_t* speed) {
  return ErrorOf("ibv_query_port_speed", "IBVERBS_1.16", context, port, speed);
}

void* ibv_alloc_buf(ibv_pd* pd, size_t size, void** buffer) {
  return PointerOf("ibv_alloc_buf", "IBVERBS_1.17", pd, size, buffer);
}

void* ibv_reg_buf_mr(ibv_pd* pd, void* buffer, void* address, size_t length,
                     int access) {
  return PointerOf("ibv_reg_buf_mr", "IBVERBS_1.17", pd, buffer, address,
                   length, access);
}

int _ibv_query_comp_cntr_caps(ibv_context* context, void* caps, size_t size) {
  return ErrorOf("_ibv_query_comp_cntr_caps", "IBVERBS_1.18", context, caps,
                 size);
}

void* ibv_create_comp_cntr(ibv_context* context, void* attr) {
  return PointerOf("ibv_create_comp_cntr", "IBVERBS_1.18", context, attr);
}

int ibv_qp_attach_comp_cntr(ibv_qp* qp, void* counter, void* attr) {
  return ErrorOf("ibv_qp_attach_comp_cntr", "IBVERBS_1.18", qp, counter, attr);
}

}  // extern "C"
}  // namespace nd::soft
