// `ndping doctor`: why RDMA does not work here, and what to do about it.
//
// Gathering facts and judging them are apart: Diagnose is a pure function, and
// tests give it hosts that they do not have.
#ifndef ND_NDPING_LOCAL_DOCTOR_H_
#define ND_NDPING_LOCAL_DOCTOR_H_

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/wait.h"
#include "ndping/local/devices.h"

namespace nd::ndping {

struct DoctorOptions {
  std::string peer;  // an address or a host name to reach; empty: none
  std::string from;  // a local address that must have a GID; empty: any
  uint16_t port = 7471;
  Duration timeout = std::chrono::seconds(5);  // for the peer's route
};

// A character device under /dev/infiniband.
struct DeviceNode {
  std::string path;
  int open_errno = 0;  // of opening it for reading and writing
};

struct NetInterface {
  std::string name;
  uint32_t mtu = 0;
  bool up = false;
  bool loopback = false;
  std::vector<std::string> addresses;
};

// The way to options.peer, as rdma_cm found it.
struct PeerRoute {
  absl::Status status;
  std::string address;  // "10.98.0.2"
  std::string device;   // "rxe0"
  std::string local;    // "10.98.0.1"
};

struct DoctorFacts {
  std::string from;  // of the options
  std::string peer;
  // Which of the kernel's modules are there: loaded or built in.
  std::map<std::string, bool> modules;
  bool is_root = false;
  std::vector<DeviceNode> nodes;  // uverbs*, and rdma_cm even if it is missing
  absl::Status device_status;     // of listing devices
  std::vector<DeviceDescription> devices;
  bool in_user_space = false;  // there are devices, and none is the kernel's
  std::vector<NetInterface> interfaces;
  std::optional<uint64_t> memlock;  // bytes; none: no limit
  bool ipc_lock = false;            // CAP_IPC_LOCK: the limit does not count
  std::optional<PeerRoute> route;
};

DoctorFacts GatherFacts(const DoctorOptions& options,
                        const Cancellation* cancel);

enum class Grade { kOk, kWarn, kFail };
absl::string_view ToString(Grade grade);  // "ok", "warn", "fail"

struct Check {
  std::string name;  // "device rxe0 port 1"
  Grade grade = Grade::kOk;
  std::string found;
  std::string fix;  // empty when there is nothing to do
};

std::vector<Check> Diagnose(const DoctorFacts& facts);

// Whether ndping should end with status 1.
bool AnyFailed(const std::vector<Check>& checks);

// "[ ok ] ..." lines, each fix indented below its finding, and a last line that
// counts them.
std::string FormatChecks(const std::vector<Check>& checks);
nlohmann::ordered_json ToJson(const std::vector<Check>& checks);

}  // namespace nd::ndping

#endif  // ND_NDPING_LOCAL_DOCTOR_H_
