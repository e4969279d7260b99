#include "ndping/report/report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "ndping/text/table.h"
#include "ndping/text/units.h"

namespace nd::ndping {
namespace {

constexpr double kNanosPerSecond = 1e9;

double PerSecond(uint64_t amount, uint64_t elapsed_ns) {
  if (elapsed_ns == 0) return 0;
  return static_cast<double>(amount) * kNanosPerSecond /
         static_cast<double>(elapsed_ns);
}

double CpuPercent(const v1::PhaseReport& report) {
  return PerSecond(report.cpu_ns(), report.elapsed_ns()) / kNanosPerSecond *
         100;
}

// How many messages someone has to check: in a ping-pong the answers as well.
uint64_t MessagesToCheck(const v1::TestSpec& spec, const PhaseResult& phase) {
  const bool ping_pong = spec.kind() == v1::TEST_KIND_LATENCY &&
                         spec.operation() != v1::OPERATION_READ &&
                         !IsAtomic(spec.operation());
  return ping_pong ? 2 * phase.client.messages()
                   : phase.client.messages() + phase.server.messages();
}

uint64_t MessagesChecked(const PhaseResult& phase) {
  return phase.client.verified() + phase.server.verified();
}

// The share of messages that were checked and right. Warm-up messages are
// checked too, so more may have been checked than were measured.
double VerifiedPercent(const v1::TestSpec& spec, const PhaseResult& phase) {
  const uint64_t checked = MessagesChecked(phase);
  const uint64_t wrong = phase.client.mismatched() + phase.server.mismatched();
  const uint64_t all = std::max(checked, MessagesToCheck(spec, phase));
  if (all == 0) return 0;
  return 100.0 * static_cast<double>(checked - std::min(wrong, checked)) /
         static_cast<double>(all);
}

std::string Plural(uint64_t count, absl::string_view noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

Table LatencyTable(bool verify, bool load) {
  // "12.3 us" and its like have seven characters.
  std::vector<Table::Column> columns = {
      {"size", 5}, {"messages", 0}, {"min", 7},   {"mean", 7},   {"p50", 7},
      {"p90", 7},  {"p99", 7},      {"p99.9", 7}, {"p99.99", 7}, {"max", 7}};
  if (load) columns.push_back({"load GB/s", 0});
  if (verify) columns.push_back({"verified", 0});
  return Table(columns);
}

Table BandwidthTable(bool verify) {
  std::vector<Table::Column> columns = {{"size", 5},       {"messages", 9},
                                        {"GB/s", 8},       {"messages/s", 0},
                                        {"client CPU", 0}, {"server CPU", 0}};
  if (verify) columns.push_back({"verified", 0});
  return Table(columns);
}

Table RateTable(bool verify) {
  std::vector<Table::Column> columns = {{"size", 5},       {"messages", 9},
                                        {"messages/s", 0}, {"GB/s", 8},
                                        {"client CPU", 0}, {"server CPU", 0}};
  if (verify) columns.push_back({"verified", 0});
  return Table(columns);
}

Table TableOf(TestName test, const v1::TestSpec& spec) {
  const bool verify = spec.verify();
  if (test == TestName::kLatency) {
    return LatencyTable(verify, spec.session().has_load());
  }
  if (test == TestName::kRate) return RateTable(verify);
  return BandwidthTable(verify);
}

// The cells from "min" to "max".
void AppendLatencies(const Histogram& latencies,
                     std::vector<std::string>& cells) {
  if (latencies.count() == 0) {
    cells.insert(cells.end(), 8, "-");
    return;
  }
  cells.push_back(FormatTime(static_cast<double>(latencies.min())));
  cells.push_back(FormatTime(latencies.mean()));
  for (const double percentile : {50.0, 90.0, 99.0, 99.9, 99.99}) {
    cells.push_back(FormatTime(
        static_cast<double>(latencies.ValueAtPercentile(percentile))));
  }
  cells.push_back(FormatTime(static_cast<double>(latencies.max())));
}

std::string MismatchNote(absl::string_view side,
                         const v1::PhaseReport& report) {
  if (report.mismatched() == 0) return "";
  // What is wrong may be no message: the sum of many atomics.
  const std::string of =
      report.verified() == 0
          ? ""
          : absl::StrCat(" in ", report.mismatched(), " of ",
                         Plural(report.verified(), "message"));
  return absl::StrCat("the ", side, " got wrong data", of,
                      "; the first: ", report.first_mismatch(), "\n");
}

// How much was checked when it is less than all.
std::string UncheckedNote(const v1::TestSpec& spec, const PhaseResult& phase) {
  const uint64_t checked = MessagesChecked(phase);
  const uint64_t all = MessagesToCheck(spec, phase);
  if (!spec.verify() || checked >= all) return "";
  return absl::StrCat("only ", checked, " of ", Plural(all, "message"),
                      " could be verified\n");
}

std::string PhaseNotes(const v1::TestSpec& spec, const PhaseResult& phase) {
  const std::string where = absl::StrCat("size ", FormatSize(phase.size), ": ");
  std::string notes;
  if (phase.interrupted) {
    absl::StrAppend(&notes, where, "interrupted; the figures are of the ",
                    Plural(phase.client.messages(), "message"),
                    " until then\n");
  }
  for (const std::string& note :
       {MismatchNote("client", phase.client),
        MismatchNote("server", phase.server), UncheckedNote(spec, phase)}) {
    if (!note.empty()) absl::StrAppend(&notes, where, note);
  }
  return notes;
}

// "1 QP, depth 128, cq busy", and what else is out of the ordinary.
std::string DescribeSpec(TestName test, const v1::TestSpec& spec) {
  std::string text = QueuesOf(spec);
  if (test != TestName::kLatency) {
    absl::StrAppend(&text, ", depth ", spec.depth());
  }
  absl::StrAppend(&text, ", cq ", CqModeName(spec.cq_mode()));
  if (spec.bidirectional()) absl::StrAppend(&text, ", both directions added");
  if (spec.rate_limit() > 0) {
    absl::StrAppend(&text, ", at most ",
                    FormatBandwidth(static_cast<double>(spec.rate_limit())));
  }
  if (spec.session().ring()) absl::StrAppend(&text, ", ring");
  if (spec.session().digest()) absl::StrAppend(&text, ", digests");
  if (spec.session().has_load()) {
    const v1::Load& load = spec.session().load();
    absl::StrAppend(&text, ", under a load of ",
                    StreamClassName(load.stream_class()), " messages of ",
                    FormatSize(load.size()), ", depth ", load.depth());
  }
  if (spec.provoke() != v1::PROVOKE_NOTHING) {
    absl::StrAppend(&text, ", provoking ", ProvokeName(spec.provoke()));
  }
  return text;
}

absl::string_view Subject(TestName test, v1::Operation operation) {
  if (test == TestName::kBandwidth) return "bandwidth";
  if (test == TestName::kRate) return "message rate";
  return operation == v1::OPERATION_READ || IsAtomic(operation)
             ? "latency (round trip)"
             : "latency (half the round trip)";
}

}  // namespace

PhaseFigures FiguresOf(const v1::TestSpec& spec, const PhaseResult& phase) {
  const auto& [client, server] = std::tie(phase.client, phase.server);
  PhaseFigures figures;
  figures.messages = client.messages();
  figures.bandwidth = PerSecond(client.bytes(), client.elapsed_ns());
  figures.rate = PerSecond(client.messages(), client.elapsed_ns());
  if (spec.bidirectional()) {
    figures.messages += server.messages();
    figures.bandwidth += PerSecond(server.bytes(), server.elapsed_ns());
    figures.rate += PerSecond(server.messages(), server.elapsed_ns());
  }
  figures.client_cpu = CpuPercent(client);
  figures.server_cpu = CpuPercent(server);
  if (spec.verify()) figures.verified = VerifiedPercent(spec, phase);
  if (client.has_load()) {
    figures.load = PerSecond(client.load().bytes(), client.load().elapsed_ns());
  }
  return figures;
}

std::vector<Measured> MeasuredOf(TestName test, const TestResult& result) {
  std::vector<Measured> phases;
  for (const PhaseResult& phase : result.phases) {
    // A phase that was stopped before anything came has no figures.
    if (phase.client.messages() == 0) continue;
    const PhaseFigures figures = FiguresOf(result.spec, phase);
    Measured measured;
    measured.phase = absl::StrCat("size ", FormatSize(phase.size));
    measured.latencies = &phase.latencies;
    if (test != TestName::kLatency) {
      measured.bandwidth = figures.bandwidth;
      measured.rate = figures.rate;
    }
    if (figures.load.has_value()) measured.bandwidth = figures.load;
    measured.verified = figures.verified;
    phases.push_back(std::move(measured));
  }
  return phases;
}

std::vector<Measured> MeasuredOf(const ConnectResult& result) {
  if (result.connections == 0) return {};
  Measured measured;
  measured.phase = Plural(result.connections, "connection");
  measured.latencies = &result.latencies;
  measured.rate = PerSecond(result.connections, result.elapsed_ns);
  return {measured};
}

bool DataIsRight(const TestResult& result) {
  return std::ranges::all_of(result.phases, [&](const PhaseResult& phase) {
    return phase.client.mismatched() == 0 && phase.server.mismatched() == 0 &&
           UncheckedNote(result.spec, phase).empty();
  });
}

std::string TextHeading(TestName test, const v1::TestSpec& spec,
                        absl::string_view server) {
  // The rate of messages is a message rate.
  const std::string what = test == TestName::kRate && spec.has_session()
                               ? ""
                               : absl::StrCat(WhatIsSent(spec), " ");
  return absl::StrCat(what, Subject(test, spec.operation()), " to ", server,
                      ": ", DescribeSpec(test, spec), "\n",
                      TableOf(test, spec).Header());
}

std::string TextRow(TestName test, const v1::TestSpec& spec,
                    const PhaseResult& phase) {
  const PhaseFigures figures = FiguresOf(spec, phase);
  std::vector<std::string> cells = {FormatSize(phase.size),
                                    absl::StrCat(figures.messages)};
  if (test == TestName::kLatency) {
    AppendLatencies(phase.latencies, cells);
    if (spec.session().has_load()) {
      cells.push_back(FormatGigabytes(figures.load.value_or(0)));
    }
  } else {
    const std::string bandwidth = FormatGigabytes(figures.bandwidth);
    const std::string rate = FormatCount(figures.rate);
    cells.push_back(test == TestName::kRate ? rate : bandwidth);
    cells.push_back(test == TestName::kRate ? bandwidth : rate);
    cells.push_back(FormatPercent(figures.client_cpu));
    cells.push_back(FormatPercent(figures.server_cpu));
  }
  if (figures.verified.has_value()) {
    cells.push_back(FormatPercent(*figures.verified));
  }
  return TableOf(test, spec).Row(cells);
}

std::string TextNotes(const TestResult& result) {
  std::string notes;
  for (const PhaseResult& phase : result.phases) {
    absl::StrAppend(&notes, PhaseNotes(result.spec, phase));
  }
  return notes;
}

std::string TextReport(TestName test, const TestResult& result) {
  std::string report = TextHeading(test, result.spec, result.server);
  for (const PhaseResult& phase : result.phases) {
    absl::StrAppend(&report, TextRow(test, result.spec, phase));
  }
  return absl::StrCat(report, TextNotes(result));
}

std::string TextReport(const ConnectResult& result) {
  const Table table({{"connections", 0},
                     {"time", 7},
                     {"per second", 0},
                     {"min", 7},
                     {"mean", 7},
                     {"p50", 7},
                     {"p90", 7},
                     {"p99", 7},
                     {"max", 7}});
  std::vector<std::string> latencies;
  AppendLatencies(result.latencies, latencies);
  // Hundreds of connections have no 99.9th percentile worth the name.
  latencies.erase(latencies.end() - 3, latencies.end() - 1);
  std::vector<std::string> cells = {
      absl::StrCat(result.connections),
      FormatTime(static_cast<double>(result.elapsed_ns)),
      FormatCount(PerSecond(result.connections, result.elapsed_ns))};
  cells.insert(cells.end(), latencies.begin(), latencies.end());
  std::string report = absl::StrCat(
      "connections to ", result.server, ": ",
      result.spec.hold() ? "all held open at once" : "one after another", "\n",
      table.Header(), table.Row(cells));
  if (result.interrupted) {
    absl::StrAppend(&report, "interrupted after ", result.connections, " of ",
                    Plural(result.spec.connections(), "connection"), "\n");
  }
  return report;
}

}  // namespace nd::ndping
