// `ndping register`: what it costs to register memory, and to bind and
// invalidate memory windows, by size (krping's frtest, in user space).
#ifndef ND_NDPING_LOCAL_REGISTRATION_H_
#define ND_NDPING_LOCAL_REGISTRATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/histogram.h"
#include "base/wait.h"

namespace nd::ndping {

enum class RegisterStep {
  kRegister,          // ibv_reg_mr
  kDeregister,        // ibv_dereg_mr
  kBindType1,         // bind a type 1 window
  kUnbindType1,       // bind it to nothing, which is how type 1 is invalidated
  kBindType2,         // IBV_WR_BIND_MW of a type 2 window
  kLocalInvalidate,   // IBV_WR_LOCAL_INV of it
  kRemoteInvalidate,  // IBV_WR_SEND_WITH_INV by the peer, for a type 2 window
};
inline constexpr int kRegisterSteps = 7;
inline constexpr uint64_t kMaxRegisterSize = uint64_t{1} << 34;

absl::string_view ToString(RegisterStep step);  // "register", "bind-type-1"

struct RegisterOptions {
  std::string device = {};  // empty: the first
  uint8_t port = 1;
  std::vector<uint64_t> sizes =
      {};                     // bytes, 1 to kMaxRegisterSize; empty: default
  uint32_t iterations = 100;  // of each step and size
  // A step of a size ends early when it has taken so long, after three rounds
  // at the least: registering a gigabyte takes long.
  Duration budget = std::chrono::seconds(2);
  Duration completion_timeout = std::chrono::seconds(10);
};

// 4 KiB to 1 GiB, in powers of four.
std::vector<uint64_t> DefaultRegisterSizes();

struct RegisterRow {
  uint64_t size = 0;
  RegisterStep step{};
  // OK; UNIMPLEMENTED with the reason when the device cannot do it;
  // RESOURCE_EXHAUSTED when this size needs more memory, or locked memory, than
  // there is. Neither is a failure of the test.
  absl::Status status = absl::OkStatus();
  Histogram times = {};  // nanoseconds
};

struct RegisterResult {
  std::string device;
  std::vector<RegisterRow> rows;  // by size, then by step
  bool interrupted = false;
};

class RegisterObserver {
 public:
  virtual ~RegisterObserver() = default;
  virtual void OnRow(const RegisterRow& row) { (void)row; }
};

// Runs in the calling thread over two QPs of one device, connected to each
// other by hand.
absl::StatusOr<RegisterResult> RunRegisterTest(const RegisterOptions& options,
                                               const Cancellation& interrupt,
                                               RegisterObserver& observer);

}  // namespace nd::ndping

#endif  // ND_NDPING_LOCAL_REGISTRATION_H_
