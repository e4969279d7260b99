// The public symbols of libibverbs that the soft device has no use for. With an
// object of a real device they do what the real ones do; with one of ours they
// say EOPNOTSUPP. All are there, since the real ones would take our objects for
// theirs.
#include <infiniband/verbs.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "soft/abi/real_verbs.h"
#include "soft/abi/soft_device.h"

namespace nd::soft {
namespace {

bool IsSoft(const ibv_context* context) {
  return IsSoftDevice(context->device);
}

// The real function's answer, or `otherwise` where there is none.
template <typename F, typename R, typename... Args>
R Forward(F* real, R otherwise, Args... args) {
  if (real != nullptr) return real(args...);
  errno = ENOSYS;
  return otherwise;
}

template <typename F, typename... Args>
void ForwardVoid(F* real, Args... args) {
  if (real != nullptr) real(args...);
}

}  // namespace
}  // namespace nd::soft

#define ND_REAL(symbol, version) \
  nd::soft::Real<decltype(symbol)>(#symbol, version)

using nd::soft::Forward;
using nd::soft::ForwardVoid;
using nd::soft::IsSoft;

extern "C" {

// librdmacm's and the providers' own, without a header.
void ibv_copy_ah_attr_from_kern(void* to, const void* from);
void ibv_copy_path_rec_from_kern(void* to, const void* from);
void ibv_copy_path_rec_to_kern(void* to, const void* from);
void ibv_copy_qp_attr_from_kern(void* to, const void* from);
const char* ibv_get_sysfs_path();
int ibv_read_sysfs_file(const char* dir, const char* file, char* to,
                        size_t size);
int ibv_dontfork_range(void* base, size_t size);
int ibv_dofork_range(void* base, size_t size);

// What needs a file of the kernel's.

ibv_dm* ibv_import_dm(ibv_context* context, uint32_t handle) {
  if (IsSoft(context)) {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  return Forward(ND_REAL(ibv_import_dm, "IBVERBS_1.13"),
                 static_cast<ibv_dm*>(nullptr), context, handle);
}

void ibv_unimport_dm(ibv_dm* dm) {
  if (IsSoft(dm->context)) return;
  ForwardVoid(ND_REAL(ibv_unimport_dm, "IBVERBS_1.13"), dm);
}

int ibv_resolve_eth_l2_from_gid(ibv_context* context, ibv_ah_attr* attr,
                                uint8_t mac[ETHERNET_LL_SIZE], uint16_t* vid) {
  if (IsSoft(context)) return EOPNOTSUPP;
  return Forward(ND_REAL(ibv_resolve_eth_l2_from_gid, "IBVERBS_1.1"), ENOSYS,
                 context, attr, mac, vid);
}

// What takes no object.

int ibv_dontfork_range(void* base, size_t size) {
  return Forward(ND_REAL(ibv_dontfork_range, "IBVERBS_1.1"), 0, base, size);
}

int ibv_dofork_range(void* base, size_t size) {
  return Forward(ND_REAL(ibv_dofork_range, "IBVERBS_1.1"), 0, base, size);
}

void ibv_copy_ah_attr_from_kern(void* to, const void* from) {
  ForwardVoid(ND_REAL(ibv_copy_ah_attr_from_kern, "IBVERBS_1.1"), to, from);
}

void ibv_copy_path_rec_from_kern(void* to, const void* from) {
  ForwardVoid(ND_REAL(ibv_copy_path_rec_from_kern, "IBVERBS_1.0"), to, from);
}

void ibv_copy_path_rec_to_kern(void* to, const void* from) {
  ForwardVoid(ND_REAL(ibv_copy_path_rec_to_kern, "IBVERBS_1.0"), to, from);
}

void ibv_copy_qp_attr_from_kern(void* to, const void* from) {
  ForwardVoid(ND_REAL(ibv_copy_qp_attr_from_kern, "IBVERBS_1.0"), to, from);
}

const char* ibv_get_sysfs_path() {
  return Forward(ND_REAL(ibv_get_sysfs_path, "IBVERBS_1.0"), "/sys");
}

int ibv_read_sysfs_file(const char* dir, const char* file, char* to,
                        size_t size) {
  return Forward(ND_REAL(ibv_read_sysfs_file, "IBVERBS_1.0"), -1, dir, file, to,
                 size);
}

int ibv_rate_to_mult(ibv_rate rate) {
  return Forward(ND_REAL(ibv_rate_to_mult, "IBVERBS_1.0"), -1, rate);
}

ibv_rate mult_to_ibv_rate(int mult) {
  return Forward(ND_REAL(mult_to_ibv_rate, "IBVERBS_1.0"), IBV_RATE_MAX, mult);
}

int ibv_rate_to_mbps(ibv_rate rate) {
  return Forward(ND_REAL(ibv_rate_to_mbps, "IBVERBS_1.1"), -1, rate);
}

ibv_rate mbps_to_ibv_rate(int mbps) {
  return Forward(ND_REAL(mbps_to_ibv_rate, "IBVERBS_1.1"), IBV_RATE_MAX, mbps);
}

const char* ibv_wc_status_str(ibv_wc_status status) {
  return Forward(ND_REAL(ibv_wc_status_str, "IBVERBS_1.1"), "unknown", status);
}

const char* ibv_node_type_str(ibv_node_type type) {
  return Forward(ND_REAL(ibv_node_type_str, "IBVERBS_1.1"), "unknown", type);
}

const char* ibv_port_state_str(ibv_port_state state) {
  return Forward(ND_REAL(ibv_port_state_str, "IBVERBS_1.1"), "unknown", state);
}

const char* ibv_event_type_str(ibv_event_type type) {
  return Forward(ND_REAL(ibv_event_type_str, "IBVERBS_1.1"), "unknown", type);
}

}  // extern "C"
