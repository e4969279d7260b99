// The two RDMA devices that tests of real connections use: those of the guest,
// unless the environment names others.
#ifndef ND_TESTS_VERBS_RDMA_ENV_H_
#define ND_TESTS_VERBS_RDMA_ENV_H_

#include <gtest/gtest.h>

#include <string>

#include "base/environment.h"
#include "verbs/address.h"
#include "verbs/device.h"

namespace nd::verbs {

inline SocketAddress EnvAddress(const char* name, const char* otherwise,
                                uint16_t port) {
  const char* const value = Environment(name);
  return SocketAddress::Parse(*value != '\0' ? value : otherwise, port).value();
}

// Of this side's device and of the peer's, by family (AF_INET or AF_INET6).
inline SocketAddress LocalAddress(int family, uint16_t port = 0) {
  return family == AF_INET ? EnvAddress("ND_TEST_LOCAL", "10.98.0.1", port)
                           : EnvAddress("ND_TEST_LOCAL6", "fd98::1", port);
}
inline SocketAddress PeerAddress(int family, uint16_t port = 0) {
  return family == AF_INET ? EnvAddress("ND_TEST_PEER", "10.98.0.2", port)
                           : EnvAddress("ND_TEST_PEER6", "fd98::2", port);
}
// On the subnet of both, but nobody's.
inline SocketAddress SilentAddress(uint16_t port) {
  return EnvAddress("ND_TEST_SILENT", "10.98.0.99", port);
}

// Fails, and does not skip, where there is no device.
class RdmaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto devices = ListDevices();
    ASSERT_TRUE(devices.ok()) << devices.status();
    ASSERT_FALSE(devices->empty()) << "no RDMA device: run this in the guest";
  }
};

}  // namespace nd::verbs

#endif  // ND_TESTS_VERBS_RDMA_ENV_H_
