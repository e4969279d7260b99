// What is to go wrong with the device: ND_SOFT_FAULTS, read. The grammar is in
// docs/soft-roce.md.
#ifndef ND_SOFT_NET_FAULT_SPEC_H_
#define ND_SOFT_NET_FAULT_SPEC_H_

#include <infiniband/verbs.h>

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"

namespace nd::soft {

// Numbers without a unit are probabilities, of a packet unless it says
// otherwise; times count from when the device was opened.
struct DelayFault {
  double probability = 0;
  Duration by{};
  bool operator==(const DelayFault&) const = default;
};

struct CompletionFault {
  double probability = 0;  // of a signaled send
  ibv_wc_status status = IBV_WC_SUCCESS;
  bool operator==(const CompletionFault&) const = default;
};

struct PortDownFault {
  Duration after{};
  std::optional<Duration> lasts{};  // none: it stays down
  bool operator==(const PortDownFault&) const = default;
};

struct FaultSpec {
  std::optional<uint64_t> seed{};
  double drop = 0;
  double duplicate = 0;
  double reorder = 0;
  double corrupt = 0;
  DelayFault delay{};
  double rnr = 0;      // of a message that needs a receive
  double shuffle = 0;  // of a message with payload
  CompletionFault cqe{};
  double cm_reject = 0;  // of a request for a connection
  std::optional<PortDownFault> port_down{};
  std::optional<Duration> gid_change{};
  std::optional<Duration> device_removal{};

  bool operator==(const FaultSpec&) const = default;
};

// InvalidArgument names the piece that is wrong.
absl::StatusOr<FaultSpec> ParseFaultSpec(absl::string_view text);

// Whether nothing passes the port `elapsed` after the device was opened: it is
// down, or the device gone.
bool IsPortDown(const FaultSpec& spec, Duration elapsed);

}  // namespace nd::soft

#endif  // ND_SOFT_NET_FAULT_SPEC_H_
