#include "soft/net/fault_spec.h"

#include <array>
#include <chrono>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace nd::soft {
namespace {

constexpr double kLongestSeconds = 1e6;

struct NamedStatus {
  absl::string_view name;
  ibv_wc_status status;
};

// Those with which a send fails by itself, so that its queue pair goes to ERR.
constexpr auto kStatuses = std::to_array<NamedStatus>({
    {"LOC_LEN_ERR", IBV_WC_LOC_LEN_ERR},
    {"LOC_QP_OP_ERR", IBV_WC_LOC_QP_OP_ERR},
    {"LOC_PROT_ERR", IBV_WC_LOC_PROT_ERR},
    {"MW_BIND_ERR", IBV_WC_MW_BIND_ERR},
    {"BAD_RESP_ERR", IBV_WC_BAD_RESP_ERR},
    {"REM_INV_REQ_ERR", IBV_WC_REM_INV_REQ_ERR},
    {"REM_ACCESS_ERR", IBV_WC_REM_ACCESS_ERR},
    {"REM_OP_ERR", IBV_WC_REM_OP_ERR},
    {"RETRY_EXC_ERR", IBV_WC_RETRY_EXC_ERR},
    {"RNR_RETRY_EXC_ERR", IBV_WC_RNR_RETRY_EXC_ERR},
    {"REM_ABORT_ERR", IBV_WC_REM_ABORT_ERR},
    {"FATAL_ERR", IBV_WC_FATAL_ERR},
    {"GENERAL_ERR", IBV_WC_GENERAL_ERR},
});

// Each reads all of `text`; false: it is not that.
bool Read(absl::string_view text, double& probability) {
  return absl::SimpleAtod(text, &probability) && probability >= 0 &&
         probability <= 1;
}

bool Read(absl::string_view text, Duration& time) {
  constexpr std::pair<absl::string_view, double> kUnits[] = {
      {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}};
  for (const auto& [unit, seconds] : kUnits) {
    absl::string_view number = text;
    if (!absl::ConsumeSuffix(&number, unit)) continue;
    double count = 0;
    if (!absl::SimpleAtod(number, &count) || !(count >= 0) ||
        count * seconds > kLongestSeconds) {
      return false;
    }
    time = Duration(std::llround(count * seconds * 1e9));
    return true;
  }
  return false;
}

bool Read(absl::string_view text, ibv_wc_status& status) {
  for (const NamedStatus& known : kStatuses) {
    if (known.name != text) continue;
    status = known.status;
    return true;
  }
  return false;
}

// WHAT@PROBABILITY
template <typename What>
bool ReadAt(absl::string_view text, What& what, double& probability) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '@');
  return parts.size() == 2 && Read(parts[0], what) &&
         Read(parts[1], probability);
}

// after:TIME
bool ReadAfter(absl::string_view text, Duration& after) {
  return absl::ConsumePrefix(&text, "after:") && Read(text, after);
}

bool ReadPortDown(absl::string_view text, PortDownFault& down) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ',');
  if (parts.size() > 2 || !ReadAfter(parts[0], down.after)) return false;
  if (parts.size() == 1) return true;
  absl::string_view lasts = parts[1];
  return absl::ConsumePrefix(&lasts, "for:") &&
         Read(lasts, down.lasts.emplace());
}

// What a kind's value looks like, and how it is read.
struct Kind {
  absl::string_view name;
  absl::string_view form;
  bool (*read)(absl::string_view text, FaultSpec& spec);
};

constexpr absl::string_view kProbability = "a probability from 0 to 1";
constexpr absl::string_view kAfter = "after:TIME, TIME with us, ms or s";

template <double FaultSpec::*kMember>
bool ReadProbability(absl::string_view text, FaultSpec& spec) {
  return Read(text, spec.*kMember);
}

template <std::optional<Duration> FaultSpec::*kMember>
bool ReadMoment(absl::string_view text, FaultSpec& spec) {
  return ReadAfter(text, (spec.*kMember).emplace());
}

constexpr auto kKinds = std::to_array<Kind>({
    {"seed", "a number",
     [](absl::string_view text, FaultSpec& spec) {
       return absl::SimpleAtoi(text, &spec.seed.emplace());
     }},
    {"drop", kProbability, ReadProbability<&FaultSpec::drop>},
    {"duplicate", kProbability, ReadProbability<&FaultSpec::duplicate>},
    {"reorder", kProbability, ReadProbability<&FaultSpec::reorder>},
    {"corrupt", kProbability, ReadProbability<&FaultSpec::corrupt>},
    {"delay", "TIME@PROBABILITY, TIME with us, ms or s",
     [](absl::string_view text, FaultSpec& spec) {
       return ReadAt(text, spec.delay.by, spec.delay.probability);
     }},
    {"rnr", kProbability, ReadProbability<&FaultSpec::rnr>},
    {"shuffle", kProbability, ReadProbability<&FaultSpec::shuffle>},
    {"cqe", "STATUS@PROBABILITY, STATUS as in IBV_WC_RETRY_EXC_ERR",
     [](absl::string_view text, FaultSpec& spec) {
       return ReadAt(text, spec.cqe.status, spec.cqe.probability);
     }},
    {"cm-reject", kProbability, ReadProbability<&FaultSpec::cm_reject>},
    {"port-down", "after:TIME or after:TIME,for:TIME, TIME with us, ms or s",
     [](absl::string_view text, FaultSpec& spec) {
       return ReadPortDown(text, spec.port_down.emplace());
     }},
    {"gid-change", kAfter, ReadMoment<&FaultSpec::gid_change>},
    {"device-removal", kAfter, ReadMoment<&FaultSpec::device_removal>},
});

absl::Status Wrong(absl::string_view piece, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("'", piece, "': ", why));
}

absl::Status ReadPiece(absl::string_view piece, FaultSpec& spec,
                       std::vector<absl::string_view>& seen) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(piece, absl::MaxSplits('=', 1));
  const auto& [name, value] = parts;
  for (const Kind& kind : kKinds) {
    if (kind.name != name) continue;
    for (const absl::string_view other : seen) {
      if (other == name) return Wrong(piece, "given twice");
    }
    seen.push_back(kind.name);
    if (kind.read(value, spec)) return absl::OkStatus();
    return Wrong(piece, absl::StrCat("'", name, "' takes ", kind.form));
  }
  std::string names;
  for (const Kind& kind : kKinds) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", kind.name);
  }
  return Wrong(piece, absl::StrCat("no such fault; there are ", names));
}

}  // namespace

absl::StatusOr<FaultSpec> ParseFaultSpec(absl::string_view text) {
  FaultSpec spec;
  std::vector<absl::string_view> seen;
  for (const absl::string_view part : absl::StrSplit(text, ';')) {
    const absl::string_view piece = absl::StripAsciiWhitespace(part);
    if (piece.empty()) continue;
    const absl::Status status = ReadPiece(piece, spec, seen);
    if (!status.ok()) return status;
  }
  return spec;
}

bool IsPortDown(const FaultSpec& spec, Duration elapsed) {
  if (spec.device_removal && elapsed >= *spec.device_removal) return true;
  if (!spec.port_down || elapsed < spec.port_down->after) return false;
  return !spec.port_down->lasts ||
         elapsed < spec.port_down->after + *spec.port_down->lasts;
}

}  // namespace nd::soft
