// A network on which nothing arrives.
#ifndef ND_TESTS_SOFT_DEVICE_SILENT_NETWORK_H_
#define ND_TESTS_SOFT_DEVICE_SILENT_NETWORK_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "soft/net/network.h"

namespace nd::soft {

class SilentNetwork : public Network {
 public:
  uint32_t slot() const override { return 1; }
  size_t Room(const Path&, Qpn) override { return 1; }
  void Send(const Path&, const Outgoing&) override {}
  void Flush() override {}
  size_t Receive(Instant, ArrivalSink&) override { return 0; }
  std::optional<Instant> NextDeadline() const override { return std::nullopt; }
  bool Rest() override { return true; }
  int fd() const override { return -1; }
  absl::Status ClaimService(const HostService&) override {
    return absl::OkStatus();
  }
  void ReleaseService(const HostService&) override {}
  absl::Status JoinGroup(const Gid&) override { return absl::OkStatus(); }
  void LeaveGroup(const Gid&) override {}
};

}  // namespace nd::soft

#endif  // ND_TESTS_SOFT_DEVICE_SILENT_NETWORK_H_
