// Devices that the soft device can be taken for: weaker and stronger ones
// (ND_SOFT_PERSONALITY).
#ifndef ND_SOFT_DEVICE_PERSONALITY_H_
#define ND_SOFT_DEVICE_PERSONALITY_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "soft/device/limits.h"

namespace nd::soft {

// "minimal", "rxe" or "mlx5"; an empty name is the device as it is.
// InvalidArgument: there is none of that name.
absl::StatusOr<Limits> PersonalityLimits(absl::string_view name);

}  // namespace nd::soft

#endif  // ND_SOFT_DEVICE_PERSONALITY_H_
