// ping: a line for each answer, and a summary.

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/status.h"
#include "ndping/cli/commands.h"
#include "ndping/cli/exit_status.h"
#include "ndping/cli/interrupt.h"
#include "ndping/report/ping_report.h"
#include "ndping/rping/rping.h"

namespace nd::ndping {
namespace {

// Prints pings as they come back and sums them up.
class PingObserver : public TestObserver, public RpingObserver {
 public:
  PingObserver(const PingCommand& command, const Io& io)
      : print_(command.output.format == Format::kText), io_(io) {
    summary_.protocol = command.protocol == Protocol::kNd ? "nd" : "rping";
    summary_.over = command.over == Over::kMessage ? "message" : "verbs";
    summary_.host = command.host;
    summary_.size = command.size;
    summary_.validated = command.verify;
  }

  // The latency of SEND is half the round trip.
  void OnMessage(uint64_t number, Duration latency) override {
    OnRoundTrip(number, static_cast<uint64_t>(latency.count()) * 2);
  }

  void OnPing(const RpingPing& ping) override {
    OnRoundTrip(ping.sequence, ping.round_trip_ns);
    if (print_ && !ping.text.empty()) {
      io_.out << "  " << ping.text << "\n" << std::flush;
    }
  }

  void OnRoundTrip(uint64_t number, uint64_t round_trip_ns) {
    ++summary_.received;
    summary_.round_trips.Record(round_trip_ns);
    if (!print_) return;
    io_.out << PingLine(summary_.host, summary_.size, number + 1, round_trip_ns)
            << std::flush;
  }

  void OnPhaseEnd(const PhaseResult& phase) override {
    summary_.elapsed_ns = phase.client.elapsed_ns();
    summary_.mismatched +=
        phase.client.mismatched() + phase.server.mismatched();
    summary_.interrupted |= phase.interrupted;
  }

  PingSummary& summary() { return summary_; }

 private:
  const bool print_;
  const Io& io_;
  PingSummary summary_;
};

// A latency test at ping's pace: event mode, because a ping that comes once a
// second is no reason to keep a core busy.
v1::TestSpec PingSpec(const PingCommand& command, const v1::Limits& limits) {
  v1::TestSpec spec;
  spec.set_kind(v1::TEST_KIND_LATENCY);
  spec.add_sizes(command.size);
  spec.set_iterations(command.count);
  if (command.count == 0) spec.set_duration_ns(limits.max_duration_ns());
  spec.set_qps(1);
  spec.set_depth(1);
  spec.set_cq_mode(v1::CQ_MODE_EVENT);
  spec.set_verify(command.verify);
  spec.set_interval_ns(
      static_cast<uint64_t>(std::max(command.interval, Duration(1)).count()));
  if (command.over == Over::kMessage) {
    TestOptions options;
    options.stream_class = command.stream_class;
    *spec.mutable_session() = SessionOf(options);
    return spec;
  }
  spec.set_operation(v1::OPERATION_SEND);
  spec.set_signal_every(1);
  spec.set_retry_count(7);
  spec.set_rnr_retry_count(7);
  return spec;
}

absl::Status PingHarness(const PingCommand& command, const Interrupt& interrupt,
                         PingObserver& observer) {
  ND_ASSIGN_OR_RETURN(
      const auto client,
      HarnessClient::Create({.host = command.host,
                             .port = command.port.value_or(kHarnessPort),
                             .from = command.from}));
  ND_ASSIGN_OR_RETURN(const v1::ServerInfo info, client->GetServerInfo());
  absl::Status status =
      client->Run(PingSpec(command, info.limits()), interrupt.Arm(), observer)
          .status();
  // The connection is reliable: at most the ping on which it broke is lost.
  PingSummary& summary = observer.summary();
  const bool lost = !status.ok() && summary.received > 0;
  summary.transmitted = summary.received + (lost ? 1 : 0);
  return status;
}

absl::Status PingRping(const PingCommand& command, const Interrupt& interrupt,
                       PingObserver& observer) {
  RpingClientOptions options;
  const Deadline deadline = Deadline::After(options.connect_timeout);
  ND_ASSIGN_OR_RETURN(
      const auto servers,
      verbs::ResolveHost(command.host, command.port.value_or(kDefaultRpingPort),
                         deadline, &interrupt.Arm()));
  options.server = servers.front();
  if (!command.from.empty()) {
    ND_ASSIGN_OR_RETURN(options.from,
                        verbs::SocketAddress::Parse(command.from, 0));
  }
  options.count = command.count;
  options.size = static_cast<uint32_t>(command.size);
  options.interval = command.interval;
  options.validate = command.verify;
  options.want_text = command.verbose;
  const RpingResult result = RunRpingClient(options, interrupt.Arm(), observer);
  PingSummary& summary = observer.summary();
  summary.transmitted = result.transmitted;
  summary.received = result.received;
  summary.elapsed_ns = result.elapsed_ns;
  summary.mismatched = result.mismatched;
  summary.round_trips = result.round_trips;
  summary.interrupted = result.interrupted;
  return result.status;
}

// Whether every ping came back, and right.
bool AllCameBack(const PingSummary& summary) {
  return summary.transmitted > 0 && summary.received == summary.transmitted &&
         summary.mismatched == 0;
}

void PrintSummary(const PingSummary& summary, Format format,
                  const Outcome& outcome, const Io& io) {
  switch (format) {
    case Format::kText:
      // A ping that never began has nothing to sum up.
      if (summary.transmitted > 0) io.out << TextReport(summary);
      break;
    case Format::kCsv:
      io.out << CsvReport(summary);
      break;
    case Format::kJson:
      io.out << Dump(ToJson(summary, outcome));
      break;
  }
  io.out << std::flush;
}

}  // namespace

int Run(const PingCommand& command, const Io& io) {
  const auto interrupt = Interrupt::Install();
  if (!interrupt.ok()) return Fail(interrupt.status(), io);
  PingObserver observer(command, io);
  const auto ping = command.protocol == Protocol::kNd ? PingHarness : PingRping;
  Outcome outcome;
  outcome.status = NameFlag(ping(command, **interrupt, observer));
  PingSummary& summary = observer.summary();
  outcome.hits =
      CheckThresholds(command.output.thresholds, MeasuredOf(summary));
  outcome.passed =
      outcome.status.ok() && AllCameBack(summary) && outcome.hits.empty();
  PrintSummary(summary, command.output.format, outcome, io);
  // Ctrl-C is the usual end of pings, unless it came before the first.
  const bool interrupted = (*interrupt)->received() && summary.transmitted == 0;
  return Judge(outcome.status, interrupted || AllCameBack(summary), interrupted,
               outcome.hits, io);
}

}  // namespace nd::ndping
