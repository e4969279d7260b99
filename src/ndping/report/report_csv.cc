#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "ndping/report/ping_report.h"
#include "ndping/report/register_report.h"
#include "ndping/report/report.h"

namespace nd::ndping {
namespace {

constexpr double kPercentiles[] = {50, 90, 99, 99.9, 99.99, 99.999};

constexpr absl::string_view kLatencyColumns =
    "min_ns,mean_ns,stddev_ns,p50_ns,p90_ns,p99_ns,p99_9_ns,p99_99_ns,"
    "p99_999_ns,max_ns";

// Empty fields where nothing was measured: zeros would be figures.
void AppendLatencies(const Histogram& latencies,
                     std::vector<std::string>& fields) {
  if (latencies.count() == 0) {
    fields.insert(fields.end(), 10, "");
    return;
  }
  fields.push_back(absl::StrCat(latencies.min()));
  fields.push_back(absl::StrFormat("%.1f", latencies.mean()));
  fields.push_back(absl::StrFormat("%.1f", latencies.stddev()));
  for (const double percentile : kPercentiles) {
    fields.push_back(absl::StrCat(latencies.ValueAtPercentile(percentile)));
  }
  fields.push_back(absl::StrCat(latencies.max()));
}

std::string Line(const std::vector<std::string>& fields) {
  return absl::StrCat(absl::StrJoin(fields, ","), "\n");
}

}  // namespace

std::string CsvHeader() {
  return absl::StrCat(
      "test,op,size,qps,depth,cq,bidirectional,messages,elapsed_ns,"
      "bytes_per_second,messages_per_second,",
      kLatencyColumns,
      ",client_cpu_percent,server_cpu_percent,verified,mismatched,"
      "interrupted,stream_class,load_bytes_per_second\n");
}

std::string CsvRow(TestName test, const v1::TestSpec& spec,
                   const PhaseResult& phase) {
  const PhaseFigures figures = FiguresOf(spec, phase);
  std::vector<std::string> fields = {std::string(CommandName(test)),
                                     std::string(WhatIsSent(spec)),
                                     absl::StrCat(phase.size),
                                     absl::StrCat(spec.qps()),
                                     absl::StrCat(spec.depth()),
                                     std::string(CqModeName(spec.cq_mode())),
                                     absl::StrCat(spec.bidirectional() ? 1 : 0),
                                     absl::StrCat(figures.messages),
                                     absl::StrCat(phase.client.elapsed_ns()),
                                     absl::StrFormat("%.0f", figures.bandwidth),
                                     absl::StrFormat("%.1f", figures.rate)};
  AppendLatencies(phase.latencies, fields);
  fields.push_back(absl::StrFormat("%.1f", figures.client_cpu));
  fields.push_back(absl::StrFormat("%.1f", figures.server_cpu));
  fields.push_back(
      absl::StrCat(phase.client.verified() + phase.server.verified()));
  fields.push_back(
      absl::StrCat(phase.client.mismatched() + phase.server.mismatched()));
  fields.push_back(absl::StrCat(phase.interrupted ? 1 : 0));
  fields.push_back(spec.has_session() ? std::string(StreamClassName(
                                            spec.session().stream_class()))
                                      : "");
  fields.push_back(
      figures.load.has_value() ? absl::StrFormat("%.0f", *figures.load) : "");
  return Line(fields);
}

std::string CsvReport(const ConnectResult& result) {
  std::vector<std::string> fields = {
      "connect", absl::StrCat(result.spec.hold() ? 1 : 0),
      absl::StrCat(result.connections), absl::StrCat(result.elapsed_ns)};
  AppendLatencies(result.latencies, fields);
  fields.push_back(absl::StrCat(result.interrupted ? 1 : 0));
  return absl::StrCat("test,hold,connections,elapsed_ns,", kLatencyColumns,
                      ",interrupted\n", Line(fields));
}

std::string CsvReport(const PingSummary& summary) {
  std::vector<std::string> fields = {"ping",
                                     summary.protocol,
                                     absl::StrCat(summary.size),
                                     absl::StrCat(summary.transmitted),
                                     absl::StrCat(summary.received),
                                     absl::StrCat(summary.elapsed_ns)};
  AppendLatencies(summary.round_trips, fields);
  fields.push_back(absl::StrCat(summary.mismatched));
  fields.push_back(absl::StrCat(summary.interrupted ? 1 : 0));
  return absl::StrCat("test,protocol,size,transmitted,received,elapsed_ns,",
                      kLatencyColumns, ",mismatched,interrupted\n",
                      Line(fields));
}

std::string RegisterCsvHeader() {
  return absl::StrCat("test,size,step,times,", kLatencyColumns, ",status\n");
}

std::string RegisterCsvRow(const RegisterRow& row) {
  std::vector<std::string> fields = {"register", absl::StrCat(row.size),
                                     std::string(ToString(row.step)),
                                     absl::StrCat(row.times.count())};
  AppendLatencies(row.times, fields);
  fields.push_back(absl::StatusCodeToString(row.status.code()));
  return Line(fields);
}

}  // namespace nd::ndping
