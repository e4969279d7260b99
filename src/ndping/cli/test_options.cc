#include "ndping/cli/test_options.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/status.h"

namespace nd::ndping {
namespace {

// What a test does unless told otherwise.
struct Defaults {
  uint64_t size;
  uint64_t iterations;  // 0: duration
  Duration duration;
  uint64_t warmup;
  uint32_t qps;
  uint32_t depth;
  uint32_t inline_bytes;
};

// perftest's defaults, save that lat sends 64 bytes, one cache line, rather
// than 2. 220 bytes inline is what perftest asks for in its latency tests.
Defaults DefaultsOf(TestName test) {
  switch (test) {
    case TestName::kLatency:
      return {.size = 64,
              .iterations = 1000,
              .duration{},
              .warmup = 100,
              .qps = 1,
              .depth = 1,
              .inline_bytes = 220};
    case TestName::kBandwidth:
      return {.size = uint64_t{64} << 10,
              .iterations = 5000,
              .duration{},
              .warmup = 100,
              .qps = 1,
              .depth = 128,
              .inline_bytes = 0};
    case TestName::kRate:
      return {.size = 8,
              .iterations = 0,
              .duration = std::chrono::seconds(5),
              .warmup = 1000,
              .qps = 8,
              .depth = 128,
              .inline_bytes = 64};
    case TestName::kConnect:
      break;
  }
  return {.size = 0,
          .iterations = 0,
          .duration{},
          .warmup = 0,
          .qps = 1,
          .depth = 1,
          .inline_bytes = 0};
}

v1::TestKind KindOf(TestName test) {
  switch (test) {
    case TestName::kLatency:
      return v1::TEST_KIND_LATENCY;
    case TestName::kBandwidth:
    case TestName::kRate:
      return v1::TEST_KIND_BANDWIDTH;
    case TestName::kConnect:
      return v1::TEST_KIND_CONNECT;
  }
  return v1::TEST_KIND_UNSPECIFIED;
}

// Only a request that carries its data out can carry it inline.
bool CanInline(v1::Operation operation) {
  return operation != v1::OPERATION_READ && !IsAtomic(operation);
}

// Each option where it means something.
absl::Status CheckOver(const TestOptions& options) {
  if (options.over == Over::kVerbs) {
    if (options.of_messages.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        options.of_messages.front(), ": only with --over message"));
  }
  if (!options.of_verbs.empty()) {
    const std::string& flag = options.of_verbs.front();
    return absl::InvalidArgumentError(absl::StrCat(
        flag, ": not with --over message: ",
        flag == "--qps"  ? "a session has --streams, and --connections that "
                           "carry them"
        : flag == "--op" ? "messages are sent and received, there is no other "
                           "operation"
                         : "the session sees to that itself"));
  }
  if (!options.under_load && !options.of_load.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.of_load.front(), ": only with --under-load"));
  }
  return absl::OkStatus();
}

absl::Status CheckTogether(const TestOptions& options) {
  if (options.iterations.has_value() && options.duration.has_value()) {
    return absl::InvalidArgumentError(
        "--iterations and --duration: give one of the two");
  }
  const bool eight = std::ranges::all_of(
      options.sizes, [](uint64_t size) { return size == 8; });
  if (IsAtomic(options.operation) && !eight) {
    return absl::InvalidArgumentError(
        absl::StrCat("--size: --op ", OperationName(options.operation),
                     " always has 8 bytes; leave --size out"));
  }
  if (options.inline_bytes.value_or(0) > 0 && !CanInline(options.operation)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--inline: --op ", OperationName(options.operation),
                     " sends no data that could go inline"));
  }
  if (options.provoke == v1::PROVOKE_NO_RECEIVES &&
      options.operation != v1::OPERATION_SEND &&
      options.operation != v1::OPERATION_SEND_WITH_IMM &&
      options.operation != v1::OPERATION_WRITE_WITH_IMM) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--provoke no-receives: --op ", OperationName(options.operation),
        " needs no receives; use send, send-imm or write-imm"));
  }
  if (options.provoke == v1::PROVOKE_WRONG_RKEY &&
      (options.operation == v1::OPERATION_SEND ||
       options.operation == v1::OPERATION_SEND_WITH_IMM)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--provoke wrong-rkey: --op ", OperationName(options.operation),
        " uses no R_Key; use write, write-imm, read, cas or fetch-add"));
  }
  return absl::OkStatus();
}

// The default depth, but so that all messages on their way fit into 64 MiB: a
// sweep up to large sizes shall not hit the server's memory limit by default.
uint32_t DefaultDepth(const TestOptions& options, const v1::TestSpec& spec) {
  constexpr uint64_t kBudget = uint64_t{64} << 20;
  const uint64_t largest =
      std::max<uint64_t>(1, *std::ranges::max_element(spec.sizes()));
  const uint64_t fits = kBudget / spec.qps() / largest;
  const uint64_t depth = DefaultsOf(options.test).depth;
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(fits, std::min<uint64_t>(2, depth), depth));
}

// How many messages, how large, and how they are queued.
absl::Status FillAmounts(const TestOptions& options, v1::TestSpec& spec) {
  const Defaults defaults = DefaultsOf(options.test);
  if (options.sizes.empty()) {
    spec.add_sizes(IsAtomic(options.operation) ? 8 : defaults.size);
  }
  for (const uint64_t size : options.sizes) spec.add_sizes(size);
  if (options.duration.has_value()) {
    spec.set_duration_ns(options.duration->count());
  } else if (options.iterations.has_value()) {
    spec.set_iterations(*options.iterations);
  } else {
    spec.set_iterations(defaults.iterations);
    spec.set_duration_ns(defaults.duration.count());
  }
  spec.set_warmup(options.warmup.value_or(defaults.warmup));
  spec.set_depth(options.depth.value_or(DefaultDepth(options, spec)));
  if (options.over == Over::kMessage) return absl::OkStatus();
  // Each signal has its cost, and a quarter of the window is still under way
  // while a completion is waited for; perftest signals 100 of 128.
  spec.set_signal_every(
      options.signal_every.value_or(std::max(1u, spec.depth() * 3 / 4)));
  if (spec.signal_every() > spec.depth()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--signal-every: ", spec.signal_every(),
        " is more than --depth, which is ", spec.depth(),
        ": the queue would be full before a request is signalled"));
  }
  spec.set_inline_bytes(options.inline_bytes.value_or(
      CanInline(options.operation) ? defaults.inline_bytes : 0));
  return absl::OkStatus();
}

void FillConnection(const TestOptions& options, v1::TestSpec& spec) {
  spec.set_qps(options.qps.value_or(DefaultsOf(options.test).qps));
  spec.set_mtu(options.mtu);
  spec.set_service_level(options.service_level);
  spec.set_type_of_service(options.type_of_service);
  spec.set_retry_count(options.retry_count);
  spec.set_rnr_retry_count(options.rnr_retry_count);
  spec.set_ack_timeout(options.ack_timeout);
}

}  // namespace

v1::SessionOptions SessionOf(const TestOptions& options) {
  const bool latency = options.test == TestName::kLatency;
  v1::SessionOptions session;
  session.set_stream_class(options.stream_class.value_or(
      latency ? v1::STREAM_CLASS_LATENCY : v1::STREAM_CLASS_BULK));
  session.set_connections(options.session_connections);
  session.set_slots(options.slots);
  session.set_eager_limit(options.eager_limit.value_or(kDefaultEagerLimit));
  // A multiple of 64, as slots are.
  session.set_slot_size(std::max(
      kDefaultSlotSize, (session.eager_limit() + kSlotHeader + 63) / 64 * 64));
  session.set_digest(options.digest);
  session.set_ring(options.ring);
  if (!options.under_load) return session;
  v1::Load& load = *session.mutable_load();
  load.set_size(options.load_size);
  load.set_depth(options.load_depth);
  load.set_stream_class(options.load_class);
  return session;
}

absl::StatusOr<Over> ParseOver(absl::string_view text) {
  if (text == "verbs") return Over::kVerbs;
  if (text == "message") return Over::kMessage;
  return absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is not one of verbs, message"));
}

absl::StatusOr<v1::TestSpec> ToSpec(const TestOptions& options) {
  v1::TestSpec spec;
  spec.set_kind(KindOf(options.test));
  ND_RETURN_IF_ERROR(CheckOver(options));
  if (options.over == Over::kMessage) {
    spec.set_qps(options.streams.value_or(DefaultsOf(options.test).qps));
    *spec.mutable_session() = SessionOf(options);
  } else {
    FillConnection(options, spec);
  }
  if (options.test == TestName::kConnect) {
    spec.set_connections(options.connections);
    spec.set_hold(options.hold);
    return spec;
  }
  ND_RETURN_IF_ERROR(CheckTogether(options));
  ND_RETURN_IF_ERROR(FillAmounts(options, spec));
  if (options.over == Over::kVerbs) spec.set_operation(options.operation);
  spec.set_cq_mode(options.cq_mode);
  spec.set_bidirectional(options.bidirectional);
  spec.set_verify(options.verify);
  spec.set_rate_limit(options.rate_limit);
  spec.set_interval_ns(options.interval.count());
  spec.set_provoke(options.provoke);
  return spec;
}

absl::Status NameFlag(const absl::Status& status) {
  constexpr std::pair<absl::string_view, absl::string_view> kFlags[] = {
      {"bidirectional: ", "--bidirectional: "},
      {"connections: ", "--connections: "},
      {"bulk_connections: ", "--connections: "},
      {"eager_limit: ", "--eager-limit: "},
      {"latency_connections: ", "--connections: "},
      {"load.depth: ", "--load-depth: "},
      {"load.size: ", "--load-size: "},
      {"slots: ", "--slots: "},
      {"cq_mode: ", "--cq: "},
      {"depth: ", "--depth: "},
      {"duration_ns: ", "--duration: "},
      {"interval_ns: ", "--interval: "},
      {"iterations: ", "--iterations: "},
      {"memory: ", "--size, --depth and --qps or --streams: "},
      {"mtu: ", "--mtu: "},
      {"operation: ", "--op: "},
      {"provoke: ", "--provoke: "},
      {"qps: ", "--qps: "},
      {"rate_limit: ", "--rate-limit: "},
      {"signal_every: ", "--signal-every: "},
      {"sizes: ", "--size: "}};
  absl::string_view message = status.message();
  for (const auto& [field, flag] : kFlags) {
    if (absl::ConsumePrefix(&message, field)) {
      return absl::Status(status.code(), absl::StrCat(flag, message));
    }
  }
  return status;
}

Figures FiguresMeasured(const TestOptions& options) {
  const bool moves_data =
      options.test == TestName::kBandwidth || options.test == TestName::kRate;
  return {.latency = !moves_data,
          .bandwidth = moves_data || options.under_load,
          .rate = options.test != TestName::kLatency,
          .verified = options.verify};
}

}  // namespace nd::ndping
