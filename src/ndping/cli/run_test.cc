// lat, bw, rate, connect: running a test and printing it as it goes.

#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "ndping/cli/commands.h"
#include "ndping/cli/exit_status.h"
#include "ndping/cli/interrupt.h"
#include "ndping/report/progress.h"
#include "ndping/report/report.h"

namespace nd::ndping {
namespace {

// Prints each phase when it has ended, and keeps it: what was measured before a
// failure is worth having.
class LiveReport : public TestObserver {
 public:
  LiveReport(const TestOptions& options, const v1::TestSpec& spec, const Io& io)
      : options_(options), io_(io), progress_(io.err, io.err_is_terminal) {
    result_.spec = spec;
    result_.server = Endpoint(options.server.host, options.server.port);
  }

  void OnPhaseStart(const v1::TestSpec& spec, uint32_t index) override {
    if (!std::exchange(started_, true)) PrintHeading();
    progress_.OnPhaseStart(spec, index);
  }

  void OnProgress(uint32_t index, uint64_t messages,
                  Duration elapsed) override {
    progress_.OnProgress(index, messages, elapsed);
  }

  void OnPhaseEnd(const PhaseResult& phase) override {
    progress_.Erase();
    result_.phases.push_back(phase);
    const TestName test = options_.test;
    if (options_.output.format == Format::kText) {
      io_.out << TextRow(test, result_.spec, phase) << std::flush;
    } else if (options_.output.format == Format::kCsv) {
      io_.out << CsvRow(test, result_.spec, phase) << std::flush;
    }
  }

  void EraseProgress() { progress_.Erase(); }

  // The phases that ended, whatever came after them.
  const TestResult& result() const { return result_; }

 private:
  void PrintHeading() {
    if (options_.output.format == Format::kText) {
      io_.out << TextHeading(options_.test, result_.spec, result_.server)
              << std::flush;
    } else if (options_.output.format == Format::kCsv) {
      io_.out << CsvHeader() << std::flush;
    }
  }

  const TestOptions& options_;
  const Io& io_;
  ProgressLine progress_;
  TestResult result_;
  bool started_ = false;
};

// Whether Ctrl-C cut the test short.
bool Interrupted(const TestResult& result) {
  for (const PhaseResult& phase : result.phases) {
    if (phase.interrupted) return true;
  }
  return result.phases.size() < static_cast<size_t>(result.spec.sizes_size());
}

absl::StatusOr<TestResult> Measure(const TestOptions& options,
                                   const v1::TestSpec& spec,
                                   const Interrupt& interrupt,
                                   TestObserver& observer) {
  ND_ASSIGN_OR_RETURN(const auto client, HarnessClient::Create(options.server));
  return client->Run(spec, interrupt.Arm(), observer);
}

int RunPhases(const TestOptions& options, const v1::TestSpec& spec,
              const Interrupt& interrupt, const Io& io) {
  LiveReport live(options, spec, io);
  const auto run = Measure(options, spec, interrupt, live);
  live.EraseProgress();
  const TestResult& result = run.ok() ? *run : live.result();
  if (options.output.format == Format::kText) io.out << TextNotes(result);
  io.out << std::flush;
  Outcome outcome{.status = NameFlag(run.status()),
                  .hits = CheckThresholds(options.output.thresholds,
                                          MeasuredOf(options.test, result))};
  const int exit_status =
      Judge(outcome.status, DataIsRight(result),
            interrupt.received() && (!run.ok() || Interrupted(result)),
            outcome.hits, io);
  outcome.passed = exit_status == kExitOk;
  if (options.output.format == Format::kJson) {
    io.out << Dump(ToJson(options.test, result, outcome));
  }
  return exit_status;
}

absl::StatusOr<ConnectResult> MeasureConnections(const TestOptions& options,
                                                 const v1::TestSpec& spec,
                                                 const Interrupt& interrupt,
                                                 TestObserver& observer) {
  ND_ASSIGN_OR_RETURN(const auto client, HarnessClient::Create(options.server));
  return client->RunConnect(spec, interrupt.Arm(), observer);
}

int RunConnections(const TestOptions& options, const v1::TestSpec& spec,
                   const Interrupt& interrupt, const Io& io) {
  ProgressLine progress(io.err, io.err_is_terminal);
  progress.OnPhaseStart(spec, 0);
  const auto run = MeasureConnections(options, spec, interrupt, progress);
  progress.Erase();
  ConnectResult result;
  result.spec = spec;
  result.server = Endpoint(options.server.host, options.server.port);
  if (run.ok()) result = *run;
  Outcome outcome{
      .status = NameFlag(run.status()),
      .hits = CheckThresholds(options.output.thresholds, MeasuredOf(result))};
  if (run.ok() && options.output.format == Format::kText) {
    io.out << TextReport(result) << std::flush;
  } else if (run.ok() && options.output.format == Format::kCsv) {
    io.out << CsvReport(result) << std::flush;
  }
  const int exit_status =
      Judge(outcome.status, true,
            interrupt.received() && (!run.ok() || result.interrupted),
            outcome.hits, io);
  outcome.passed = exit_status == kExitOk;
  if (options.output.format == Format::kJson) {
    io.out << Dump(ToJson(result, outcome));
  }
  return exit_status;
}

}  // namespace

int Run(const TestOptions& command, const Io& io) {
  const auto spec = ToSpec(command);
  if (!spec.ok()) return Fail(spec.status(), io);
  const auto interrupt = Interrupt::Install();
  if (!interrupt.ok()) return Fail(interrupt.status(), io);
  const auto run =
      command.test == TestName::kConnect ? RunConnections : RunPhases;
  return run(command, *spec, **interrupt, io);
}

}  // namespace nd::ndping
