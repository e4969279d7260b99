// Gathers what doctor.h judges.

#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/fd.h"
#include "base/status.h"
#include "ndping/local/doctor.h"
#include "verbs/address.h"
#include "verbs/cm.h"

namespace nd::ndping {
namespace {

namespace fs = std::filesystem;

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// A module that is built in shows in /sys/module only if it has parameters; so
// what it makes counts as well.
std::map<std::string, bool> GatherModules() {
  const std::pair<const char*, const char*> kMadeBy[] = {
      {"ib_core", "/sys/class/infiniband"},
      {"ib_uverbs", "/sys/class/infiniband_verbs"},
      {"rdma_cm", "/sys/class/misc/rdma_cm"},
      {"rdma_ucm", "/sys/class/misc/rdma_cm"},
      {"rdma_rxe", "/sys/module/rdma_rxe"},
  };
  std::map<std::string, bool> modules;
  for (const auto& [name, made] : kMadeBy) {
    modules[name] = Exists(fs::path("/sys/module") / name) || Exists(made);
  }
  return modules;
}

// By the system call itself: a device in user space shows files of its own to
// libc's.
bool IsKernels(const DeviceDescription& device) {
  const std::string path = absl::StrCat("/sys/class/infiniband/", device.name);
  return syscall(SYS_faccessat, AT_FDCWD, path.c_str(), F_OK) == 0;
}

DeviceNode TryNode(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  return {.path = path, .open_errno = fd.valid() ? 0 : errno};
}

std::vector<DeviceNode> GatherNodes() {
  const fs::path folder = "/dev/infiniband";
  std::vector<DeviceNode> nodes = {TryNode(folder / "rdma_cm")};
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    if (absl::StartsWith(name, "uverbs"))
      nodes.push_back(TryNode(entry.path()));
  }
  std::ranges::sort(nodes, {}, &DeviceNode::path);
  return nodes;
}

uint32_t MtuOf(const std::string& interface) {
  std::ifstream file(fs::path("/sys/class/net") / interface / "mtu");
  uint32_t mtu = 0;
  file >> mtu;
  return mtu;
}

std::vector<NetInterface> GatherInterfaces() {
  ifaddrs* raw = nullptr;
  if (getifaddrs(&raw) != 0) return {};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> list(raw, freeifaddrs);
  std::vector<NetInterface> interfaces;
  for (const ifaddrs* at = raw; at != nullptr; at = at->ifa_next) {
    auto found =
        std::ranges::find(interfaces, at->ifa_name, &NetInterface::name);
    if (found == interfaces.end()) {
      interfaces.push_back({.name = at->ifa_name,
                            .mtu = MtuOf(at->ifa_name),
                            .up = (at->ifa_flags & IFF_UP) != 0,
                            .loopback = (at->ifa_flags & IFF_LOOPBACK) != 0,
                            .addresses = {}});
      found = interfaces.end() - 1;
    }
    if (at->ifa_addr == nullptr) continue;
    const auto address = verbs::SocketAddress::From(*at->ifa_addr);
    if (address.ok()) found->addresses.push_back(address->host());
  }
  return interfaces;
}

std::optional<uint64_t> GatherMemlock() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 0;
  if (limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur;
}

bool HasIpcLock() {
  constexpr int kCapIpcLock = 14;
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, "CapEff:")) continue;
    uint64_t bits = 0;
    const absl::string_view text = absl::StripAsciiWhitespace(
        absl::string_view(line).substr(sizeof("CapEff:") - 1));
    return absl::SimpleHexAtoi(text, &bits) && (bits >> kCapIpcLock & 1) != 0;
  }
  return false;
}

absl::Status FindRoute(const DoctorOptions& options, const Cancellation* cancel,
                       PeerRoute& route) {
  const Deadline deadline = Deadline::After(options.timeout);
  ND_ASSIGN_OR_RETURN(
      const auto addresses,
      verbs::ResolveHost(options.peer, options.port, deadline, cancel));
  route.address = addresses.front().host();
  std::optional<verbs::SocketAddress> from;
  if (!options.from.empty()) {
    ND_ASSIGN_OR_RETURN(from, verbs::SocketAddress::Parse(options.from, 0));
  }
  ND_ASSIGN_OR_RETURN(const auto id, verbs::CmId::Create());
  ND_RETURN_IF_ERROR(id->Resolve(addresses.front(), from, deadline, cancel));
  route.device = id->device_name();
  route.local = id->local().host();
  return absl::OkStatus();
}

}  // namespace

DoctorFacts GatherFacts(const DoctorOptions& options,
                        const Cancellation* cancel) {
  DoctorFacts facts{.from = options.from,
                    .peer = options.peer,
                    .modules = GatherModules(),
                    .is_root = geteuid() == 0,
                    .nodes = GatherNodes(),
                    .device_status = absl::OkStatus(),
                    .devices = {},
                    .interfaces = GatherInterfaces(),
                    .memlock = GatherMemlock(),
                    .ipc_lock = HasIpcLock(),
                    .route = std::nullopt};
  auto devices = GatherDevices();
  facts.device_status = devices.status();
  if (devices.ok()) facts.devices = *std::move(devices);
  facts.in_user_space =
      !facts.devices.empty() && std::ranges::none_of(facts.devices, IsKernels);
  if (!options.peer.empty()) {
    facts.route.emplace();
    facts.route->status = FindRoute(options, cancel, *facts.route);
  }
  return facts;
}

}  // namespace nd::ndping
