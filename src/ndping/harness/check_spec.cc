// What a client may ask of a server: the ranges of harness.proto and the
// server's limits.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "control/layout.h"
#include "ndping/harness/harness_server.h"
#include "ndping/message/session_plan.h"
#include "ndping/text/spec_names.h"
#include "ndping/text/units.h"

namespace nd::ndping {
namespace {

// The most that one RC message carries (IBA 9.7.2).
constexpr uint64_t kMaxMessageBytes = uint64_t{1} << 31;
// Of a connect test that makes them one after another.
constexpr uint64_t kMaxConnections = 1'000'000;

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

template <typename... Parts>
absl::Status TooMuch(const Parts&... parts) {
  return absl::ResourceExhaustedError(
      absl::StrCat(parts..., ", which is the server's limit"));
}

bool IsOneSided(v1::Operation operation) {
  return operation == v1::OPERATION_WRITE || operation == v1::OPERATION_READ ||
         IsAtomic(operation);
}

bool NeedsReceives(v1::Operation operation) { return !IsOneSided(operation); }

uint64_t Largest(const v1::TestSpec& spec) {
  return spec.sizes().empty() ? 0 : *std::ranges::max_element(spec.sizes());
}

// One check each: the field, and what is wrong with it.
using Check = absl::Status (*)(const v1::TestSpec&, const v1::Limits&);

absl::Status CheckMtu(const v1::TestSpec& spec, const v1::Limits&) {
  constexpr std::array<uint32_t, 6> kMtus = {0, 256, 512, 1024, 2048, 4096};
  if (std::ranges::find(kMtus, spec.mtu()) != kMtus.end()) {
    return absl::OkStatus();
  }
  return Invalid("mtu: ", spec.mtu(),
                 " is not 256, 512, 1024, 2048, 4096, or 0 for what the "
                 "connection manager finds");
}

absl::Status AtMost(absl::string_view field, uint64_t value, uint64_t most) {
  if (value <= most) return absl::OkStatus();
  return Invalid(field, ": ", value, " is not within 0 to ", most);
}

absl::Status CheckServiceLevel(const v1::TestSpec& spec, const v1::Limits&) {
  return AtMost("service_level", spec.service_level(), 15);
}
absl::Status CheckTypeOfService(const v1::TestSpec& spec, const v1::Limits&) {
  return AtMost("type_of_service", spec.type_of_service(), 255);
}
absl::Status CheckRetryCount(const v1::TestSpec& spec, const v1::Limits&) {
  return AtMost("retry_count", spec.retry_count(), 7);
}
absl::Status CheckRnrRetryCount(const v1::TestSpec& spec, const v1::Limits&) {
  return AtMost("rnr_retry_count", spec.rnr_retry_count(), 7);
}
absl::Status CheckAckTimeout(const v1::TestSpec& spec, const v1::Limits&) {
  return AtMost("ack_timeout", spec.ack_timeout(), 31);
}

absl::Status CheckDuration(const v1::TestSpec& spec, const v1::Limits& limits) {
  if (spec.duration_ns() <= limits.max_duration_ns()) return absl::OkStatus();
  return TooMuch(
      "duration_ns: ", FormatTime(static_cast<double>(spec.duration_ns())),
      " is more than ",
      FormatTime(static_cast<double>(limits.max_duration_ns())));
}

// Of all kinds of tests.
constexpr Check kConnectionChecks[] = {
    CheckMtu,           CheckServiceLevel, CheckTypeOfService, CheckRetryCount,
    CheckRnrRetryCount, CheckAckTimeout,   CheckDuration,
};

absl::Status CheckConnections(const v1::TestSpec& spec, const v1::Limits&) {
  if (spec.connections() >= 1 && spec.connections() <= kMaxConnections) {
    return absl::OkStatus();
  }
  return Invalid("connections: ", spec.connections(), " is not within 1 to ",
                 kMaxConnections);
}

absl::Status CheckHeld(const v1::TestSpec& spec, const v1::Limits& limits) {
  if (!spec.hold() || spec.connections() <= limits.max_qps()) {
    return absl::OkStatus();
  }
  return TooMuch("connections: ", spec.connections(),
                 " open at once are more than ", limits.max_qps());
}

constexpr Check kConnectTestChecks[] = {CheckConnections, CheckHeld};

absl::Status CheckOperation(const v1::TestSpec& spec, const v1::Limits&) {
  if (v1::Operation_IsValid(spec.operation()) &&
      spec.operation() != v1::OPERATION_UNSPECIFIED) {
    return absl::OkStatus();
  }
  return Invalid("operation: ", static_cast<int>(spec.operation()),
                 " is none that this version knows");
}

absl::Status CheckCqMode(const v1::TestSpec& spec, const v1::Limits&) {
  if (v1::CqMode_IsValid(spec.cq_mode()) &&
      spec.cq_mode() != v1::CQ_MODE_UNSPECIFIED) {
    return absl::OkStatus();
  }
  return Invalid("cq_mode: ", static_cast<int>(spec.cq_mode()),
                 " is none that this version knows");
}

absl::Status CheckSizes(const v1::TestSpec& spec, const v1::Limits&) {
  if (spec.sizes_size() < 1 ||
      static_cast<size_t>(spec.sizes_size()) > kMaxSizes) {
    return Invalid("sizes: ", spec.sizes_size(), " sizes, not 1 to ",
                   kMaxSizes);
  }
  if (Largest(spec) <= kMaxMessageBytes) return absl::OkStatus();
  return Invalid("sizes: ", Largest(spec), " bytes are more than the ",
                 FormatSize(kMaxMessageBytes), " of one message");
}

absl::Status CheckMaxSize(const v1::TestSpec& spec, const v1::Limits& limits) {
  if (Largest(spec) <= limits.max_size()) return absl::OkStatus();
  return TooMuch("sizes: a message of ", FormatSize(Largest(spec)),
                 " bytes is larger than ", FormatSize(limits.max_size()));
}

absl::Status CheckAtomicSize(const v1::TestSpec& spec, const v1::Limits&) {
  if (!IsAtomic(spec.operation()) ||
      std::ranges::all_of(spec.sizes(), [](uint64_t s) { return s == 8; })) {
    return absl::OkStatus();
  }
  return Invalid("sizes: ", OperationName(spec.operation()),
                 " works on exactly 8 bytes");
}

absl::Status CheckEmptyWrite(const v1::TestSpec& spec, const v1::Limits&) {
  if (spec.kind() != v1::TEST_KIND_LATENCY ||
      spec.operation() != v1::OPERATION_WRITE ||
      std::ranges::find(spec.sizes(), 0u) == spec.sizes().end()) {
    return absl::OkStatus();
  }
  return Invalid(
      "sizes: a write of 0 bytes changes nothing that the peer could see, so "
      "its latency cannot be measured; use write-imm");
}

absl::Status CheckAmount(const v1::TestSpec& spec, const v1::Limits&) {
  if ((spec.iterations() > 0) != (spec.duration_ns() > 0)) {
    return absl::OkStatus();
  }
  return Invalid(spec.iterations() > 0
                     ? "iterations: not together with duration_ns"
                     : "iterations: neither these nor duration_ns are given");
}

absl::Status CheckQps(const v1::TestSpec& spec, const v1::Limits&) {
  if (spec.qps() > 0) return absl::OkStatus();
  return Invalid("qps: at least 1");
}
absl::Status CheckMaxQps(const v1::TestSpec& spec, const v1::Limits& limits) {
  if (spec.qps() <= limits.max_qps()) return absl::OkStatus();
  return TooMuch("qps: ", spec.qps(), " are more than ", limits.max_qps());
}

absl::Status CheckDepth(const v1::TestSpec& spec, const v1::Limits&) {
  if (spec.depth() > 0) return absl::OkStatus();
  return Invalid("depth: at least 1");
}
absl::Status CheckMaxDepth(const v1::TestSpec& spec, const v1::Limits& limits) {
  if (spec.depth() <= limits.max_depth()) return absl::OkStatus();
  return TooMuch("depth: ", spec.depth(), " is more than ", limits.max_depth());
}

absl::Status CheckSignalEvery(const v1::TestSpec& spec, const v1::Limits&) {
  if (spec.signal_every() >= 1 && spec.signal_every() <= spec.depth()) {
    return absl::OkStatus();
  }
  return Invalid("signal_every: ", spec.signal_every(),
                 " is not within 1 to the depth, ", spec.depth());
}

absl::Status CheckBidirectional(const v1::TestSpec& spec, const v1::Limits&) {
  if (!spec.bidirectional() || spec.kind() == v1::TEST_KIND_BANDWIDTH) {
    return absl::OkStatus();
  }
  return Invalid("bidirectional: only a bandwidth test can be");
}

absl::Status CheckRateLimit(const v1::TestSpec& spec, const v1::Limits&) {
  if (spec.rate_limit() == 0 || spec.kind() == v1::TEST_KIND_BANDWIDTH) {
    return absl::OkStatus();
  }
  return Invalid(
      "rate_limit: only a bandwidth test has one; a latency test has "
      "interval_ns");
}

absl::Status CheckInterval(const v1::TestSpec& spec, const v1::Limits&) {
  if (spec.interval_ns() == 0 || spec.kind() == v1::TEST_KIND_LATENCY) {
    return absl::OkStatus();
  }
  return Invalid(
      "interval_ns: only a latency test has one; a bandwidth test has "
      "rate_limit");
}

absl::Status CheckMaxInterval(const v1::TestSpec& spec,
                              const v1::Limits& limits) {
  if (spec.interval_ns() <= limits.max_duration_ns()) return absl::OkStatus();
  return TooMuch(
      "interval_ns: ", FormatTime(static_cast<double>(spec.interval_ns())),
      " is more than a phase may last, ",
      FormatTime(static_cast<double>(limits.max_duration_ns())));
}

absl::Status CheckProvoke(const v1::TestSpec& spec, const v1::Limits&) {
  if (v1::Provoke_IsValid(spec.provoke())) return absl::OkStatus();
  return Invalid("provoke: ", static_cast<int>(spec.provoke()),
                 " is none that this version knows");
}

absl::Status CheckWrongRkey(const v1::TestSpec& spec, const v1::Limits&) {
  if (spec.provoke() != v1::PROVOKE_WRONG_RKEY ||
      IsOneSided(spec.operation()) ||
      spec.operation() == v1::OPERATION_WRITE_WITH_IMM) {
    return absl::OkStatus();
  }
  return Invalid("provoke: ", OperationName(spec.operation()),
                 " uses no R_Key that could be wrong");
}

absl::Status CheckNoReceives(const v1::TestSpec& spec, const v1::Limits&) {
  if (spec.provoke() != v1::PROVOKE_NO_RECEIVES ||
      NeedsReceives(spec.operation())) {
    return absl::OkStatus();
  }
  return Invalid("provoke: ", OperationName(spec.operation()),
                 " needs no receives that could be missing");
}

// The least that any layout of buffers needs: one message in each direction
// that has data, for each QP. What the test really takes TestSide checks.
absl::Status CheckMemory(const v1::TestSpec& spec, const v1::Limits& limits) {
  const bool both_ways =
      spec.bidirectional() ||
      (spec.kind() == v1::TEST_KIND_LATENCY &&
       spec.operation() != v1::OPERATION_READ && !IsAtomic(spec.operation()));
  const uint64_t need = Largest(spec) * spec.qps() * (both_ways ? 2 : 1);
  if (need <= limits.max_memory()) return absl::OkStatus();
  return TooMuch("memory: ", spec.qps(), " QPs with messages of ",
                 FormatSize(Largest(spec)), " bytes need at least ",
                 FormatSize(need), " bytes of buffers, more than ",
                 FormatSize(limits.max_memory()));
}

// In this order: each may rely on those before it.
constexpr Check kDataChecks[] = {
    CheckOperation,     CheckCqMode,     CheckSizes,      CheckMaxSize,
    CheckAtomicSize,    CheckEmptyWrite, CheckAmount,     CheckQps,
    CheckMaxQps,        CheckDepth,      CheckMaxDepth,   CheckSignalEvery,
    CheckBidirectional, CheckRateLimit,  CheckInterval,   CheckMaxInterval,
    CheckProvoke,       CheckWrongRkey,  CheckNoReceives, CheckMemory,
};

// What only verbs have.
absl::Status CheckNoVerbs(const v1::TestSpec& spec, const v1::Limits&) {
  const std::pair<absl::string_view, bool> set[] = {
      {"operation", spec.operation() != v1::OPERATION_UNSPECIFIED},
      {"signal_every", spec.signal_every() != 0},
      {"inline_bytes", spec.inline_bytes() != 0},
      {"mtu", spec.mtu() != 0},
      {"service_level", spec.service_level() != 0},
      {"type_of_service", spec.type_of_service() != 0},
      {"retry_count", spec.retry_count() != 0},
      {"rnr_retry_count", spec.rnr_retry_count() != 0},
      {"ack_timeout", spec.ack_timeout() != 0},
      {"provoke", spec.provoke() != v1::PROVOKE_NOTHING}};
  for (const auto& [field, is_set] : set) {
    if (is_set) return Invalid(field, ": not of a test over a session");
  }
  return absl::OkStatus();
}

absl::Status CheckStreamClass(absl::string_view field, v1::StreamClass value) {
  if (v1::StreamClass_IsValid(value) && value != v1::STREAM_CLASS_UNSPECIFIED) {
    return absl::OkStatus();
  }
  return Invalid(field, ": ", static_cast<int>(value),
                 " is none that this version knows");
}

absl::Status CheckClass(const v1::TestSpec& spec, const v1::Limits&) {
  return CheckStreamClass("stream_class", spec.session().stream_class());
}

absl::Status CheckLoad(const v1::TestSpec& spec, const v1::Limits& limits) {
  if (!spec.session().has_load()) return absl::OkStatus();
  const v1::Load& load = spec.session().load();
  if (spec.kind() != v1::TEST_KIND_LATENCY) {
    return Invalid("load: only a latency test has one");
  }
  absl::Status status = CheckStreamClass("load.class", load.stream_class());
  if (!status.ok()) return status;
  if (load.size() < 1) return Invalid("load.size: at least 1 byte");
  if (load.size() > limits.max_size()) {
    return TooMuch("load.size: ", FormatSize(load.size()),
                   " bytes are more than ", FormatSize(limits.max_size()));
  }
  if (load.depth() < 1) return Invalid("load.depth: at least 1");
  if (load.depth() > limits.max_depth()) {
    return TooMuch("load.depth: ", load.depth(), " is more than ",
                   limits.max_depth());
  }
  const uint64_t need = load.size() * (spec.verify() ? load.depth() : 1);
  if (need <= limits.max_memory()) return absl::OkStatus();
  return TooMuch("memory: a load of ", load.depth(), " messages of ",
                 FormatSize(load.size()), " bytes needs ", FormatSize(need),
                 " bytes of buffers, more than ",
                 FormatSize(limits.max_memory()));
}

// Names what control.proto calls layout.slots as the TestSpec does.
absl::Status CheckSessionLayout(const v1::TestSpec& spec,
                                const v1::Limits& limits) {
  absl::StatusOr<SessionPlan> plan =
      SessionPlan::Make(spec, limits.max_memory());
  if (!plan.ok()) return plan.status();
  const v1::SessionOptions& options = spec.session();
  control::SessionLayout layout;
  layout.latency_connections = layout.bulk_connections = options.connections();
  layout.slots = options.slots();
  layout.slot_size = options.slot_size();
  layout.eager_limit = options.eager_limit();
  layout.stream_window = plan->layout.stream_window;
  layout.max_streams = plan->layout.max_streams;
  layout.receive_budget = plan->layout.receive_budget;
  absl::Status checked = control::CheckLayout(layout);
  absl::string_view message = checked.message();
  if (!absl::ConsumePrefix(&message, "layout.")) return checked;
  return absl::Status(checked.code(), message);
}

// Likewise.
constexpr Check kSessionChecks[] = {
    CheckNoVerbs,       CheckCqMode,        CheckSizes,     CheckMaxSize,
    CheckAmount,        CheckQps,           CheckMaxQps,    CheckDepth,
    CheckMaxDepth,      CheckBidirectional, CheckRateLimit, CheckInterval,
    CheckMaxInterval,   CheckMemory,        CheckClass,     CheckLoad,
    CheckSessionLayout,
};

absl::Status CheckAll(std::span<const Check> checks, const v1::TestSpec& spec,
                      const v1::Limits& limits) {
  for (const Check check : checks) {
    if (absl::Status status = check(spec, limits); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

v1::Limits HarnessServer::DefaultLimits() {
  v1::Limits limits;
  limits.set_max_size(uint64_t{64} << 20);
  limits.set_max_depth(4096);
  limits.set_max_qps(1024);
  limits.set_max_duration_ns(uint64_t{3600} * 1'000'000'000);
  limits.set_max_tests(16);
  limits.set_max_memory(uint64_t{1} << 30);
  return limits;
}

absl::Status CheckSpec(const v1::TestSpec& spec, const v1::Limits& limits) {
  absl::Status status = CheckAll(kConnectionChecks, spec, limits);
  if (!status.ok()) return status;
  switch (spec.kind()) {
    case v1::TEST_KIND_LATENCY:
    case v1::TEST_KIND_BANDWIDTH:
      return spec.has_session() ? CheckAll(kSessionChecks, spec, limits)
                                : CheckAll(kDataChecks, spec, limits);
    case v1::TEST_KIND_CONNECT:
      if (spec.has_session()) {
        return Invalid("session: a connect test moves no messages");
      }
      return CheckAll(kConnectTestChecks, spec, limits);
    default:
      return Invalid("kind: ", static_cast<int>(spec.kind()),
                     " is none that this version knows");
  }
}

}  // namespace nd::ndping
