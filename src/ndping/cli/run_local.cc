// What needs no server: register, krping, devices and doctor.

#include "ndping/cli/commands.h"
#include "ndping/cli/exit_status.h"
#include "ndping/cli/interrupt.h"
#include "ndping/local/devices.h"
#include "ndping/local/doctor.h"
#include "ndping/local/registration.h"
#include "ndping/report/register_report.h"
#include "ndping/report/report.h"
#include "ndping/rping/krping.h"

namespace nd::ndping {
namespace {

// Prints rows as they come and keeps them.
class RegisterPrinter : public RegisterObserver {
 public:
  RegisterPrinter(Format format, const Io& io) : format_(format), io_(io) {}

  void OnRow(const RegisterRow& row) override {
    if (result_.rows.empty()) PrintHeading();
    result_.rows.push_back(row);
    if (format_ == Format::kText) io_.out << RegisterTextRow(row) << std::flush;
    if (format_ == Format::kCsv) io_.out << RegisterCsvRow(row) << std::flush;
  }

  const RegisterResult& result() const { return result_; }

 private:
  void PrintHeading() {
    if (format_ == Format::kText) io_.out << RegisterHeading();
    if (format_ == Format::kCsv) io_.out << RegisterCsvHeader();
  }

  const Format format_;
  const Io& io_;
  RegisterResult result_;
};

}  // namespace

int Run(const RegisterCommand& command, const Io& io) {
  const auto interrupt = Interrupt::Install();
  if (!interrupt.ok()) return Fail(interrupt.status(), io);
  RegisterPrinter printer(command.output.format, io);
  const auto run = RunRegisterTest(command.test, (*interrupt)->Arm(), printer);
  const RegisterResult& result = run.ok() ? *run : printer.result();
  Outcome outcome{
      .status = run.status(),
      .hits = CheckThresholds(command.output.thresholds, MeasuredOf(result))};
  if (command.output.format == Format::kText) io.out << RegisterNotes(result);
  io.out << std::flush;
  const int exit_status =
      Judge(outcome.status, true, (*interrupt)->received(), outcome.hits, io);
  outcome.passed = exit_status == kExitOk;
  if (command.output.format == Format::kJson) {
    io.out << Dump(ToJson(result, command.test, outcome));
  }
  return exit_status;
}

int Run(const KrpingCommand& command, const Io& io) {
  const auto options = ParseKrpingOptions(command.options);
  if (!options.ok()) return Fail(options.status(), io);
  const auto interrupt = Interrupt::Install();
  if (!interrupt.ok()) return Fail(interrupt.status(), io);
  const absl::Status status = RunKrping(*options, (*interrupt)->Arm(), io.out);
  io.out << std::flush;
  return status.ok() ? kExitOk : Fail(status, io);
}

int Run(const DevicesCommand& command, const Io& io) {
  const auto devices = GatherDevices();
  if (!devices.ok()) return Fail(devices.status(), io);
  if (command.json) {
    io.out << Dump({{"schema", kJsonSchema}, {"devices", ToJson(*devices)}});
  } else {
    io.out << FormatDevices(*devices, command.verbose);
  }
  return kExitOk;
}

int Run(const DoctorCommand& command, const Io& io) {
  const auto interrupt = Interrupt::Install();
  if (!interrupt.ok()) return Fail(interrupt.status(), io);
  const std::vector<Check> checks =
      Diagnose(GatherFacts(command.doctor, &(*interrupt)->Arm()));
  if (command.json) {
    io.out << Dump({{"schema", kJsonSchema}, {"checks", ToJson(checks)}});
  } else {
    io.out << FormatChecks(checks);
  }
  return AnyFailed(checks) ? kExitFailed : kExitOk;
}

}  // namespace nd::ndping
