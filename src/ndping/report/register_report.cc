#include "ndping/report/register_report.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ndping/text/table.h"
#include "ndping/text/units.h"

namespace nd::ndping {
namespace {

Table RegisterTable() {
  return Table({{"size", 5},
                {"step", 17},
                {"times", 0},
                {"min", 7},
                {"mean", 7},
                {"p50", 7},
                {"p99", 7},
                {"max", 7}});
}

}  // namespace

std::string RegisterHeading() { return RegisterTable().Header(); }

std::string RegisterTextRow(const RegisterRow& row) {
  std::vector<std::string> cells = {FormatSize(row.size),
                                    std::string(ToString(row.step)),
                                    absl::StrCat(row.times.count())};
  const Histogram& times = row.times;
  if (times.count() == 0) {
    cells.insert(cells.end(), 5, "-");
    return RegisterTable().Row(cells);
  }
  cells.push_back(FormatTime(static_cast<double>(times.min())));
  cells.push_back(FormatTime(times.mean()));
  for (const double percentile : {50.0, 99.0}) {
    cells.push_back(
        FormatTime(static_cast<double>(times.ValueAtPercentile(percentile))));
  }
  cells.push_back(FormatTime(static_cast<double>(times.max())));
  return RegisterTable().Row(cells);
}

std::string RegisterNotes(const RegisterResult& result) {
  std::string notes;
  for (const RegisterRow& row : result.rows) {
    if (row.status.ok()) continue;
    absl::StrAppend(&notes, FormatSize(row.size), " ", ToString(row.step), ": ",
                    row.status.message(), "\n");
  }
  if (result.interrupted) absl::StrAppend(&notes, "interrupted\n");
  return notes;
}

std::vector<Measured> MeasuredOf(const RegisterResult& result) {
  std::vector<Measured> phases;
  for (const RegisterRow& row : result.rows) {
    Measured measured;
    measured.phase =
        absl::StrCat("size ", FormatSize(row.size), " ", ToString(row.step));
    measured.latencies = &row.times;
    phases.push_back(std::move(measured));
  }
  return phases;
}

}  // namespace nd::ndping
