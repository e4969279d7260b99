#include "soft/abi/path_view.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace nd::soft {
namespace {

using Kind = PathNode::Kind;

constexpr char kDevices[] = "/sys/class/infiniband";
constexpr char kUverbs[] = "/sys/class/infiniband_verbs";
constexpr char kRdmaCm[] = "/sys/class/misc/rdma_cm";
constexpr char kNodes[] = "/dev/infiniband";

constexpr int kMaxLinks = 40;  // as the kernel has it

// Groups of four digits, as sysfs writes GUIDs and GIDs.
template <size_t kBytes>
std::string Groups(const std::array<uint8_t, kBytes>& bytes) {
  std::string text;
  for (size_t i = 0; i < kBytes; i += 2) {
    absl::StrAppendFormat(&text, "%s%02x%02x", i == 0 ? "" : ":", bytes[i],
                          bytes[i + 1]);
  }
  return text + "\n";
}

std::string GuidText(uint64_t guid) {
  std::array<uint8_t, 8> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(guid >> (56 - 8 * i));
  }
  return Groups(bytes);
}

std::vector<std::string> Parts(std::string_view path) {
  return absl::StrSplit(absl::string_view(path.data(), path.size()), '/',
                        absl::SkipEmpty());
}

std::string ParentOf(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}

}  // namespace

PathView::PathView(const PathFacts& facts) {
  for (const char* path : {kDevices, kUverbs, kRdmaCm, kNodes}) {
    nodes_[path] = {Kind::kShared, ""};
  }
  // The newest versions of either, which the real libraries know.
  Add(absl::StrCat(kUverbs, "/abi_version"), Kind::kFile, "6\n");
  Add(absl::StrCat(kRdmaCm, "/abi_version"), Kind::kFile, "4\n");
  Add(kRdmaCmPath, Kind::kDevice, "");
  Add(absl::StrCat(kNodes, "/", facts.uverbs_name), Kind::kDevice, "");
  AddDevice(facts);
  AddPort(facts);
}

void PathView::AddDevice(const PathFacts& facts) {
  const std::string top = absl::StrCat(kDevices, "/", facts.name);
  const std::string uverbs = absl::StrCat(kUverbs, "/", facts.uverbs_name);
  const std::string device = top + "/device";
  Add(top + "/node_type", Kind::kFile, "1: CA\n");
  Add(top + "/node_guid", Kind::kFile, GuidText(facts.node_guid));
  Add(top + "/sys_image_guid", Kind::kFile, GuidText(facts.node_guid));
  Add(top + "/node_desc", Kind::kFile, facts.name + "\n");
  Add(top + "/fw_ver", Kind::kFile, facts.firmware_version + "\n");

  Add(device + "/numa_node", Kind::kFile, "-1\n");
  Add(absl::StrCat(device, "/infiniband/", facts.name), Kind::kLink, top);
  Add(absl::StrCat(device, "/infiniband_verbs/", facts.uverbs_name),
      Kind::kLink, uverbs);
  Directory(device + "/net");
  if (!facts.netdev.empty()) {
    Add(absl::StrCat(device, "/net/", facts.netdev), Kind::kLink,
        absl::StrCat("/sys/class/net/", facts.netdev));
  }

  Add(uverbs + "/ibdev", Kind::kFile, facts.name + "\n");
  Add(uverbs + "/abi_version", Kind::kFile, "1\n");
  Add(uverbs + "/device", Kind::kLink, device);
}

void PathView::AddPort(const PathFacts& facts) {
  const std::string port = absl::StrCat(kDevices, "/", facts.name, "/ports/1");
  const bool up = facts.port_is_active;
  Add(port + "/state", Kind::kFile, up ? "4: ACTIVE\n" : "1: DOWN\n");
  Add(port + "/phys_state", Kind::kFile, up ? "5: LinkUp\n" : "3: Disabled\n");
  Add(port + "/rate", Kind::kFile, facts.rate + "\n");
  Add(port + "/link_layer", Kind::kFile, "Ethernet\n");
  Add(port + "/lid", Kind::kFile, "0x0\n");
  Add(port + "/lid_mask_count", Kind::kFile, "0\n");
  Add(port + "/sm_lid", Kind::kFile, "0x0\n");
  Add(port + "/sm_sl", Kind::kFile, "0\n");
  Add(port + "/cap_mask", Kind::kFile,
      absl::StrFormat("0x%08x\n", facts.capability_mask));
  Add(port + "/pkeys/0", Kind::kFile, "0xffff\n");
  for (const char* table : {"/gids", "/gid_attrs/types", "/gid_attrs/ndevs"}) {
    Directory(port + table);
  }
  for (size_t i = 0; i < facts.gids.size(); ++i) {
    const PathFacts::Gid& gid = facts.gids[i];
    Add(absl::StrCat(port, "/gids/", i), Kind::kFile, Groups(gid.raw));
    if (gid.netdev.empty()) continue;
    Add(absl::StrCat(port, "/gid_attrs/types/", i), Kind::kFile,
        gid.type + "\n");
    Add(absl::StrCat(port, "/gid_attrs/ndevs/", i), Kind::kFile,
        gid.netdev + "\n");
  }
}

// With those above it, up to one that is shared.
void PathView::Directory(const std::string& path) {
  if (nodes_.try_emplace(path, PathNode{Kind::kDirectory, ""}).second) {
    Directory(ParentOf(path));
  }
}

void PathView::Add(const std::string& path, Kind kind, std::string content) {
  Directory(ParentOf(path));
  nodes_.insert_or_assign(path, PathNode{kind, std::move(content)});
}

std::optional<PathView::Place> PathView::Find(std::string_view path,
                                              LastLink last) const {
  std::vector<std::string> rest = Parts(path);  // what is still to be walked
  std::ranges::reverse(rest);
  std::string here;
  int links = 0;
  while (!rest.empty()) {
    const std::string part = rest.back();
    rest.pop_back();
    if (part == ".") continue;
    if (part == "..") {
      here = ParentOf(here);
      continue;
    }
    const std::string next = absl::StrCat(here, "/", part);
    const auto node = nodes_.find(next);
    const bool link = node != nodes_.end() && node->second.kind == Kind::kLink;
    if (link && (!rest.empty() || last == LastLink::kFollow)) {
      if (++links > kMaxLinks) return std::nullopt;
      std::vector<std::string> target = Parts(node->second.content);
      rest.insert(rest.end(), target.rbegin(), target.rend());
      here.clear();
    } else {
      here = next;
    }
  }
  const auto node = nodes_.find(here);
  if (node != nodes_.end()) return Place{here, node->second};
  if (links == 0) return std::nullopt;
  return Place{here, std::nullopt};
}

std::vector<PathView::Entry> PathView::List(
    const std::string& directory) const {
  const std::string prefix = directory + "/";
  std::vector<Entry> entries;
  for (auto node = nodes_.lower_bound(prefix);
       node != nodes_.end() && node->first.starts_with(prefix); ++node) {
    const std::string name = node->first.substr(prefix.size());
    if (name.find('/') == std::string::npos) {
      entries.push_back({name, node->second.kind});
    }
  }
  return entries;
}

}  // namespace nd::soft
