// What this process has of the device.
#ifndef ND_SOFT_ABI_PROCESS_H_
#define ND_SOFT_ABI_PROCESS_H_

#include <infiniband/verbs.h>

#include <memory>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/random.h"
#include "soft/device/device.h"
#include "soft/device/engine.h"

namespace nd::soft {

inline constexpr char kDeviceName[] = "nd0";
inline constexpr char kUverbsName[] = "uverbs_nd0";
inline constexpr char kFirmwareVersion[] = "1.0";
// What ibv_get_device_index says; real devices count from 0.
inline constexpr int kDeviceIndex = 1000;

// The device at work: begins when it is first opened, and lasts as long as the
// process. A child of fork begins anew.
class SoftProcess {
 public:
  // Unavailable or ResourceExhausted where it cannot begin.
  static absl::StatusOr<SoftProcess*> Get();

  // Null before it has begun, in this process.
  static SoftProcess* Current();

  Device& device() { return device_; }
  Random& random() { return random_; }

 private:
  SoftProcess(Device::Options options, std::unique_ptr<Network> network,
              std::unique_ptr<FaultPlan> faults, AddressWatch watch);
  static absl::StatusOr<SoftProcess*> Begin();

  SystemRandom random_;
  const std::unique_ptr<FaultPlan> faults_;  // or none
  Device device_;
  Engine engine_;
};

// The device as verbs lists it; nothing has to be at work for that. Always the
// same pointer.
ibv_device* SoftDeviceHandle();

}  // namespace nd::soft

#endif  // ND_SOFT_ABI_PROCESS_H_
