#include "ndping/local/doctor.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "ndping/text/units.h"
#include "verbs/address.h"

namespace nd::ndping {
namespace {

// What a RoCE v2 packet may carry besides its payload, as Linux counts when it
// derives a port's MTU from its network interface's: GRH, UDP, BTH, XRC and
// atomic headers, ICRC.
constexpr uint32_t kRoceOverhead = 40 + 8 + 12 + 4 + 28 + 4;
// A netdev MTU for the largest path MTU, 4096.
constexpr uint32_t kNetdevMtuForLargest = 4200;
// What little a ping needs, and what tests of some size need.
constexpr uint64_t kLeastMemlock = uint64_t{256} << 10;
constexpr uint64_t kGoodMemlock = uint64_t{64} << 20;

Check Ok(std::string name, std::string found) {
  return {std::move(name), Grade::kOk, std::move(found), ""};
}
Check Warn(std::string name, std::string found, std::string fix) {
  return {std::move(name), Grade::kWarn, std::move(found), std::move(fix)};
}
Check Fail(std::string name, std::string found, std::string fix) {
  return {std::move(name), Grade::kFail, std::move(found), std::move(fix)};
}

const NetInterface* FindInterface(const DoctorFacts& facts,
                                  absl::string_view name) {
  for (const NetInterface& interface : facts.interfaces) {
    if (interface.name == name) return &interface;
  }
  return nullptr;
}

// One that Soft-RoCE could be put on: up, with an address; rxe refuses lo.
std::string UsableInterface(const DoctorFacts& facts) {
  for (const NetInterface& interface : facts.interfaces) {
    if (interface.up && !interface.loopback && !interface.addresses.empty()) {
      return interface.name;
    }
  }
  return "eth0";
}

std::string HowToGetADevice(const DoctorFacts& facts) {
  return absl::StrCat(
      "with an RDMA adapter: load its driver (lspci -k names it). Without one, "
      "Soft-RoCE works over any Ethernet interface, as root: modprobe "
      "rdma_rxe; "
      "rdma link add rxe0 type rxe netdev ",
      UsableInterface(facts),
      ". In a container or virtual machine that may not load modules, do it on "
      "the host, or run in a virtual machine whose kernel you choose");
}

Check JudgeModules(const DoctorFacts& facts) {
  if (facts.in_user_space) {
    return Ok("kernel modules",
              "none is needed: the devices are in user space");
  }
  std::vector<std::string> there, missing;
  for (const char* name : {"ib_core", "ib_uverbs", "rdma_cm", "rdma_ucm"}) {
    const auto found = facts.modules.find(name);
    const bool loaded = found != facts.modules.end() && found->second;
    (loaded ? there : missing).push_back(name);
  }
  if (missing.empty()) {
    return Ok("kernel modules",
              absl::StrCat(absl::StrJoin(there, ", "), " are there"));
  }
  return Fail("kernel modules",
              absl::StrCat("not loaded: ", absl::StrJoin(missing, ", ")),
              absl::StrCat("as root: modprobe -a ", absl::StrJoin(missing, " "),
                           " (they come with the kernel; a package "
                           "linux-modules-extra may hold them)"));
}

Check JudgeDevices(const DoctorFacts& facts) {
  const std::string name = "RDMA devices";
  if (!facts.device_status.ok()) {
    return Fail(name, std::string(facts.device_status.message()),
                HowToGetADevice(facts));
  }
  if (facts.devices.empty()) {
    return Fail(name, "this host has none", HowToGetADevice(facts));
  }
  std::vector<std::string> names;
  for (const DeviceDescription& device : facts.devices) {
    names.push_back(device.name);
  }
  return Ok(name, absl::StrJoin(names, ", "));
}

Check JudgeNode(const DoctorFacts& facts, const DeviceNode& node) {
  if (node.open_errno == 0) return Ok(node.path, "can be opened");
  const std::string found = absl::StrCat(
      "cannot be opened: ", std::generic_category().message(node.open_errno));
  if (node.open_errno == ENOENT) {
    return Fail(node.path, found,
                "as root: modprobe rdma_ucm; in a container, pass it in "
                "(--device=/dev/infiniband)");
  }
  if (node.open_errno == EACCES && !facts.is_root) {
    return Fail(node.path, found,
                absl::StrCat("as root: chmod 0666 ", node.path,
                             ", or a udev rule that does so (rdma-core has "
                             "one), or run as root"));
  }
  if (node.open_errno == EPERM || node.open_errno == EACCES) {
    return Fail(node.path, found,
                "root is refused as well: the container's device rules forbid "
                "it (--device=/dev/infiniband, or allow it in the cgroup)");
  }
  return Fail(node.path, found, "dmesg may say why");
}

void JudgeNodes(const DoctorFacts& facts, std::vector<Check>& checks) {
  if (facts.in_user_space) return;
  const auto is_uverbs = [](const DeviceNode& node) {
    return absl::StrContains(node.path, "uverbs");
  };
  if (!facts.devices.empty() && std::ranges::none_of(facts.nodes, is_uverbs)) {
    checks.push_back(Fail("/dev/infiniband/uverbs*", "there is none",
                          "as root: modprobe ib_uverbs; in a container, pass "
                          "it in (--device=/dev/infiniband)"));
  }
  for (const DeviceNode& node : facts.nodes) {
    checks.push_back(JudgeNode(facts, node));
  }
}

std::string NetdevOf(const verbs::Port& port) {
  for (const verbs::GidEntry& gid : port.gids) {
    if (!gid.netdev.empty()) return gid.netdev;
  }
  return "";
}

Check JudgeState(const std::string& name, const verbs::Port& port) {
  const std::string found =
      absl::StrCat(port.StateName(), ", link layer ", port.LinkLayerName());
  if (port.attr.state == IBV_PORT_ACTIVE) return Ok(name, found);
  if (port.attr.link_layer == IBV_LINK_LAYER_INFINIBAND) {
    return Fail(name, found,
                "connect the cable; a subnet manager (opensm) has to run in "
                "the fabric");
  }
  const std::string netdev = NetdevOf(port);
  return Fail(name, found,
              absl::StrCat("its network interface is down or has no carrier: ",
                           "ip link set dev ",
                           netdev.empty() ? "NETDEV" : netdev, " up"));
}

bool IsRoceV2(const verbs::GidEntry& gid) {
  return gid.type == IBV_GID_TYPE_ROCE_V2;
}

Check JudgeGids(const std::string& name, const verbs::Port& port) {
  const std::string what = absl::StrCat(name, " addresses");
  if (port.attr.link_layer == IBV_LINK_LAYER_INFINIBAND) {
    return Ok(what, absl::StrCat(port.gids.size(), " GIDs"));
  }
  std::vector<std::string> addresses;
  for (const verbs::GidEntry& gid : port.gids) {
    if (IsRoceV2(gid)) addresses.push_back(gid.Address());
  }
  const std::string netdev = NetdevOf(port);
  const std::string add = absl::StrCat("ip addr add ADDRESS/PREFIX dev ",
                                       netdev.empty() ? "NETDEV" : netdev);
  if (addresses.empty()) {
    return Fail(
        what, "no RoCE v2 GID",
        absl::StrCat("give its network interface an IP address: ", add));
  }
  const std::string list =
      absl::StrCat("RoCE v2 GIDs for ", absl::StrJoin(addresses, ", "));
  const bool link_local_only =
      std::ranges::all_of(addresses, [](absl::string_view address) {
        return absl::StartsWith(address, "fe80:");
      });
  if (!link_local_only) return Ok(what, list);
  return Warn(
      what, absl::StrCat(list, " only, which is link-local"),
      absl::StrCat("for peers that are named by a routable address: ", add));
}

// The largest path MTU whose packets a netdev's MTU holds.
uint32_t PathMtuFor(uint32_t netdev_mtu) {
  uint32_t mtu = 4096;
  while (mtu > 256 && mtu + kRoceOverhead > netdev_mtu) mtu /= 2;
  return mtu;
}

Check JudgeMtu(const std::string& name, const verbs::Port& port,
               const NetInterface& netdev) {
  const std::string what = absl::StrCat(name, " MTU");
  const uint32_t active = port.active_mtu_bytes();
  const uint32_t fitting =
      std::min(PathMtuFor(netdev.mtu), port.max_mtu_bytes());
  const std::string found = absl::StrCat("path MTU ", active, ", MTU of ",
                                         netdev.name, " ", netdev.mtu);
  if (active > fitting) {
    return Fail(what,
                absl::StrCat(found, ": full packets do not fit and are lost"),
                absl::StrCat("ip link set dev ", netdev.name, " mtu ",
                             active + kRoceOverhead,
                             ", or take the RDMA device away and add it anew"));
  }
  if (active < fitting) {
    return Warn(what, absl::StrCat(found, ": it would hold ", fitting),
                absl::StrCat("take the link down and up, so that the device "
                             "reads the MTU anew: ip link set dev ",
                             netdev.name, " down, then up"));
  }
  if (active == port.max_mtu_bytes()) return Ok(what, found);
  return Ok(what, absl::StrCat(found, "; where the network carries ",
                               kNetdevMtuForLargest, ", a path MTU of ",
                               port.max_mtu_bytes(), " would be faster"));
}

void JudgePort(const DoctorFacts& facts, const DeviceDescription& device,
               const verbs::Port& port, std::vector<Check>& checks) {
  const std::string name =
      absl::StrCat(device.name, " port ", int{port.number});
  checks.push_back(JudgeState(name, port));
  checks.push_back(JudgeGids(name, port));
  const NetInterface* const netdev = FindInterface(facts, NetdevOf(port));
  if (netdev != nullptr && netdev->mtu > 0) {
    checks.push_back(JudgeMtu(name, port, *netdev));
  }
}

void JudgeDevice(const DoctorFacts& facts, const DeviceDescription& device,
                 std::vector<Check>& checks) {
  if (!device.status.ok()) {
    checks.push_back(Fail(device.name, std::string(device.status.message()),
                          "see what is said about /dev/infiniband"));
    return;
  }
  for (const verbs::Port& port : device.ports) {
    JudgePort(facts, device, port, checks);
  }
}

// The address as GidEntry::Address writes it.
std::string Canonical(const std::string& address) {
  const auto parsed = verbs::SocketAddress::Parse(address, 0);
  if (!parsed.ok()) return address;
  const std::vector<std::string> parts = absl::StrSplit(parsed->host(), '%');
  return parts.front();
}

Check JudgeFrom(const DoctorFacts& facts) {
  const std::string name = absl::StrCat("local address ", facts.from);
  const std::string wanted = Canonical(facts.from);
  bool other_type = false;
  for (const DeviceDescription& device : facts.devices) {
    for (const verbs::Port& port : device.ports) {
      for (const verbs::GidEntry& gid : port.gids) {
        if (gid.Address() != wanted) continue;
        if (!IsRoceV2(gid) &&
            port.attr.link_layer != IBV_LINK_LAYER_INFINIBAND) {
          other_type = true;
          continue;
        }
        return Ok(name,
                  absl::StrCat("GID ", gid.index, " (", gid.TypeName(), ") of ",
                               device.name, " port ", int{port.number}));
      }
    }
  }
  if (other_type) {
    return Fail(name, "its GID is not of type RoCE v2",
                "the adapter or its driver has to offer RoCE v2");
  }
  for (const NetInterface& interface : facts.interfaces) {
    for (const std::string& address : interface.addresses) {
      if (Canonical(address) != wanted) continue;
      return Fail(name,
                  absl::StrCat("it belongs to ", interface.name,
                               ", on which there is no RDMA device"),
                  interface.loopback
                      ? "take the address of another interface: loopback "
                        "carries no RDMA"
                      : absl::StrCat("as root: modprobe rdma_rxe; rdma link "
                                     "add rxe0 type rxe netdev ",
                                     interface.name));
    }
  }
  return Fail(name, "no network interface of this host has it",
              "'ndping devices' lists the addresses that RDMA devices have");
}

Check JudgeMemlock(const DoctorFacts& facts) {
  const std::string name = "locked memory";
  if (!facts.memlock) return Ok(name, "no limit");
  const std::string limit =
      absl::StrCat("the limit is ", FormatSize(*facts.memlock));
  if (facts.ipc_lock) {
    return Ok(name,
              absl::StrCat(limit, ", but CAP_IPC_LOCK puts it out of force"));
  }
  const std::string fix =
      "ulimit -l unlimited; for good: '* - memlock unlimited' in "
      "/etc/security/limits.d/rdma.conf, LimitMEMLOCK=infinity in a systemd "
      "unit, --ulimit memlock=-1 for a container";
  if (*facts.memlock < kLeastMemlock) {
    return Fail(
        name, absl::StrCat(limit, ", too little for a single connection"), fix);
  }
  if (*facts.memlock < kGoodMemlock) {
    return Warn(name,
                absl::StrCat(limit,
                             ": buffers and queues of all connections "
                             "together have to fit"),
                fix);
  }
  return Ok(name, limit);
}

Check JudgeRoute(const DoctorFacts& facts) {
  const PeerRoute& route = *facts.route;
  const std::string name = absl::StrCat("route to ", facts.peer);
  if (route.status.ok()) {
    return Ok(name, absl::StrCat(route.address, " by ", route.device, ", from ",
                                 route.local));
  }
  if (facts.devices.empty()) {
    return Fail(name, std::string(route.status.message()),
                "first of all this host needs an RDMA device");
  }
  std::string fix =
      "an RDMA device has to be on the interface that 'ip route get ";
  absl::StrAppend(&fix, route.address.empty() ? "ADDRESS" : route.address,
                  "' names, and the peer has to answer ARP or neighbour "
                  "discovery there");
  if (route.address.empty()) fix = "give a numeric address, or mend the name";
  return Fail(name, std::string(route.status.message()), std::move(fix));
}

}  // namespace

absl::string_view ToString(Grade grade) {
  switch (grade) {
    case Grade::kOk:
      return "ok";
    case Grade::kWarn:
      return "warn";
    case Grade::kFail:
      return "fail";
  }
  return "unknown";
}

std::vector<Check> Diagnose(const DoctorFacts& facts) {
  std::vector<Check> checks = {JudgeModules(facts), JudgeDevices(facts)};
  JudgeNodes(facts, checks);
  for (const DeviceDescription& device : facts.devices) {
    JudgeDevice(facts, device, checks);
  }
  if (!facts.from.empty()) checks.push_back(JudgeFrom(facts));
  checks.push_back(JudgeMemlock(facts));
  if (facts.route) checks.push_back(JudgeRoute(facts));
  return checks;
}

bool AnyFailed(const std::vector<Check>& checks) {
  return std::ranges::any_of(
      checks, [](const Check& check) { return check.grade == Grade::kFail; });
}

std::string FormatChecks(const std::vector<Check>& checks) {
  std::string text;
  int warned = 0, failed = 0;
  for (const Check& check : checks) {
    warned += check.grade == Grade::kWarn;
    failed += check.grade == Grade::kFail;
    absl::StrAppendFormat(&text, "[%-4s] %s: %s\n", ToString(check.grade),
                          check.name, check.found);
    if (!check.fix.empty()) {
      absl::StrAppend(&text, "       fix: ", check.fix, "\n");
    }
  }
  absl::StrAppend(&text, checks.size(), " checks, ", failed, " failed, ",
                  warned, " to look at\n");
  return text;
}

nlohmann::ordered_json ToJson(const std::vector<Check>& checks) {
  auto array = nlohmann::ordered_json::array();
  for (const Check& check : checks) {
    array.push_back({{"check", check.name},
                     {"verdict", std::string(ToString(check.grade))},
                     {"found", check.found},
                     {"fix", check.fix}});
  }
  return array;
}

}  // namespace nd::ndping
