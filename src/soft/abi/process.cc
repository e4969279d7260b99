#include "soft/abi/process.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/environment.h"
#include "base/log.h"
#include "base/status.h"
#include "soft/abi/hooks_off.h"
#include "soft/abi/soft_device.h"
#include "soft/device/personality.h"
#include "soft/net/device_fds.h"
#include "soft/net/fault_spec.h"
#include "soft/net/faulty_network.h"
#include "soft/net/host_network.h"

namespace nd::soft {
namespace {

// What applications see of the device, and the zeros that some look for behind
// it: mlx5dv and efadv compare what stands there with operations of theirs.
struct ListedDevice {
  ibv_device verbs{};
  std::byte zeros[256]{};
};

std::atomic<SoftProcess*> g_process{nullptr};
std::mutex g_begin;

// The parent's device goes on in the parent alone; its objects stay here, out
// of use.
void ForgetInChild() {
  SoftProcess* const process = g_process.exchange(nullptr);
  if (process != nullptr) process->device().LeaveInChild();
  DeviceFds::LeaveInChild();
  new (&g_begin) std::mutex;
}

bool HostHasDevices() {
  const HooksOff off;
  std::error_code error;  // then there is nothing to iterate over
  const std::filesystem::directory_iterator devices("/sys/class/infiniband",
                                                    error);
  return devices != std::filesystem::directory_iterator();
}

// ND_DEVICE: "soft" and "none" decide; otherwise it serves where nothing else
// does.
bool Wanted() {
  const absl::string_view wish = Environment("ND_DEVICE");
  if (wish == "soft") return true;
  if (wish == "none") return false;
  return !HostHasDevices();
}

// What `parse` makes of a variable, or of nothing where it is not set.
template <typename Parse>
auto ReadVariable(const char* name, Parse parse)
    -> decltype(parse(absl::string_view())) {
  auto parsed = parse(Environment(name));
  if (parsed.ok()) return parsed;
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", parsed.status().message()));
}

// Whether large payload within the host may be fetched by who receives it.
absl::StatusOr<bool> ParseSingleCopy(absl::string_view value) {
  if (value.empty() || value == "1") return true;
  if (value == "0") return false;
  return absl::InvalidArgumentError(
      absl::StrCat("'", value, "' is neither 0 nor 1"));
}

}  // namespace

bool SoftIsActive() {
  static std::atomic<int> active{-1};
  int known = active.load(std::memory_order_relaxed);
  if (known < 0) {
    known = Wanted() ? 1 : 0;
    active.store(known, std::memory_order_relaxed);
  }
  return known == 1;
}

bool IsSoftDevice(const ibv_device* device) {
  return device == SoftDeviceHandle();
}

ibv_device* SoftDeviceHandle() {
  static ListedDevice* const listed = [] {
    auto* const made = new ListedDevice;
    ibv_device& device = made->verbs;
    device.node_type = IBV_NODE_CA;
    device.transport_type = IBV_TRANSPORT_IB;
    std::strncpy(device.name, kDeviceName, sizeof(device.name) - 1);
    std::strncpy(device.dev_name, kUverbsName, sizeof(device.dev_name) - 1);
    std::strncpy(device.dev_path, "/sys/class/infiniband_verbs/uverbs_nd0",
                 sizeof(device.dev_path) - 1);
    std::strncpy(device.ibdev_path, "/sys/class/infiniband/nd0",
                 sizeof(device.ibdev_path) - 1);
    return made;
  }();
  return &listed->verbs;
}

std::optional<PathFacts> CurrentPathFacts() {
  // Its files name the places that the device's table has.
  SoftProcess* const process = g_process.load();
  const HostAddresses host =
      process != nullptr ? *process->device().host() : ReadHostAddresses();
  PathFacts facts{.name = kDeviceName,
                  .uverbs_name = kUverbsName,
                  .node_guid = host.guid,
                  .firmware_version = kFirmwareVersion};
  for (const GidEntry& entry : host.gids) {
    if (entry.gid == Gid{}) {
      facts.gids.emplace_back();
      continue;
    }
    facts.gids.push_back(
        {.raw = entry.gid, .type = "RoCE v2", .netdev = entry.interface});
  }
  if (!host.gids.empty()) facts.netdev = host.gids.front().interface;
  facts.gids.resize(std::max<size_t>(facts.gids.size(), Limits().gid_places));
  return facts;
}

SoftProcess::SoftProcess(Device::Options options,
                         std::unique_ptr<Network> network,
                         std::unique_ptr<FaultPlan> faults, AddressWatch watch)
    : faults_(std::move(faults)),
      device_((options.faults = faults_.get(), options), std::move(network),
              Clock::Monotonic(), random_),
      engine_(device_, std::move(watch)) {}

absl::StatusOr<SoftProcess*> SoftProcess::Begin() {
  const HooksOff off;
  ND_ASSIGN_OR_RETURN(const FaultSpec faults,
                      ReadVariable("ND_SOFT_FAULTS", ParseFaultSpec));
  ND_ASSIGN_OR_RETURN(const Limits limits,
                      ReadVariable("ND_SOFT_PERSONALITY", PersonalityLimits));
  ND_ASSIGN_OR_RETURN(const bool single_copy,
                      ReadVariable("ND_SOFT_SINGLE_COPY", ParseSingleCopy));
  // Before the addresses are read: a change between the two is not missed.
  auto opened = AddressWatch::Open();
  AddressWatch watch = opened.ok() ? *std::move(opened) : AddressWatch();
  const HostAddresses host = ReadHostAddresses();
  SystemRandom random;
  ND_ASSIGN_OR_RETURN(auto network,
                      HostNetwork::Open({.fetches = single_copy}, random));
  network->SetLocalGids(host.addresses());
  network->set_wants_wire(true);
  const Device::Options options{.limits = limits, .host = host};
  if (faults == FaultSpec{}) {
    return new SoftProcess(options, std::move(network), nullptr,
                           std::move(watch));
  }
  const Instant start = Clock::Monotonic().Now();
  const uint64_t seed = faults.seed.value_or(random.Next());
  ND_LOG(kInfo, "the soft device has faults, seed=", seed);
  return new SoftProcess(
      options,
      std::make_unique<FaultyNetwork>(faults, std::move(network), seed, start),
      // Chance of its own, not the network's once more.
      std::make_unique<FaultPlan>(faults, ~seed, start), std::move(watch));
}

SoftProcess* SoftProcess::Current() { return g_process.load(); }

absl::StatusOr<SoftProcess*> SoftProcess::Get() {
  if (SoftProcess* const process = g_process.load()) return process;
  const std::lock_guard<std::mutex> lock(g_begin);
  if (SoftProcess* const process = g_process.load()) return process;
  static const int at_fork = pthread_atfork(nullptr, nullptr, ForgetInChild);
  (void)at_fork;
  auto process = Begin();
  if (!process.ok()) {
    ND_LOG(kWarning,
           "the soft device cannot begin: ", process.status().ToString());
    return process.status();
  }
  g_process.store(*process);
  return *process;
}

}  // namespace nd::soft
