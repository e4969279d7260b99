// `ndping devices`: the RDMA devices of this host, their ports and addresses.
#ifndef ND_NDPING_LOCAL_DEVICES_H_
#define ND_NDPING_LOCAL_DEVICES_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "verbs/device.h"

namespace nd::ndping {

struct DeviceDescription {
  std::string name;
  uint64_t node_guid = 0;
  // Of opening and asking it; the rest is empty unless it is OK.
  absl::Status status;
  ibv_device_attr_ex attr{};
  std::vector<verbs::Port> ports;
};

// Empty when there is none; an error when there is no RDMA support at all.
absl::StatusOr<std::vector<DeviceDescription>> GatherDevices();

// A table of devices, ports and GIDs; with `verbose` every limit of each device
// too. Without devices, a line that says so and how to get one.
std::string FormatDevices(const std::vector<DeviceDescription>& devices,
                          bool verbose);

// An array, one object a device, always with all limits.
nlohmann::ordered_json ToJson(const std::vector<DeviceDescription>& devices);

}  // namespace nd::ndping

#endif  // ND_NDPING_LOCAL_DEVICES_H_
