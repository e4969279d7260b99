#include "ndping/local/devices.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"

namespace nd::ndping {
namespace {

struct Limit {
  absl::string_view name;  // as libibverbs has it
  uint64_t value;
};

std::vector<Limit> LimitsOf(const ibv_device_attr_ex& ex) {
  const ibv_device_attr& attr = ex.orig_attr;
  const auto number = [](int value) { return static_cast<uint64_t>(value); };
  return {
      {"max_mr_size", attr.max_mr_size},
      {"page_size_cap", attr.page_size_cap},
      {"max_qp", number(attr.max_qp)},
      {"max_qp_wr", number(attr.max_qp_wr)},
      {"max_sge", number(attr.max_sge)},
      {"max_sge_rd", number(attr.max_sge_rd)},
      {"max_cq", number(attr.max_cq)},
      {"max_cqe", number(attr.max_cqe)},
      {"max_mr", number(attr.max_mr)},
      {"max_mw", number(attr.max_mw)},
      {"max_pd", number(attr.max_pd)},
      {"max_qp_rd_atom", number(attr.max_qp_rd_atom)},
      {"max_qp_init_rd_atom", number(attr.max_qp_init_rd_atom)},
      {"max_res_rd_atom", number(attr.max_res_rd_atom)},
      {"max_ee_rd_atom", number(attr.max_ee_rd_atom)},
      {"max_ee_init_rd_atom", number(attr.max_ee_init_rd_atom)},
      {"max_ee", number(attr.max_ee)},
      {"max_rdd", number(attr.max_rdd)},
      {"max_raw_ipv6_qp", number(attr.max_raw_ipv6_qp)},
      {"max_raw_ethy_qp", number(attr.max_raw_ethy_qp)},
      {"max_mcast_grp", number(attr.max_mcast_grp)},
      {"max_mcast_qp_attach", number(attr.max_mcast_qp_attach)},
      {"max_total_mcast_qp_attach", number(attr.max_total_mcast_qp_attach)},
      {"max_ah", number(attr.max_ah)},
      {"max_fmr", number(attr.max_fmr)},
      {"max_map_per_fmr", number(attr.max_map_per_fmr)},
      {"max_srq", number(attr.max_srq)},
      {"max_srq_wr", number(attr.max_srq_wr)},
      {"max_srq_sge", number(attr.max_srq_sge)},
      {"max_pkeys", attr.max_pkeys},
      {"local_ca_ack_delay", attr.local_ca_ack_delay},
      {"device_cap_flags", attr.device_cap_flags},
      {"device_cap_flags_ex", ex.device_cap_flags_ex},
      {"odp_general_caps", ex.odp_caps.general_caps},
      {"completion_timestamp_mask", ex.completion_timestamp_mask},
      {"hca_core_clock_khz", ex.hca_core_clock},
      {"raw_packet_caps", ex.raw_packet_caps},
      {"max_dm_size", ex.max_dm_size},
  };
}

absl::string_view AtomicsOf(const ibv_device_attr& attr) {
  switch (attr.atomic_cap) {
    case IBV_ATOMIC_HCA:
      return "among this device's QPs";
    case IBV_ATOMIC_GLOB:
      return "with the CPU's too";
    default:
      return "none";
  }
}

std::string GuidText(uint64_t guid) {
  return absl::StrFormat("%04x:%04x:%04x:%04x", guid >> 48, guid >> 32 & 0xffff,
                         guid >> 16 & 0xffff, guid & 0xffff);
}

std::string FirmwareOf(const ibv_device_attr& attr) {
  return std::string(attr.fw_ver, strnlen(attr.fw_ver, sizeof(attr.fw_ver)));
}

constexpr size_t kColumns = 10;
using Row = std::array<std::string, kColumns>;

std::string Aligned(const std::vector<Row>& rows) {
  std::array<size_t, kColumns> widths{};
  for (const Row& row : rows) {
    for (size_t i = 0; i < kColumns; ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < kColumns; ++i) {
      absl::StrAppendFormat(&line, "%-*s", static_cast<int>(widths[i] + 2),
                            row[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

// A port and its first GID in one row, the other GIDs below.
void AppendPort(const std::string& device, const verbs::Port& port,
                std::vector<Row>& rows) {
  rows.push_back({device, absl::StrCat(int{port.number}), port.StateName(),
                  port.LinkLayerName(), absl::StrCat(port.active_mtu_bytes()),
                  absl::StrCat(port.max_mtu_bytes()), "-", "", "", ""});
  bool first = true;
  for (const verbs::GidEntry& gid : port.gids) {
    if (!std::exchange(first, false)) rows.emplace_back();
    Row& row = rows.back();
    row[6] = absl::StrCat(gid.index);
    row[7] = gid.TypeName();
    row[8] = gid.netdev.empty() ? "-" : gid.netdev;
    row[9] = gid.Address();
  }
}

std::string VerboseText(const DeviceDescription& device) {
  const ibv_device_attr& attr = device.attr.orig_attr;
  std::string text = absl::StrCat("\n", device.name, "\n");
  const auto line = [&text](absl::string_view name, absl::string_view value) {
    absl::StrAppendFormat(&text, "  %-27s%s\n", name, value);
  };
  line("node_guid", GuidText(device.node_guid));
  line("firmware", FirmwareOf(attr));
  line("vendor_id", absl::StrFormat("0x%04x", attr.vendor_id));
  line("vendor_part_id", absl::StrCat(attr.vendor_part_id));
  line("hardware_version", absl::StrCat(attr.hw_ver));
  line("atomics", AtomicsOf(attr));
  for (const Limit& limit : LimitsOf(device.attr)) {
    const bool bits = absl::StrContains(limit.name, "_cap") ||
                      absl::StrContains(limit.name, "_mask");
    line(limit.name, bits ? absl::StrFormat("0x%x", limit.value)
                          : absl::StrCat(limit.value));
  }
  return text;
}

nlohmann::ordered_json PortJson(const verbs::Port& port) {
  auto gids = nlohmann::ordered_json::array();
  for (const verbs::GidEntry& gid : port.gids) {
    gids.push_back({{"index", gid.index},
                    {"type", gid.TypeName()},
                    {"netdev", gid.netdev},
                    {"address", gid.Address()}});
  }
  return {{"number", port.number},
          {"state", port.StateName()},
          {"link_layer", port.LinkLayerName()},
          {"active_mtu", port.active_mtu_bytes()},
          {"max_mtu", port.max_mtu_bytes()},
          {"max_message_size", port.attr.max_msg_sz},
          {"lid", port.attr.lid},
          {"gids", std::move(gids)}};
}

absl::Status Describe(DeviceDescription& device) {
  ND_ASSIGN_OR_RETURN(const auto context, verbs::Context::Open(device.name));
  device.attr = context->attr();
  ND_ASSIGN_OR_RETURN(device.ports, context->QueryPorts());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<DeviceDescription>> GatherDevices() {
  ND_ASSIGN_OR_RETURN(const auto infos, verbs::ListDevices());
  std::vector<DeviceDescription> devices;
  for (const verbs::DeviceInfo& info : infos) {
    DeviceDescription& device = devices.emplace_back();
    device.name = info.name;
    device.node_guid = info.node_guid;
    device.status = Describe(device);
  }
  return devices;
}

std::string FormatDevices(const std::vector<DeviceDescription>& devices,
                          bool verbose) {
  if (devices.empty()) {
    return "no RDMA device; 'ndping doctor' says how to get one\n";
  }
  std::vector<Row> rows = {{"DEVICE", "PORT", "STATE", "LINK LAYER", "MTU",
                            "MAX MTU", "GID", "TYPE", "NETDEV", "ADDRESS"}};
  std::string below;
  for (const DeviceDescription& device : devices) {
    if (!device.status.ok()) {
      rows.push_back({device.name, "-", "cannot be opened"});
      absl::StrAppend(&below, device.name, ": ", device.status.message(), "\n");
      continue;
    }
    for (const verbs::Port& port : device.ports) {
      AppendPort(device.name, port, rows);
    }
    if (verbose) absl::StrAppend(&below, VerboseText(device));
  }
  return Aligned(rows) + below;
}

nlohmann::ordered_json ToJson(const std::vector<DeviceDescription>& devices) {
  auto array = nlohmann::ordered_json::array();
  for (const DeviceDescription& device : devices) {
    nlohmann::ordered_json json = {{"name", device.name},
                                   {"node_guid", GuidText(device.node_guid)}};
    if (!device.status.ok()) {
      json["error"] = std::string(device.status.message());
      array.push_back(std::move(json));
      continue;
    }
    json["firmware"] = FirmwareOf(device.attr.orig_attr);
    json["vendor_id"] = device.attr.orig_attr.vendor_id;
    json["vendor_part_id"] = device.attr.orig_attr.vendor_part_id;
    json["atomics"] = std::string(AtomicsOf(device.attr.orig_attr));
    json["ports"] = nlohmann::ordered_json::array();
    for (const verbs::Port& port : device.ports) {
      json["ports"].push_back(PortJson(port));
    }
    for (const Limit& limit : LimitsOf(device.attr)) {
      json["limits"][std::string(limit.name)] = limit.value;
    }
    array.push_back(std::move(json));
  }
  return array;
}

}  // namespace nd::ndping
