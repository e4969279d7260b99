// Devices that no test host has, for what only formats or judges them.
#ifndef ND_TESTS_NDPING_HOST_MODEL_H_
#define ND_TESTS_NDPING_HOST_MODEL_H_

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "ndping/local/devices.h"
#include "ndping/local/doctor.h"

namespace nd::ndping {

inline verbs::GidEntry Ipv4Gid(uint32_t index, std::array<uint8_t, 4> address,
                               const std::string& netdev) {
  verbs::GidEntry gid{
      .index = index, .type = IBV_GID_TYPE_ROCE_V2, .netdev = netdev};
  gid.gid[10] = gid.gid[11] = 0xff;
  std::copy(address.begin(), address.end(), gid.gid.begin() + 12);
  return gid;
}

// An rxe device on veth0, 10.98.0.1, all well.
inline DeviceDescription RxeDevice() {
  DeviceDescription device;
  device.name = "rxe0";
  device.node_guid = 0x0098'00ff'fe98'0001;
  device.attr.orig_attr.max_qp = 1024;
  device.attr.orig_attr.max_mr_size = ~uint64_t{0};
  verbs::Port& port = device.ports.emplace_back();
  port.number = 1;
  port.attr.state = IBV_PORT_ACTIVE;
  port.attr.link_layer = IBV_LINK_LAYER_ETHERNET;
  port.attr.active_mtu = IBV_MTU_4096;
  port.attr.max_mtu = IBV_MTU_4096;
  port.gids = {Ipv4Gid(1, {10, 98, 0, 1}, "veth0")};
  return device;
}

inline DoctorFacts HealthyHost() {
  DoctorFacts facts;
  facts.modules = {{"ib_core", true},
                   {"ib_uverbs", true},
                   {"rdma_cm", true},
                   {"rdma_ucm", true}};
  facts.nodes = {{"/dev/infiniband/rdma_cm", 0},
                 {"/dev/infiniband/uverbs0", 0}};
  facts.devices = {RxeDevice()};
  facts.interfaces = {{.name = "lo",
                       .mtu = 65536,
                       .up = true,
                       .loopback = true,
                       .addresses = {"127.0.0.1"}},
                      {.name = "veth0",
                       .mtu = 4200,
                       .up = true,
                       .loopback = false,
                       .addresses = {"10.98.0.1"}}};
  return facts;
}

}  // namespace nd::ndping

#endif  // ND_TESTS_NDPING_HOST_MODEL_H_
