#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ndping/report/ping_report.h"
#include "ndping/report/register_report.h"
#include "ndping/report/report.h"
#include "ndping/text/version.h"

namespace nd::ndping {
namespace {

// A string for Json, which would take absl's string_view for an array of
// characters.
std::string Text(absl::string_view text) { return std::string(text); }

// Objects have a line for each field; arrays of numbers, and histograms with
// their thousands of buckets, stay on one line.
std::string Pretty(const Json& json, size_t indent) {
  const bool nested = json.is_object() || (json.is_array() && !json.empty() &&
                                           json.front().is_object());
  if (!nested || json.empty()) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  const std::string margin(indent + 2, ' ');
  std::string text;
  for (const auto& item : json.items()) {
    absl::StrAppend(&text, text.empty() ? "\n" : ",\n", margin,
                    json.is_object() ? Json(item.key()).dump() + ": " : "",
                    Pretty(item.value(), indent + 2));
  }
  const absl::string_view ends = json.is_object() ? "{}" : "[]";
  return absl::StrCat(ends.substr(0, 1), text, "\n", std::string(indent, ' '),
                      ends.substr(1));
}

// Of a test over a session; what only verbs have is not there.
Json SessionOptionsOf(const v1::TestSpec& spec) {
  const v1::SessionOptions& session = spec.session();
  Json json = {{"over", "message"},
               {"sizes", std::vector<uint64_t>(spec.sizes().begin(),
                                               spec.sizes().end())},
               {"iterations", spec.iterations()},
               {"duration_ns", spec.duration_ns()},
               {"warmup", spec.warmup()},
               {"streams", spec.qps()},
               {"stream_class", Text(StreamClassName(session.stream_class()))},
               {"depth", spec.depth()},
               {"cq", Text(CqModeName(spec.cq_mode()))},
               {"bidirectional", spec.bidirectional()},
               {"verify", spec.verify()},
               {"rate_limit_bytes_per_second", spec.rate_limit()},
               {"interval_ns", spec.interval_ns()},
               {"connections", session.connections()},
               {"slots", session.slots()},
               {"slot_size", session.slot_size()},
               {"eager_limit", session.eager_limit()},
               {"ring", session.ring()},
               {"digest", session.digest()},
               {"load", nullptr}};
  if (session.has_load()) {
    json["load"] = {
        {"size", session.load().size()},
        {"depth", session.load().depth()},
        {"stream_class", Text(StreamClassName(session.load().stream_class()))}};
  }
  return json;
}

Json OptionsOf(const v1::TestSpec& spec) {
  if (spec.has_session()) return SessionOptionsOf(spec);
  return {{"over", "verbs"},
          {"op", Text(OperationName(spec.operation()))},
          {"sizes",
           std::vector<uint64_t>(spec.sizes().begin(), spec.sizes().end())},
          {"iterations", spec.iterations()},
          {"duration_ns", spec.duration_ns()},
          {"warmup", spec.warmup()},
          {"qps", spec.qps()},
          {"depth", spec.depth()},
          {"signal_every", spec.signal_every()},
          {"inline_bytes", spec.inline_bytes()},
          {"cq", Text(CqModeName(spec.cq_mode()))},
          {"bidirectional", spec.bidirectional()},
          {"verify", spec.verify()},
          {"mtu", spec.mtu()},
          {"service_level", spec.service_level()},
          {"type_of_service", spec.type_of_service()},
          {"rate_limit_bytes_per_second", spec.rate_limit()},
          {"interval_ns", spec.interval_ns()},
          {"retry_count", spec.retry_count()},
          {"rnr_retry_count", spec.rnr_retry_count()},
          {"ack_timeout", spec.ack_timeout()},
          {"provoke", Text(ProvokeName(spec.provoke()))}};
}

Json SideOf(const v1::PhaseReport& report, double cpu_percent) {
  return {{"messages", report.messages()},
          {"bytes", report.bytes()},
          {"elapsed_ns", report.elapsed_ns()},
          {"cpu_ns", report.cpu_ns()},
          {"cpu_percent", cpu_percent},
          {"received", report.received()},
          {"verified", report.verified()},
          {"mismatched", report.mismatched()},
          {"first_mismatch", report.first_mismatch()}};
}

Json PhaseOf(TestName test, const v1::TestSpec& spec,
             const PhaseResult& phase) {
  const PhaseFigures figures = FiguresOf(spec, phase);
  Json json = {{"size", phase.size},
               {"interrupted", phase.interrupted},
               {"messages", figures.messages}};
  if (test == TestName::kLatency) {
    json["latency"] = ToJson(phase.latencies);
  } else {
    json["bytes_per_second"] = figures.bandwidth;
    json["messages_per_second"] = figures.rate;
  }
  if (figures.load.has_value()) {
    json["load"] = {{"messages", phase.client.load().messages()},
                    {"bytes", phase.client.load().bytes()},
                    {"elapsed_ns", phase.client.load().elapsed_ns()},
                    {"bytes_per_second", *figures.load}};
  }
  if (figures.verified.has_value()) {
    json["verified_percent"] = *figures.verified;
  }
  json["client"] = SideOf(phase.client, figures.client_cpu);
  json["server"] = SideOf(phase.server, figures.server_cpu);
  return json;
}

// What every document begins with.
Json Begin(absl::string_view test) {
  return {{"schema", kJsonSchema},
          {"ndping_version", kVersion},
          {"test", Text(test)}};
}

Json Begin(absl::string_view test, absl::string_view server,
           absl::string_view server_version) {
  Json json = Begin(test);
  json["server"] = {{"address", Text(server)}};
  if (!server_version.empty()) json["server"]["version"] = Text(server_version);
  return json;
}

Json ErrorOf(const absl::Status& status) {
  if (status.ok()) return nullptr;
  return {{"code", absl::StatusCodeToString(status.code())},
          {"message", Text(status.message())}};
}

// And what it ends with.
void AddOutcome(const Outcome& outcome, Json& json) {
  json["threshold_hits"] = Json::array();
  for (const ThresholdHit& hit : outcome.hits) {
    json["threshold_hits"].push_back({{"condition", hit.condition},
                                      {"phase", hit.phase},
                                      {"value", hit.value}});
  }
  json["error"] = ErrorOf(outcome.status);
  json["passed"] = outcome.passed;
}

}  // namespace

std::string Dump(const Json& json) { return Pretty(json, 0) + "\n"; }

Json ToJson(const Histogram& latencies) {
  Json json = {{"count", latencies.count()}};
  if (latencies.count() == 0) return json;
  json["min_ns"] = latencies.min();
  json["mean_ns"] = latencies.mean();
  json["stddev_ns"] = latencies.stddev();
  constexpr std::pair<const char*, double> kPercentiles[] = {
      {"p50_ns", 50},     {"p90_ns", 90},       {"p99_ns", 99},
      {"p99_9_ns", 99.9}, {"p99_99_ns", 99.99}, {"p99_999_ns", 99.999}};
  for (const auto& [name, percentile] : kPercentiles) {
    json[name] = latencies.ValueAtPercentile(percentile);
  }
  json["max_ns"] = latencies.max();
  json["saturated"] = latencies.saturated();
  json["buckets"] = Json::array();
  for (const Histogram::Bucket& bucket : latencies.Buckets()) {
    json["buckets"].push_back({bucket.low, bucket.high, bucket.count});
  }
  return json;
}

Json ToJson(TestName test, const TestResult& result, const Outcome& outcome) {
  Json json = Begin(CommandName(test), result.server, result.server_version);
  json["options"] = OptionsOf(result.spec);
  json["phases"] = Json::array();
  bool interrupted = false;
  for (const PhaseResult& phase : result.phases) {
    json["phases"].push_back(PhaseOf(test, result.spec, phase));
    interrupted |= phase.interrupted;
  }
  json["interrupted"] = interrupted;
  AddOutcome(outcome, json);
  return json;
}

Json ToJson(const ConnectResult& result, const Outcome& outcome) {
  Json json = Begin("connect", result.server, "");
  json["options"] = {{"connections", result.spec.connections()},
                     {"hold", result.spec.hold()}};
  json["connections"] = result.connections;
  json["elapsed_ns"] = result.elapsed_ns;
  json["latency"] = ToJson(result.latencies);
  json["interrupted"] = result.interrupted;
  AddOutcome(outcome, json);
  return json;
}

Json ToJson(const PingSummary& summary, const Outcome& outcome) {
  Json json = Begin("ping", summary.host, "");
  json["options"] = {{"protocol", summary.protocol},
                     {"over", summary.over},
                     {"size", summary.size},
                     {"verify", summary.validated}};
  json["transmitted"] = summary.transmitted;
  json["received"] = summary.received;
  json["loss_percent"] = summary.loss_percent();
  json["mismatched"] = summary.mismatched;
  json["elapsed_ns"] = summary.elapsed_ns;
  json["latency"] = ToJson(summary.round_trips);
  json["interrupted"] = summary.interrupted;
  AddOutcome(outcome, json);
  return json;
}

Json ToJson(const RegisterResult& result, const RegisterOptions& options,
            const Outcome& outcome) {
  Json json = Begin("register");
  json["device"] = result.device;
  json["options"] = {{"sizes", options.sizes},
                     {"iterations", options.iterations}};
  json["steps"] = Json::array();
  for (const RegisterRow& row : result.rows) {
    json["steps"].push_back({{"size", row.size},
                             {"step", Text(ToString(row.step))},
                             {"error", ErrorOf(row.status)},
                             {"latency", ToJson(row.times)}});
  }
  json["interrupted"] = result.interrupted;
  AddOutcome(outcome, json);
  return json;
}

}  // namespace nd::ndping
